"""`headway serve`, from the folder of a bundle to a server that has ended in good order."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from headway.errors import Refused
from headway.machine import usable_cores
from headway.serving.limits import Limits
from headway.serving.logs import Write

_NEEDED = {"uvicorn": "uvicorn", "prometheus_client": "prometheus-client", "python_multipart": "python-multipart"}
_PATIENCE = 5.0  # seconds beyond the deadline of requests, until a worker that does not end is killed


@dataclass(frozen=True)
class Place:
    """Where to listen, with how many processes and threads (None: one for each core, shared out among workers)."""

    host: str
    port: int
    workers: int = 1
    threads: int | None = None


def check_installed() -> None:
    """Raise Refused where the packages of a server are missing."""
    missing = [name for module, name in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise Refused(
            f"headway serve needs {', '.join(missing)}, not installed here. Try: pip install 'headway[serve]'"
        )


def check_reach(host: str, limits: Limits) -> None:
    """Raise Refused where other machines could reach the server and need no token."""
    from headway.serving.listening import is_loopback

    if not is_loopback(host) and limits.token is None:
        raise Refused(
            f"--host {host} can be reached from other machines, so a token is needed: "
            "set HEADWAY_TOKEN (or --token), 16 characters or more."
        )


def run(path: Path, place: Place, limits: Limits, *, log: Write, ready: Callable[[str], None]) -> None:
    """Serve the bundle in `path` until SIGINT or SIGTERM, then answer what was taken on.

    log    gets every line of the log, with its line end
    ready  gets the line that tells where it listens, as soon as requests are taken

    Raises Refused where the bundle or the port cannot be had, or anyone could reach it without a token.
    """
    check_installed()
    from headway.serving import listening

    check_reach(place.host, limits)
    opened = listening.open_port(place.host, place.port)
    try:
        if place.workers == 1:
            _serve(path, opened, limits, place.threads or usable_cores(), log=log, ready=ready)
        else:
            _serve_by_several(path, opened, limits, place, log=log, ready=ready)
    finally:
        opened.close()


def _serve(
    path: Path,
    opened: socket.socket,
    limits: Limits,
    threads: int,
    *,
    log: Write,
    ready: Callable[[str], None],
    worker: tuple[int, Callable[[], bool]] = (1, lambda: False),
) -> None:
    from headway.data.wording import shown
    from headway.deployment.bundle import load_bundle
    from headway.serving.app import make_app
    from headway.serving.facts import model_name
    from headway.serving.listening import address_of, serve

    number, stop = worker
    bundle = load_bundle(path, threads)
    n = len(bundle.classes)
    classes = "1 class" if n == 1 else f"{n:,} classes"
    line = f"serving  {address_of(opened)}   ({shown(model_name(path))}, {classes}; Ctrl-C stops)"
    app = make_app(bundle, limits, log=log, threads=threads, worker=number)
    serve(app, opened, limits, lambda: ready(line), stop, crowded=app)


def _serve_by_several(
    path: Path, opened: socket.socket, limits: Limits, place: Place, *, log: Write, ready: Callable[[str], None]
) -> None:
    from headway.serving.workers import Stop, supervise

    threads = max(1, (place.threads or usable_cores()) // place.workers)

    def work(number: int, is_ready: Callable[[str], None], stop: Stop) -> None:
        _serve(path, opened, limits, threads, log=log, ready=is_ready, worker=(number, stop))

    supervise(place.workers, work, ready=ready, log=log, patience=limits.deadline_s + _PATIENCE)
