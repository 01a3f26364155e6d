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
import secrets

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from headway.serving.gate import STRICT_POLICY
from headway.serving.limits import Limits
from headway.serving.refusals import CODES, refusal_body

_LINGER = 4.0  # seconds for which the rest of a refused body is read, so that the client comes to read its answer


class Protocol(H11Protocol):
    """One connection. Made by `protocol_for`, which gives it its limits."""

    limits: Limits
    _timer: asyncio.TimerHandle | None = None

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
        if self.transport.is_closing():
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
            self.transport.write(_raw("too_slow"))
            with contextlib.suppress(NotImplementedError, OSError):
                self.transport.write_eof()
        self.transport.abort() if self.transport.get_write_buffer_size() else self.transport.close()

    def _refuse(self, code: str) -> None:
        """Answer without a request and close."""
        self.transport.write(_raw(code))
        self.transport.close()
        self._within(self.limits.body_s)


def protocol_for(limits: Limits) -> type[Protocol]:
    """The protocol with these limits, as uvicorn wants it: a class."""
    return type("LimitedProtocol", (Protocol,), {"limits": limits})


def _raw(code: str) -> bytes:
    """A whole refusal as it goes over the wire, for where there is no request to answer."""
    status, request = CODES[code][0], secrets.token_hex(8)
    body = refusal_body(code, request)
    head = (
        f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request}\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
        f"content-security-policy: {STRICT_POLICY.decode()}\r\nconnection: close\r\n"
        + ("retry-after: 1\r\n" if status == 503 else "")
    )
    return head.encode() + b"\r\n" + body
