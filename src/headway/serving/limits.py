"""What a server allows. Everything that a client could make large, slow or many has a bound here."""

from __future__ import annotations

from dataclasses import dataclass, field

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """Bounds of one server process.

    max_body     bytes of one request's body
    max_pixels   of an image, told by its header before it is decoded; None = what the bundle allows
    max_images   in one request
    queue        images taken on and not yet answered, at most
    wait_ms      how long an image may wait for others that are on their way, to be computed with them
    deadline_s   from a request's head to its answer; what cannot be answered by then is refused at once
    header_s     for the head of a request, and for which a connection may be idle
    body_s       for the body, and for a client to take its answer
    connections  open at once
    buffered     bytes of all bodies together that lie in memory
    token        what clients must send as `Authorization: Bearer ...`; None = nothing
    hosts        names by which the server may be called (`Host`), without a port; empty = any
    """

    max_body: int = 20_000_000
    max_pixels: int | None = None
    max_images: int = 64
    queue: int = 64
    wait_ms: float = 3.0
    deadline_s: float = 10.0
    header_s: float = 10.0
    body_s: float = 10.0
    connections: int = 256
    buffered: int = 256_000_000
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = LOOPBACK
