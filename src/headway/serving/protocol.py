"""HTTP/1.1 as uvicorn speaks it through h11, with the deadlines and the cap on connections that uvicorn lacks.

h11 and not httptools: it refuses what the standard forbids (two lengths, a line end inside a header), bounds the head
at 16 KB, and its slower parsing is a fraction of the time that an image takes.

A connection has one timer. It runs while no request is in progress, from the opening or the last answer on, whatever
trickles in meanwhile; while the rest of a refused body is thrown away; and while the client does not take its answer.
Where it ends, so does the connection. In between, the gate times the body and the deadline times the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from headway.serving.asgi import Crowded
from headway.serving.limits import Limits
from headway.serving.refusals import whole_refusal

_PLAIN = re.compile(rb"POST /predict(?:\?[!-~]*)? HTTP/1\.1(\r\n(?:[A-Za-z0-9-]+: [ -~]*\r\n)+)\r\n")
_LENGTH = re.compile(rb"\ncontent-length: ([0-9]{1,12})\r")
_NOT_PLAIN = (b"transfer-encoding", b"expect", b"upgrade")
_LINGER = 4.0  # seconds for which the rest of a refused body is read, so that the client comes to read its answer


class Protocol(H11Protocol):
    """One connection. Made by `protocol_for`, which gives it its limits."""

    limits: Limits
    crowded: Crowded | None
    _timer: asyncio.TimerHandle | None = None
    _thrown = 0  # bytes of a turned away body that are still to come
    _last = False  # the client closes after the answer that it got

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn. Where too many are open, one that waits for a request gives way, else the new one."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            others = (other for other in self.connections if isinstance(other, Protocol) and other is not self)
            idle = next((other for other in others if not other._answering()), None)
            if idle is not None:
                idle._end()
            else:
                self._refuse("busy")
                return
        self._within(self.limits.header_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn."""
        self._untimed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn; the timer stops where a request begins."""
        if self.transport.is_closing() or not (data := self._rest(data)) or self._turned_away(data):
            return
        lingering = self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        super().data_received(data)
        if self._answering():
            self._untimed()
        elif lingering and self.conn.their_state is h11.IDLE:
            self._within(self.limits.header_s)

    def on_response_complete(self) -> None:
        """As uvicorn; the timer runs again."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._within(self.limits.body_s)  # for what the client has not taken yet
        elif not self._answering():
            self._within(_LINGER if self.conn.their_state is h11.SEND_BODY else self.limits.header_s)

    def pause_writing(self) -> None:
        """As uvicorn; the client does not take its answer."""
        super().pause_writing()
        self._within(self.limits.body_s)

    def resume_writing(self) -> None:
        """As uvicorn."""
        super().resume_writing()
        if self._answering():
            self._untimed()

    def send_400_response(self, msg: str) -> None:
        """What h11 does not understand: our own fixed answer."""
        self._refuse("bad_request")

    def timeout_keep_alive_handler(self) -> None:
        """Our own timer closes what is idle."""

    def _turned_away(self, data: bytes) -> bool:
        """Whether `data` began a request that was refused at once, because the server is full.

        At five times what a server can do, four of five requests are refused. Through h11 and the app a refusal takes
        0.3 ms, which would be a tenth of the server's time; from the plain head alone it takes a fifth of that.
        """
        if self.crowded is None or self._answering() or self.conn.their_state is not h11.IDLE:
            return False
        if self.conn.trailing_data[0] or not self.crowded.full() or (found := _plain_post(data)) is None:
            return False
        head, length, last = found
        if length > self.limits.max_body or len(data) > head + length:
            return False  # another refusal, or the next request behind it
        self.transport.write(self.crowded.turn_away(len(data) - head, last))
        self._thrown, self._last = head + length - len(data), last
        self._within(_LINGER if self._thrown else self.limits.header_s)
        if last and not self._thrown:
            self.transport.close()
        return True

    def _rest(self, data: bytes) -> bytes:
        """`data` without what belongs to a body that was turned away."""
        if not self._thrown:
            return data
        rest = data[self._thrown :]
        self._thrown = max(0, self._thrown - len(data))
        if not self._thrown:
            self._within(self.limits.header_s)
            if self._last:
                self.transport.close()
                return b""
        return rest

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _within(self, seconds: float) -> None:
        self._untimed()
        self._timer = self.loop.call_later(seconds, self._end)

    def _untimed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        """Close at once. A client in the middle of a head is told why, as far as it reads without waiting."""
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self.transport.write(whole_refusal("too_slow", secrets.token_hex(8), close=True))
            with contextlib.suppress(NotImplementedError, OSError):
                self.transport.write_eof()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(self, code: str) -> None:
        """Answer without a request and close."""
        self.transport.write(whole_refusal(code, secrets.token_hex(8), close=True))
        self.transport.close()
        self._within(self.limits.body_s)


def protocol_for(limits: Limits, crowded: Crowded | None) -> type[Protocol]:
    """The protocol with these limits, as uvicorn wants it: a class."""
    return type("LimitedProtocol", (Protocol,), {"limits": limits, "crowded": crowded})


def _plain_post(data: bytes) -> tuple[int, int, bool] | None:
    """Of a POST to /predict in its plainest form: bytes of its head, of its body, and whether the client closes then.

    None for whatever is not at the beginning of `data` as a whole head, or says more than a length about its body.
    """
    head = _PLAIN.match(data)
    if head is None:
        return None
    fields = head[1].lower()
    length = _LENGTH.findall(fields)
    if len(length) != 1 or any(word in fields for word in _NOT_PLAIN):
        return None
    return head.end(), int(length[0]), b"\nconnection: close\r" in fields
