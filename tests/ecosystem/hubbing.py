"""Run commands with the real client of the hub, whose settings are read once, at import: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hub_server import TOKEN

_SCRIPT = """
import contextlib, io, json, os, sys
import typer
from headway.cli import app
from headway.terminal import outcome
answers = []
for words, changes in json.load(sys.stdin):
    before = dict(os.environ)
    os.environ.update(changes)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = outcome.run(typer.main.get_command(app), words)
    answers.append([code, out.getvalue(), err.getvalue()])
    os.environ.clear()
    os.environ.update(before)
json.dump(answers, sys.stdout)
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        return json.loads(self.out)


def environment(url: str, home: Path, **changes: str) -> dict[str, str]:
    """Where the hub is, and a home of its own for its client; xet, which has a protocol of its own, is off."""
    kept = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    return {**os.environ, **kept, "HF_HUB_DISABLE_XET": "1", **changes}


def ask(*asked: tuple[str, dict[str, str]], url: str, home: Path, **changes: str) -> list[Answer]:
    """Commands one after another in one process, each with changes of the environment, in the folder `home`."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps([(line.split(), extra) for line, extra in asked]),
        cwd=home,
        env=environment(url, home, **changes),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]
