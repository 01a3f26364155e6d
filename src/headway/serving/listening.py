"""The port, and one process that serves on it: uvicorn with our limits, drained when a signal comes."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable

from headway.errors import Refused
from headway.serving.asgi import Crowded, Served
from headway.serving.limits import LOOPBACK, Limits

# Bytes of answers that the kernel keeps for a client who does not read. Left to itself it takes megabytes a connection,
# and only when they are full is it seen that nobody reads.
_UNREAD = 1 << 17
_GRACE = 2.0  # seconds beyond the deadline of the last request


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def allowed_hosts(host: str) -> tuple[str, ...]:
    """By which names a server on `host` may be called: any beyond loopback, where a token is asked for anyway."""
    return (*LOOPBACK, host.lower()) if is_loopback(host) else ()


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; `port` 0 is any that is free. Raises Refused where it cannot be had."""
    if port > 65535:
        raise Refused(f"--port {port}: expected a number up to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise Refused(f"--host {host}: no such address on this machine. Try 127.0.0.1") from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD)
        opened.bind(address)
        opened.listen(1024)
    except OSError as error:
        opened.close()
        told = f"{host}:{port} cannot be listened on: {error.strerror or 'input/output error'}."
        raise Refused(f"{told} Another --port may be free; --port 0 takes any that is.") from None
    return opened


def address_of(opened: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(
    app: Served,
    opened: socket.socket,
    limits: Limits,
    ready: Callable[[], None],
    stop: Callable[[], bool] | None = None,
    crowded: Crowded | None = None,
) -> None:
    """Serve `app` on `opened` until SIGINT, SIGTERM or `stop()`; what was taken on by then is answered.

    crowded  who refuses predictions at once, and cheaply, while there is no room for them

    A second SIGINT ends it at once. `ready` is called as soon as requests are taken. Call it from the main thread.
    """
    import uvicorn

    from headway.serving.bursts import loop_for
    from headway.serving.draining import Draining
    from headway.serving.protocol import protocol_for

    # Libraries must not write into the log, which has lines of JSON alone.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)
    config = uvicorn.Config(
        app,
        http=protocol_for(limits, crowded),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL + 1,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=1024,
        timeout_graceful_shutdown=int(limits.deadline_s + _GRACE),
    )
    try:
        server = Draining(config, app, ready, stop)
        server.run_in(None if crowded is None else loop_for(crowded.pause), [opened])
    finally:
        app.close()
