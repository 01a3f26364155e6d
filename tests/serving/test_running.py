"""`headway serve` as a process: its one line, its end, its workers, what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from headway.cli import app
from headway.serving import running
from headway.serving.asgi import Receive, Scope, Send
from headway.serving.limits import Limits
from headway.serving.listening import open_port, serve
from headway.terminal.outcome import run
from tests import make
from tests.serving.client import answer

IMAGE = make.jpeg(0, 1)


@contextmanager
def started(*words: object) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """`headway serve ... --port 0`, once it is ready, and its address."""
    command = [sys.executable, "-m", "headway", "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving  http://127\.0\.0\.1:([0-9]+)/   \(b, 3 classes; Ctrl-C stops\)\n", line)
        assert found is not None, line
        yield process, ("127.0.0.1", int(found[1]))
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def got(address: tuple[str, int], path: str, body: bytes | None = None) -> str:
    request = urllib.request.Request(f"http://{address[0]}:{address[1]}{path}", data=body)
    with urllib.request.urlopen(request, timeout=20) as found:
        return str(found.read().decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve__ends_with_0_after_what_it_was_asked(bundle: Path, number: signal.Signals) -> None:
    with started(bundle, "--threads", 1) as (process, address):
        label = json.loads(got(address, "/predict", IMAGE))["predictions"][0]["label"]
        with socket.create_connection(address, timeout=20) as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(IMAGE)}\r\n\r\n"
            connection.sendall(head.encode() + IMAGE[:50])
            time.sleep(0.3)
            process.send_signal(number)
            time.sleep(0.3)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(address, timeout=5)
            connection.sendall(IMAGE[50:])
            said = answer(connection)
        out, err = process.communicate(timeout=20)

    assert said.startswith(b"HTTP/1.1 200 OK")
    assert f'"label": "{label}"'.encode() in said
    assert (process.returncode, out) == (0, "")
    assert [json.loads(line)["status"] for line in err.splitlines()] == [200, 200]


class Told:
    """An app that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append("asked")

    def drain(self) -> None:
        self.calls.append("drain")

    def close(self) -> None:
        self.calls.append("close")


def test_serve__tells_its_app_to_take_no_more_and_then_to_end() -> None:
    app = Told()
    with open_port("127.0.0.1", 0) as opened:
        serve(app, opened, Limits(), lambda: app.calls.append("ready"), lambda: True)

    assert app.calls == ["ready", "drain", "close"]


def test_log__that_nobody_takes_stops_nothing(bundle: Path) -> None:
    with started(bundle, "--threads", 1) as (process, address):
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(3):
            assert got(address, "/predict", IMAGE)
        process.terminate()

        assert process.wait(20) == 0


def workers_of(address: tuple[str, int]) -> set[str]:
    """The numbers of the workers that answer; each connection is taken by any of them."""
    found = {re.findall(r'worker="([0-9])"', got(address, "/metrics"))[0] for _ in range(30)}
    return set(found)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_workers__share_the_port_and_are_started_anew(bundle: Path) -> None:
    with started(bundle, "--workers", 2) as (process, address):
        first = children(process)
        assert got(address, "/predict", IMAGE)
        assert workers_of(address) <= {"1", "2"}
        os.kill(first[0], signal.SIGKILL)
        until = time.monotonic() + 30
        while len(set(children(process)) - {first[0]}) < 2 and time.monotonic() < until:
            assert got(address, "/predict", IMAGE)  # the other one answers all the while
            time.sleep(0.1)
        anew = children(process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)

    assert (len(first), len(anew)) == (2, 2)
    assert first[0] not in anew
    assert process.returncode == 0
    ended = [line for line in map(json.loads, err.splitlines()) if line.get("event")]
    assert [(line["event"], line["how"]) for line in ended] == [("worker ended", "killed by SIGKILL")]
    assert not any(Path(f"/proc/{pid}").exists() for pid in anew)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_workers__end_where_their_parent_is_gone(bundle: Path) -> None:
    with started(bundle, "--workers", 2) as (process, _):
        orphans = children(process)
        process.kill()
        until = time.monotonic() + 20
        while any(_lives(pid) for pid in orphans) and time.monotonic() < until:
            time.sleep(0.1)

        assert [pid for pid in orphans if _lives(pid)] == []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What `headway serve` says on standard error as it refuses."""
    assert run(typer.main.get_command(app), ["serve", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_refused__beyond_loopback_without_a_token(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, bundle, "--host", "0.0.0.0") == (
        "headway: --host 0.0.0.0 can be reached from other machines, so a token is needed: "
        "set HEADWAY_TOKEN (or --token), 16 characters or more.\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--token short", "--token: expected 16 or more plain letters, digits and signs."),
        ("--max-body 20XB", "--max-body 20XB: expected a size, as 20MB"),
        ("--max-body 0", "--max-body 0: expected a size, as 20MB"),
        ("--max-pixels 0", "--max-pixels 0: expected a whole number of 1 or more"),
        ("--workers 0", "--workers 0: expected a whole number of 1 or more"),
        ("--port 65536", "--port 65536: expected a number up to 65535"),
        (
            "--host no..host --token a-token-for-tests",
            "--host no..host: no such address on this machine. Try 127.0.0.1",
        ),
    ],
)
def test_refused__words(bundle: Path, capsys: pytest.CaptureFixture[str], words: str, told: str) -> None:
    assert refusal(capsys, bundle, *words.split()) == f"headway: {told}\n"


def test_refused__no_bundle_is_told_before_anything_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, tmp_path / "nothing", "--port", 0) == f"headway: {tmp_path / 'nothing'} does not exist.\n"


@pytest.mark.slow
def test_refused__by_a_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(capsys, tmp_path / "nothing", "--port", 0, "--workers", 2)

    assert told == f"headway: {tmp_path / 'nothing'} does not exist.\n"


def test_refused__a_port_that_is_taken(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refusal(capsys, bundle, "--port", port)

    assert told == (
        f"headway: 127.0.0.1:{port} cannot be listened on: Address already in use. Another --port may be free; "
        "--port 0 takes any that is.\n"
    )


def test_refused__what_is_not_installed(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> Any:
        return None if name == "uvicorn" else object()

    monkeypatch.setattr(running, "find_spec", find)

    assert refusal(capsys, bundle) == (
        "headway: headway serve needs uvicorn, not installed here. Try: pip install 'headway[serve]'\n"
    )
