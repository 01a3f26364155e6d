"""Clients that hold a server's sockets and hardly use them: each kind of slowness, and when the server had enough."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat
from time import perf_counter

POST = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True)
class Kind:
    """One way of being slow.

    first   bytes sent at once
    then    what is sent bit by bit after it, one piece at each beat; ends: nothing more is sent
    ending  whether the sending side is shut after `first`
    reads   whether it reads what is sent back
    """

    name: str
    first: bytes = b""
    then: Sequence[bytes] = ()
    ending: bool = False
    reads: bool = True


FOREVER = 100_000  # pieces: no test lasts so long
KINDS = (
    Kind("silent"),
    Kind("header byte by byte", then=[bytes([byte]) for byte in POST + b"X-Filler: " + b"a" * FOREVER]),
    Kind("header line by line", POST, [b"X-Filler: a\r\n"] * FOREVER),
    Kind("body byte by byte", POST + b"Content-Length: 100000\r\n\r\n", [b"a"] * FOREVER),
    Kind("chunk by chunk", POST + b"Transfer-Encoding: chunked\r\n\r\n", [b"1\r\na\r\n"] * FOREVER),
    Kind("half a header, then shut", POST[:50], ending=True),
    Kind("half a body, then silent", POST + b"Content-Length: 100000\r\n\r\n" + b"a" * 50_000),
    Kind("half a body, then shut", POST + b"Content-Length: 100000\r\n\r\n" + b"a" * 50_000, ending=True),
    Kind("idle after an answer", GET),
    Kind("never reads", GET * 200, [GET] * FOREVER, reads=False),
)


@dataclass(frozen=True)
class Held:
    """How one slow client fared: seconds until the server closed; None where it had not within the time."""

    kind: str
    seconds: float | None
    said: bytes


class _Slow(asyncio.Protocol):
    def __init__(self) -> None:
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.said = b""

    def data_received(self, data: bytes) -> None:
        self.said = (self.said + data)[:500]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(perf_counter())


async def slow_clients(port: int, n: int, beat: float, patience: float, kinds: Sequence[Kind] = KINDS) -> list[Held]:
    """`n` of them at once, of each kind in turn, sending a piece every `beat` seconds; what became of each.

    patience  seconds after which one that is still connected is given up, as not closed
    """
    return list(await asyncio.gather(*(_hold(port, kind, beat, patience) for kind in islice(cycle(kinds), n))))


async def _hold(port: int, kind: Kind, beat: float, patience: float) -> Held:
    loop = asyncio.get_running_loop()
    plain = socket.socket()
    plain.setblocking(False)
    if not kind.reads:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    start = perf_counter()
    try:
        await loop.sock_connect(plain, ("127.0.0.1", port))
        transport, slow = await loop.create_connection(_Slow, sock=plain)
    except OSError:
        plain.close()
        return Held(kind.name, perf_counter() - start, b"")
    if not kind.reads:
        transport.pause_reading()
    transport.write(kind.first)
    if kind.ending:
        with suppress(OSError):  # a server that is full has closed it already
            transport.write_eof()
    pieces: Iterator[bytes] = chain(kind.then, repeat(b""))
    while not slow.closed.done() and perf_counter() < start + patience:
        await asyncio.wait([slow.closed], timeout=beat)
        piece = next(pieces)
        if piece and not slow.closed.done():
            transport.write(piece)
    transport.abort()
    seconds = slow.closed.result() - start if slow.closed.done() else None
    return Held(kind.name, seconds, slow.said)
