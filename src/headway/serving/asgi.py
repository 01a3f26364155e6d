"""The few ASGI pieces that the server is made of: its types, one whole answer, a body read to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from headway.serving.refusals import ClientLeft, Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Served(Protocol):
    """An ASGI app that can end in good order: no new work after `drain`, no threads after `close`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...


class Crowded(Protocol):
    """Who can say at once that there is no room for a prediction, and refuse it."""

    def full(self) -> bool:
        """Whether a new request would be refused."""
        ...

    def pause(self) -> float:
        """Seconds for which nobody need be heard, as there is work for longer; 0 while there is room."""
        ...

    def turn_away(self, taken: int, last: bool) -> bytes:
        """The whole answer to a request of which `taken` bytes of body are here, told in the log and the metrics.

        last  the connection ends with it
        """
        ...


FACTS = "headway"  # where a scope keeps its Facts
JSON = b"application/json"


@dataclass
class Facts:
    """What is known of one request, for the log and the metrics; whoever learns something writes it down here.

    route   the address as the server's own table has it, "" while unknown: never what a client typed
    code    of the refusal, where it was refused
    images  how many it brought
    queue_ms  how long its images waited for the engine, the longest of them
    """

    id: str
    method: str
    route: str = ""
    code: str | None = None
    images: int = 0
    queue_ms: float | None = None
    status: int = 0
    taken: int = 0
    given: int = 0


async def answer(send: Send, status: int, body: bytes, kind: bytes = JSON, headers: Headers = ()) -> None:
    """Send one whole answer."""
    head = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request. Raises ClientLeft; the gate bounds its size and time."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header, None where it is missing; of several the first."""
    return next((value for key, value in scope["headers"] if key == name), None)
