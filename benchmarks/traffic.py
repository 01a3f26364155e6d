"""A small HTTP/1.1 client for load: one process, raw asyncio, kept connections; open and closed loops.

An open loop sends at times of its own (Poisson arrivals) whatever the server does, and counts an answer's time from the
moment at which its request was due: a server that falls behind is seen to. A closed loop sends when it was answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

NO_ANSWER = 0  # as the status of a request whose connection ended first
BUSY = 503
PAUSE = 0.25  # seconds before what was refused is sent again
WAIT = 30.0  # seconds until a request counts as unanswered


@dataclass(frozen=True)
class Answer:
    """One answered request.

    what    the number of the request, as its maker was asked for it
    status  of HTTP; NO_ANSWER where the connection ended first
    due     when it should have been sent, seconds of perf_counter
    done    when the answer was whole
    body    of the answer
    """

    what: int
    status: int
    due: float
    done: float
    body: bytes

    @property
    def seconds(self) -> float:
        """From when it was due to the whole answer."""
        return self.done - self.due


class _Connection(asyncio.Protocol):
    """One request at a time on one socket."""

    def __init__(self) -> None:
        self.usable = True
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send `request`; its future is (status, body)."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        self._buffer.clear()
        self.usable = b"connection: close" not in head
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((NO_ANSWER, b""))

    def close(self) -> None:
        """End the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()


class Client:
    """Requests to one server: each takes a connection that is idle, else a new one."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host, self._port = host, port
        self._idle: list[_Connection] = []

    async def ask(self, what: int, request: bytes, due: float | None = None) -> Answer:
        """Send and wait for the answer, 30 s at most."""
        start = perf_counter() if due is None else due
        status, body = NO_ANSWER, b""
        try:
            connection = await self._connection()
        except OSError:
            return Answer(what, status, start, perf_counter(), body)
        try:
            status, body = await asyncio.wait_for(connection.ask(request), WAIT)
        except TimeoutError:
            connection.close()
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()
        return Answer(what, status, start, perf_counter(), body)

    async def _connection(self) -> _Connection:
        while self._idle:
            kept = self._idle.pop()
            if kept.usable:
                return kept
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection

    def close(self) -> None:
        """End what is idle."""
        for connection in self._idle:
            connection.close()


Requests = Callable[[int], bytes]


async def open_loop(port: int, requests: Requests, rate: float, seconds: float, seed: int = 0) -> list[Answer]:
    """Poisson arrivals at `rate` a second for `seconds`; every answer, waited for to the last.

    requests  number of the request → its bytes
    """
    client, draw = Client(port), random.Random(seed)
    asked: list[asyncio.Task[Answer]] = []
    start = due = perf_counter()
    while (due := due + draw.expovariate(rate)) < start + seconds:
        if (ahead := due - perf_counter()) > 0:
            await asyncio.sleep(ahead)
        asked.append(asyncio.create_task(client.ask(len(asked), requests(len(asked)), due)))
        if len(asked) % 64 == 0:
            await asyncio.sleep(0)  # where it is behind, answers must be read all the same
    answers = await asyncio.gather(*asked)
    client.close()
    return answers


async def closed_loop(
    port: int,
    requests: Requests,
    clients: int,
    *,
    seconds: float = float("inf"),
    n: int | None = None,
    again: bool = False,
) -> list[Answer]:
    """`clients` that each send when they were answered, until `seconds` are over or `n` requests were sent.

    again  a request that was refused (503) is sent again after PAUSE; both answers are returned
    """
    end = perf_counter() + seconds
    answers: list[Answer] = []
    sent = 0

    async def one() -> None:
        nonlocal sent
        client = Client(port)
        while perf_counter() < end and (n is None or sent < n):
            number, sent = sent, sent + 1
            answers.append(await client.ask(number, requests(number)))
            while again and answers[-1].status == BUSY:
                await asyncio.sleep(PAUSE)
                answers.append(await client.ask(number, requests(number)))
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return answers


def request(path: str, body: bytes = b"", kind: str = "image/jpeg", method: str = "POST") -> bytes:
    """The bytes of an HTTP/1.1 request to this machine."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def as_form(images: Sequence[bytes]) -> bytes:
    """POST /predict of images as a browser's form sends them."""
    line = "----headway5b1c"
    parts = [
        f'--{line}\r\nContent-Disposition: form-data; name="images"; filename="{n}.jpg"\r\n'
        f"Content-Type: image/jpeg\r\n\r\n".encode()
        + content
        + b"\r\n"
        for n, content in enumerate(images)
    ]
    return request("/predict", b"".join(parts) + f"--{line}--\r\n".encode(), f"multipart/form-data; boundary={line}")


def as_json(images: Sequence[bytes]) -> bytes:
    """POST /predict of images in base64."""
    body = json.dumps({"images": [base64.b64encode(content).decode() for content in images]})
    return request("/predict", body.encode(), "application/json")
