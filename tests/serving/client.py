"""A server in this process without a port, and one with a port in a thread."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from headway.deployment.bundle import Bundle, load_bundle
from headway.serving.app import App, make_app
from headway.serving.limits import Limits
from headway.serving.listening import open_port, serve

Ask = Callable[[httpx.AsyncClient], Awaitable[Any]]


def asked(model: Bundle | Path, ask: Ask, limits: Limits | None = None, log: list[str] | None = None) -> Any:
    """What `ask(client)` returns of a server of `model`, which is ended afterwards."""
    bundle = load_bundle(model, threads=1) if isinstance(model, Path) else model
    app = make_app(bundle, limits, log=None if log is None else log.append, threads=1)
    return through(app, ask)


def through(app: App, ask: Ask) -> Any:
    """What `ask(client)` returns of `app`, which is closed afterwards."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await ask(client)

    try:
        return asyncio.run(run())
    finally:
        app.close()


def once(model: Bundle | Path, method: str, path: str, limits: Limits | None = None, **more: Any) -> httpx.Response:
    """The answer to one request."""

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, path, **more)

    found = asked(model, ask, limits)
    assert isinstance(found, httpx.Response)
    return found


@contextmanager
def listening(model: Path, limits: Limits | None = None) -> Iterator[tuple[str, int]]:
    """A whole server on a port of this machine, in a thread; gives its address."""
    chosen = limits or Limits()
    opened = open_port("127.0.0.1", 0)
    ready, stop = threading.Event(), threading.Event()
    app = make_app(load_bundle(model, threads=1), chosen, threads=1)
    thread = threading.Thread(target=serve, args=(app, opened, chosen, ready.set, stop.is_set, app))
    thread.start()
    try:
        assert ready.wait(20)
        yield opened.getsockname()[:2]
    finally:
        stop.set()
        thread.join()
        opened.close()


def spoken(address: tuple[str, int], sent: bytes, seconds: float = 10) -> bytes:
    """All that a server says until it closes, after `sent`; TimeoutError where it does not close in time."""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(sent)
        return heard(connection)


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def answer(connection: socket.socket) -> bytes:
    """The next whole answer, of those that tell their length."""
    said = b""
    while b"\r\n\r\n" not in said:
        part = connection.recv(1)
        assert part, said
        said += part
    length = int(re.findall(rb"(?mi)^content-length: ([0-9]+)", said)[0])
    while length:
        part = connection.recv(length)
        assert part, said
        length -= len(part)
        said += part
    return said
