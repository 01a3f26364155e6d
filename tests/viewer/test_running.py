"""`headway view` as a process of its own: it refuses in a line, listens, and ends in good order."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headway.errors import Refused
from headway.viewer.running import check_installed
from tests.toy import headway


@contextmanager
def viewing(runs: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`headway view` on a free port: the process, and the address that it told."""
    command = [sys.executable, "-m", "headway", "view", str(runs), "--port", "0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        told = re.fullmatch(r"view     (http://127\.0\.0\.1:\d+/)   \((.+); Ctrl-C stops\)\n", line)
        assert told is not None, line or process.communicate()
        yield process, told[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_view__listens_and_ends_with_a_signal(shelf: Path, number: int) -> None:
    with viewing(shelf) as (process, address):
        with urllib.request.urlopen(address, timeout=20) as answer:
            page = answer.read().decode()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)

    assert "7 runs" in page
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_view__imports_nothing_that_trains_or_serves_a_bundle(shelf: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headway.serving.limits import Limits\n"
        "from headway.viewer.app import View; view = View(Path(sys.argv[1]), 'runs')\n"
        "print(view.answer('/', b'')[1].status, view.answer('/compare', b'run=probe&run=scratch')[1].status)\n"
        "print({'torch', 'timm', 'onnxruntime', 'pydantic', 'pyarrow', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, shelf], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("200 200\nset()\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("away",), "away does not exist. Expected a folder of runs, as headway fit makes them in runs/"),
        (("file",), "file is a file. Expected a folder of runs, as headway fit makes them in runs/"),
        (
            ("runs", "--host", "0.0.0.0"),
            "--host 0.0.0.0 can be reached from other machines, so a token is needed: set HEADWAY_TOKEN (or --token), "
            "16 characters or more.",
        ),
        (("runs", "--port", "x"), "--port x: expected a whole number of 0 or more"),
        (
            ("runs", "--token", "short"),
            "--token: expected 16 or more plain letters, digits and signs.",
        ),
    ],
)
def test_view__refuses_in_a_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("")

    done = headway("view", *words, cwd=tmp_path, check=2)

    assert (done.stdout, done.stderr) == ("", f"headway: {said}\n")
    assert list((tmp_path / "runs").iterdir()) == []


def test_view__names_the_packages_that_are_missing() -> None:
    with pytest.raises(Refused) as caught:
        check_installed({"xyzzy_one": "xyzzy-one", "json": "json", "xyzzy_two": "xyzzy-two"})

    assert str(caught.value) == (
        "headway view needs xyzzy-one, xyzzy-two, not installed here. Try: pip install 'headway[train,serve]'"
    )
