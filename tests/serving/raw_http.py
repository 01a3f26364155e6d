"""HTTP over plain sockets for what no HTTP library would send, and what a server's answers may never hold."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass

from tests.serving.malformed import CANARY, CLOSED, Kind

QUIET = 0.05  # seconds without a byte after which no other answer is expected
SECONDS = 20.0  # without a byte from the server; far above its limits in these tests
# Exceptions' names, addresses, places on this machine. "Error" alone is a word of the OpenAPI document.
LEAKS = re.compile(
    rb"Traceback|0x[0-9a-f]{6,}|/tmp|/home|/usr/|site-packages|\.py\b|[A-Z][a-z]+(?:[A-Z][a-z]+)*(?:Error|Exception|Warning)\b|"
    + CANARY
)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")


@dataclass(frozen=True)
class Reply:
    """What came back on a connection: all of it, and the status of each answer in it. ended: the server closed."""

    content: bytes
    statuses: tuple[int, ...]
    ended: bool


def statuses(content: bytes) -> tuple[int, ...]:
    """The status of every answer in what a connection brought, each skipped over by its Content-Length."""
    found: list[int] = []
    while match := _STATUS.match(content):
        found.append(int(match[1]))
        end = content.find(b"\r\n\r\n")
        head = content[:end].lower() if end >= 0 else content.lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        if end < 0 or (length is None and found[-1] >= 200):
            break
        content = content[end + 4 + (int(length[1]) if length else 0) :]
    return tuple(found)


def faults(kind: Kind, reply: Reply) -> list[str]:
    """What is wrong with an answer: a status that may not be, a leak, an answer too many."""
    first = reply.statuses[0] if reply.statuses else CLOSED
    wrong = []
    if first not in kind.allowed and first != 503:
        wrong.append(f"status {first}")
    if any(status >= 500 and status not in (501, 503, 505) for status in reply.statuses):
        wrong.append(f"statuses {reply.statuses}")
    if len(reply.statuses) > kind.most:
        wrong.append(f"{len(reply.statuses)} answers {reply.statuses}")
    if leak := LEAKS.search(reply.content):
        wrong.append(f"leak {leak[0]!r} in {reply.content[max(0, leak.start() - 100) : leak.end() + 50]!r}")
    if not reply.ended and not kind.whole:
        wrong.append("never closed")
    return wrong


class Sender:
    """Sends to one server; keeps its socket as long as the server does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept: socket.socket | None = None

    def close(self) -> None:
        """End the kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def send(self, content: bytes, *, whole: bool) -> Reply:
        """whole: `content` is one well framed request, on the kept connection; else on one of its own, then shut."""
        if not whole:
            return self._alone(content)
        for _ in range(2):  # a kept connection may have been closed meanwhile
            fresh = self._kept is None
            connection = self._kept or self._connect()
            self._kept = connection
            reply = _one_answer(connection, content)
            if reply.ended or b"connection: close" in reply.content.lower():
                self.close()
            if reply.statuses or fresh:
                break
        return reply

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _alone(self, content: bytes) -> Reply:
        received = bytearray()
        with (
            self._connect() as connection,
            suppress(ConnectionError),
        ):  # the server may have had enough before all is sent
            connection.sendall(content)
            ended = _take(connection, received, QUIET)
            if not ended:
                connection.shutdown(socket.SHUT_WR)  # only now: a server drops the requests of who is gone
                ended = _take(connection, received, SECONDS)
            return Reply(bytes(received), statuses(bytes(received)), ended)
        return Reply(bytes(received), statuses(bytes(received)), True)


def _take(connection: socket.socket, received: bytearray, seconds: float) -> bool:
    """Receive until nothing came for `seconds`. Returns whether the server closed."""
    connection.settimeout(seconds)
    try:
        while part := connection.recv(1 << 16):
            received += part
    except TimeoutError:
        return False
    return True


def _one_answer(connection: socket.socket, content: bytes) -> Reply:
    received = bytearray()
    ended = False
    try:
        connection.sendall(content)
        while not complete(bytes(received)):
            part = connection.recv(1 << 16)
            if not part:
                ended = True
                break
            received += part
    except TimeoutError:
        pass
    except OSError:
        ended = True
    return Reply(bytes(received), statuses(bytes(received)), ended)


def complete(received: bytes) -> bool:
    """Whether the last answer of those in `received` is whole."""
    while received:
        end = received.find(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", received[:end].lower()) if end >= 0 else None
        if length is None or len(received) < end + 4 + int(length[1]):
            return False
        received = received[end + 4 + int(length[1]) :]
        if not received:
            return True
    return False
