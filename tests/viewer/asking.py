"""Asking the app as a server would, without a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from headway.serving.asgi import Asgi, Message


@dataclass(frozen=True)
class Said:
    """An answer; its body as text."""

    status: int
    headers: dict[str, str]
    text: str


def ask(app: Asgi, path: str, query: str = "", method: str = "GET", **headers: str) -> Said:
    """One request to the machine itself. path: as a server hands it on, decoded."""
    given = {"host": "127.0.0.1:8100", **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    asyncio.run(run())
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Said(sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:]).decode())
