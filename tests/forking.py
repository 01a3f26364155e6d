"""Starts of headway without its imports: a client of tests/fork_server.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Server:
    """The fork server: starts without imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, **asked: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, cwd: Path, *words: str | Path, cache: Path | None = None, code: str | None = None) -> int:
        """Begin `headway words`, or the Python `code`, in `cwd`; what is said goes to cwd/said. Returns its pid."""
        env = {"HEADWAY_CACHE_DIR": str(cache or cwd / "cache"), "HF_HUB_OFFLINE": "1"}
        asked = {"words": [str(word) for word in words], "code": code, "cwd": str(cwd), "env": env}
        return int(self._ask(**asked, out=str(cwd / "said"))["pid"])

    def wait(self, pid: int) -> int:
        return int(self._ask(wait=pid)["status"])

    def run(self, cwd: Path, *words: str | Path) -> None:
        status = self.wait(self.start(cwd, *words))
        assert status == 0, (cwd / "said").read_text()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(timeout=60)
