"""Many clients that send without end, or leave before their answer: memory stays bounded, the queue is free again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import make
from tests.serving.promising import promising_bundle
from tests.serving.running import Running, running

pytestmark = pytest.mark.slow
MB = 1 << 20
CLIENTS = 64
MAX_BODY, BUFFERED = 2 * MB, 8 * MB
STREAM = 16 * MB  # from each client: 64 times that is a gigabyte
ROOM = 48  # MB that a process may grow by beside the bodies that it keeps: sockets, copies, an allocator's habits
_HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    limits = json.dumps({"max_body": MAX_BODY, "buffered": BUFFERED})
    command = (sys.executable, "-m", "tests.serving.limited")
    with running(promising_bundle(tmp_path), tmp_path / "log", "--limits", limits, command=command) as started:
        yield started


def peak(server: Running) -> float:
    """The most MB that the process ever held."""
    told = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", told)
    assert found is not None
    return int(found[1]) / 1024


async def stream(port: int, first: bytes, piece: bytes) -> int:
    """Send `first`, then `piece` over and over, until the server had enough or it is STREAM; the status, or 0."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    try:
        for _ in range(STREAM // len(piece)):
            writer.write(piece)
            await writer.drain()
        line = await reader.readline()
    except ConnectionError:
        line = b""
    writer.transport.abort()  # a close would first send what the server no longer takes
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return int(line.split()[1]) if line else 0


async def streams(port: int, first: bytes, piece: bytes) -> list[int]:
    return await asyncio.gather(*(stream(port, first, piece) for _ in range(CLIENTS)))


def test_endless_bodies__are_counted_and_never_kept(server: Running) -> None:
    server.ask("/predict", make.png())
    before = peak(server)
    piece = b"%x\r\n" % (1 << 16) + bytes(1 << 16) + b"\r\n"

    chunked = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    asyncio.run(stream(server.port, chunked, piece))
    assert server.logged('"status": 413')  # a client that still sends may see its connection end before the answer
    statuses = asyncio.run(streams(server.port, chunked, piece))

    assert set(statuses) <= {0, 413, 503}, statuses
    assert peak(server) < before + BUFFERED / MB + ROOM
    assert server.ask("/predict", make.png())[0] == 200


def test_bodies_that_fit_one_by_one__are_bounded_together(server: Running) -> None:
    server.ask("/predict", make.png())
    before = peak(server)
    length = b"Content-Length: %d\r\n\r\n" % MAX_BODY

    statuses = asyncio.run(streams(server.port, _HEAD + length, bytes(1 << 16)))

    assert set(statuses) <= {0, 400, 413, 422, 503}, statuses
    assert peak(server) < before + 2 * BUFFERED / MB + ROOM  # a body is joined from its parts once
    assert server.ask("/predict", make.png())[0] == 200


def test_clients_that_leave__free_the_queue(server: Running) -> None:
    image = make.png(size=(200, 200))
    request = _HEAD + b"Content-Length: %d\r\n\r\n" % len(image) + image
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
            leaving.sendall(request)

    assert waiting(server) == 0
    assert server.ask("/predict", make.png())[0] == 200
    assert '"status": 500' not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def waiting(server: Running, seconds: float = 20.0) -> float:
    """Images that the server has taken on and not answered, as it tells; waits until that is none."""
    end = time.monotonic() + seconds
    while True:
        told = server.text("/metrics")
        found = re.search(r"^headway_waiting_images\{.*\} (\S+)$", told, re.MULTILINE)
        assert found is not None, told
        if not (left := float(found[1])) or time.monotonic() > end:
            return left
        time.sleep(0.05)
