"""Clients that hold sockets and hardly use them: the server closes each, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.slow_sockets import KINDS, Held, slow_clients
from benchmarks.traffic import Answer, closed_loop, request

from headway.serving.listening import open_port
from tests import make
from tests.serving.promising import promising_bundle
from tests.serving.running import Running, running

pytestmark = pytest.mark.slow
SOCKETS = 200
SECONDS = 1.5  # for a head and for a body; `benchmarks.serve_slow` takes the real limits
PATIENCE = 15.0
CONNECTIONS = 256


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("slow")
    limits = json.dumps({"header_s": SECONDS, "body_s": SECONDS, "connections": CONNECTIONS})
    command = (sys.executable, "-m", "tests.serving.limited")
    with running(promising_bundle(folder), folder / "log", "--limits", limits, command=command) as started:
        yield started


def beside(server: Running, sockets: int, seconds: float) -> tuple[list[Held], list[Answer]]:
    """`sockets` slow clients, and for `seconds` a good one beside them: what became of them."""
    body = request("/predict", make.jpeg())

    async def both() -> tuple[list[Held], list[Answer]]:
        slow = asyncio.create_task(slow_clients(server.port, sockets, 0.1, PATIENCE))
        good = await closed_loop(server.port, lambda number: body, 1, seconds=seconds)
        return await slow, good

    return asyncio.run(both())


def test_slow_sockets__are_all_closed_while_a_good_client_is_answered(server: Running) -> None:
    before = server.descriptors

    held, good = beside(server, SOCKETS, 3 * SECONDS)

    assert [one.kind for one in held if one.seconds is None] == []
    assert {one.kind for one in held} == {kind.name for kind in KINDS}
    assert {answer.status for answer in good} == {200}
    # No sooner either: a client on a bad line has all of its time.
    slow = [one for one in held if "shut" not in one.kind and one.seconds is not None and one.seconds < SECONDS - 0.1]
    assert slow == []
    assert server.process.poll() is None
    assert server.ask("/predict", make.jpeg())[0] == 200
    assert server.descriptors <= before + 1
    assert "Traceback" not in server.log.read_text()


def test_more_slow_sockets_than_connections__hold_nobody_up_for_longer_than_their_time(server: Running) -> None:
    held, good = beside(server, 2 * CONNECTIONS, 4 * SECONDS)

    assert [one.kind for one in held if one.seconds is None] == []
    assert {answer.status for answer in good} <= {0, 200, 503}
    assert good[-1].status == 200
    assert server.ask("/predict", make.jpeg())[0] == 200


def test_slow_client__is_told_why(server: Running) -> None:
    held = asyncio.run(slow_clients(server.port, len(KINDS), 0.1, PATIENCE))

    said = {one.kind: one.said.split(b" ")[1:2] for one in held}
    for kind in ("header line by line", "body byte by byte", "chunk by chunk", "half a body, then silent"):
        assert said[kind] == [b"408"], (kind, held)
    assert said["idle after an answer"] == [b"200"]


def test_log__of_slow_clients_is_lines_of_json(server: Running, tmp_path: Path) -> None:
    server.ask("/healthz")
    assert server.logged("/healthz")
    lines = server.log.read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_open_port__keeps_little_for_clients_that_do_not_read() -> None:
    with open_port("127.0.0.1", 0) as opened:
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 1 << 18  # Linux doubles what it is told
