"""A run that was tracked while it worked, copies of it, and a real MLflow server on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import make, toy

SECONDS = 120  # for the start of a server on a machine that is busy with other things
TUNE = ("--strategy", "finetune", "--epochs", "3", "--batch", "16")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.class_folders(
        tmp_path_factory.mktemp("tracked") / "photos", {"circle": 24, "square": 24}, size=(48, 40)
    )


@pytest.fixture(scope="session")
def tuned(photos: Path) -> Path:
    """A finished run by epochs that told TensorBoard. Not to be written to."""
    toy.fit(photos, *TUNE, "--track", "tensorboard", "--run", "tuned", cwd=photos.parent)
    return photos.parent / "tuned"


@pytest.fixture
def finished(tuned: Path, tmp_path: Path) -> Path:
    """A copy of that run which nobody was told of."""
    copy = Path(shutil.copytree(tuned, tmp_path / "runs" / "copy"))
    shutil.rmtree(copy / "tensorboard")
    return copy


@contextmanager
def serving(words: Sequence[str], log: Path, alive: str) -> Iterator[str]:
    """`python -m mlflow WORDS --port PORT` until the address `alive` answers; its own address, while it runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", *words, "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts uvicorn by name
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**plain, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,  # its workers go with it
            cwd=log.parent,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + SECONDS
        while not _answers(address + alive):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=SECONDS)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `mlflow server` with a SQLite file of its own, which takes artefacts over HTTP."""
    folder = tmp_path_factory.mktemp("server")
    words = (
        *("server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    )
    with serving(words, folder / "log", "/health") as address:
        yield address


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a tracker of their own: it gets nothing."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
