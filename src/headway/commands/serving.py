"""serve."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from headway.errors import Refused
from headway.terminal.command import BundlePath, given, takes
from headway.terminal.grammar import size, whole
from headway.terminal.options import SERVE

TOKEN = "HEADWAY_TOKEN"
_LEAST_TOKEN = 16


@takes(SERVE)
def serve(bundle: BundlePath, **options: str | bool | None) -> None:
    """Answer over HTTP what is on images, with a page to try it. Ctrl-C, SIGTERM: finish what came, end with 0."""
    from headway.serving import running
    from headway.serving.limits import Limits

    typed = given(options)
    running.check_installed()
    from headway.serving.listening import allowed_hosts

    numbers = {
        name: whole(f"--{name.replace('_', '-')}", typed[name], least)
        for name, least in (("port", 0), ("max_pixels", 1), ("workers", 1), ("threads", 1))
        if name in typed
    }
    host, usual = typed.get("host", "127.0.0.1"), Limits()
    limits = Limits(
        max_body=size("--max-body", typed["max_body"]) if "max_body" in typed else usual.max_body,
        max_pixels=numbers.get("max_pixels"),
        token=token_of(typed.get("token")),
        hosts=allowed_hosts(host),
    )
    if numbers.get("workers", 1) > 1 and not hasattr(os, "fork"):
        raise Refused(f"--workers {numbers['workers']}: this system shares no port among processes. Leave it out.")
    place = running.Place(host, numbers.get("port", 8000), numbers.get("workers", 1), numbers.get("threads"))
    running.run(Path(bundle), place, limits, log=log_line, ready=say)


def token_of(typed: str | None) -> str | None:
    """The token that was typed, else that of the environment. Raises Refused where it is too short or not plain."""
    token = typed if typed is not None else os.environ.get(TOKEN)
    if token is not None and (len(token) < _LEAST_TOKEN or not (token.isascii() and token.isprintable())):
        where = "--token" if typed is not None else TOKEN
        raise Refused(f"{where}: expected {_LEAST_TOKEN} or more plain letters, digits and signs.")
    return token


def log_line(line: str) -> None:
    """One write a line, so that those of several workers do not mix. A log that nobody takes stops no server."""
    with suppress(OSError):
        os.write(2, line.encode())


def say(line: str) -> None:
    """A line for people, at once, on standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
