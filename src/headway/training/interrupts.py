"""Work that no signal may cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come inside take effect after it.

    Masks would not do: where other threads run, one of them takes the signal, and Python still raises in the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only ever reach the main thread
        return
    came: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        came.append(number)

    interrupt, terminate = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        _handle(signal.SIGINT, interrupt, later)
        _handle(signal.SIGTERM, terminate, later)
        yield
    finally:
        try:  # a signal may raise between the two
            _handle(signal.SIGINT, interrupt, interrupt)
        finally:
            _handle(signal.SIGTERM, terminate, terminate)
    for number in dict.fromkeys(came):
        signal.raise_signal(number)


def _handle(number: signal.Signals, before: object, now: object) -> None:
    if before is not None:  # None: a handler that Python does not know, and could not put back
        signal.signal(number, now)  # type: ignore[arg-type]
