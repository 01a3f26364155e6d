"""While a server is full its sockets are looked at in bursts, which leaves the processor to the threads that compute.

A refusal takes the loop some 50 us. Each that comes alone also takes the processor from a network that computes on the
same core, twice, and its caches with it: at five times what the server can do that was 2 to 3 % of all answers.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable

Ready = list[tuple[selectors.SelectorKey, int]]


class Bursts(selectors.DefaultSelector):
    """Waits `pause()` seconds, in which events gather, before it looks at them; not where the loop has other work."""

    def __init__(self, pause: Callable[[], float]) -> None:
        super().__init__()
        self._pause = pause

    def select(self, timeout: float | None = None) -> Ready:
        """What is ready after the pause, or else within the rest of `timeout` seconds; None = however long."""
        rest = float("inf") if timeout is None else timeout
        pause = min(self._pause(), rest) if rest > 0 else 0.0
        if pause > 0:
            time.sleep(pause)
        return super().select(None if timeout is None else max(0.0, rest - pause))


def loop_for(pause: Callable[[], float]) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """How the event loop is made; None = as usual, where loops have no selector."""
    if sys.platform == "win32":
        return None
    return lambda: asyncio.SelectorEventLoop(Bursts(pause))
