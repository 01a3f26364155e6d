"""uvicorn's server, ending in good order: what was taken on is answered, and the end is no signal once more."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from types import FrameType

from uvicorn import Config, Server

from headway.serving.asgi import Served


class Draining(Server):
    """Serves until SIGINT, SIGTERM or `stop()`. A second SIGINT ends it at once."""

    def __init__(self, config: Config, app: Served, ready: Callable[[], None], stop: Callable[[], bool] | None) -> None:
        super().__init__(config)
        self._served, self._ready, self._stop = app, ready, stop

    def run_in(self, loop: Callable[[], asyncio.AbstractEventLoop] | None, sockets: list[socket.socket]) -> None:
        """As `run`, in a loop of our own making."""
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(self.serve(sockets))
            runner.run(self._part())

    async def _part(self) -> None:
        """Close what is still open: who does not take his answer would keep its socket beyond the loop."""
        for connection in list(self.server_state.connections):
            if (transport := connection.transport) is not None:
                transport.abort()
        await asyncio.sleep(0)  # connections are told, and their sockets closed, in the loop's next turn

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn; then requests are taken, and `ready` is told."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn, ten times a second."""
        if self._stop is not None and self._stop():
            self._leave(signal.SIGTERM, None)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn raises what it caught once more at the end, which would end the program as a failure.

        Beside the main thread no signal can be heard; `stop` ends it there.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._leave) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = bool(self.should_exit) and number == signal.SIGINT
        self.should_exit = True
        self._served.drain()
