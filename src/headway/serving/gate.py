"""In front of any ASGI app: who may ask, how much and how long, the fixed answers of refusals, one record a request."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import time
import traceback
from collections.abc import Callable, Collection

from headway.serving.asgi import FACTS, Asgi, Facts, Message, Receive, Scope, Send, answer, header
from headway.serving.limits import Limits
from headway.serving.refusals import STRICT_POLICY, ClientLeft, Refusal, refusal_body

LEFT = 499  # the status, in log and metrics, of a request whose client left; nobody receives it
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_MAX_HEAD = 16_384  # bytes; h11 bounds only a head that comes in pieces
_OURS = re.compile(rb"[0-9A-Za-z_-]{8,64}")  # an id that a proxy gave already

Told = Callable[[Facts, float], None]  # the record of a finished request, and its seconds


class Gate:
    """An ASGI app that lets through to `app` what keeps to `limits`.

    open_paths  what needs no token
    told        hears of every finished request
    fault       hears the traceback of a fault of our own; the client hears "internal"

    Inside, `receive` counts and times the body, `send` adds the headers that every answer has, and a `Refusal` that is
    raised before an answer began becomes that refusal.
    """

    def __init__(
        self,
        app: Asgi,
        limits: Limits,
        *,
        open_paths: Collection[str] = (),
        told: Told | None = None,
        fault: Callable[[str, str], None] | None = None,
    ) -> None:
        self.app, self.limits, self.open_paths = app, limits, frozenset(open_paths)
        self.told, self.fault = told, fault
        self.buffered = 0  # bytes of bodies that were handed on and whose requests go on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises RuntimeError for anything but HTTP, which tells a server that it is not supported."""
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")
        await _Exchange(self, scope, receive, send).run()

    def check(self, scope: Scope) -> None:
        """Raise Refusal for a request whose head is enough to refuse it."""
        size = len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
        if size > _MAX_HEAD or scope.get("http_version") not in ("1.0", "1.1", "2", "3"):
            raise Refusal("bad_request")
        if self.limits.hosts and _host(scope) not in self.limits.hosts:
            raise Refusal("bad_host")
        if self.limits.token is not None and scope["path"] not in self.open_paths:
            given = header(scope, b"authorization") or b""
            scheme, _, token = given.partition(b" ")
            same = hmac.compare_digest(token.strip(), self.limits.token.encode())
            if scheme.lower() != b"bearer" or not same:
                raise Refusal("no_token", [(b"www-authenticate", b"Bearer")])
        length = header(scope, b"content-length")
        if length is not None and (not length.isdigit() or len(length) > 18 or int(length) > self.limits.max_body):
            raise Refusal("too_large" if length.isdigit() else "bad_request")


def _host(scope: Scope) -> str:
    """The name in `Host`, small letters, without its port; "" where there is none."""
    text = (header(scope, b"host") or b"").decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


class _Exchange:
    """One request and its answer."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate, self.scope, self._receive, self._send = gate, scope, receive, send
        given = header(scope, b"x-request-id") or b""
        known = given.decode() if _OURS.fullmatch(given) else secrets.token_hex(8)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.facts = scope[FACTS] = Facts(known, method)
        self.start = time.monotonic()
        self.complete = False  # the body has arrived

    async def run(self) -> None:
        """Let the request through, or answer it."""
        try:
            try:
                self.gate.check(self.scope)
                await self.gate.app(self.scope, self.receive, self.send)
            except Refusal as refusal:
                await self.refuse(refusal)
            except ClientLeft:
                self.facts.status = self.facts.status or LEFT
            except Exception as error:
                if self.gate.fault is not None:
                    self.gate.fault(self.facts.id, "".join(traceback.format_exception(error)))
                if self.facts.status:
                    raise  # half an answer: the server must close the connection
                await self.refuse(Refusal("internal"))
        finally:
            self.gate.buffered -= self.facts.taken
            if self.gate.told is not None:
                self.gate.told(self.facts, time.monotonic() - self.start)

    async def refuse(self, refusal: Refusal) -> None:
        """The fixed answer, unless another one has begun."""
        self.facts.code = refusal.code
        if not self.facts.status:
            await answer(self.send, refusal.status, refusal_body(refusal.code, self.facts.id), headers=refusal.headers)

    async def receive(self) -> Message:
        """The next part of the body. Raises Refusal where it is too much or too slow."""
        if self.complete:
            return await self._receive()  # what comes now is the client leaving
        late = asyncio.get_running_loop().time() + self.gate.limits.body_s - (time.monotonic() - self.start)
        try:
            async with asyncio.timeout_at(late):
                message = await self._receive()
        except TimeoutError:
            raise Refusal("too_slow") from None
        if message["type"] == "http.request":
            self.complete = not message.get("more_body", False)
            size = len(message.get("body", b""))
            self.facts.taken += size
            self.gate.buffered += size
            if self.facts.taken > self.gate.limits.max_body:
                raise Refusal("too_large")
            if self.gate.buffered > self.gate.limits.buffered:
                raise Refusal("busy")
        return message

    async def send(self, message: Message) -> None:
        """Hand on a part of the answer, the first with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.facts.status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name for name, _ in headers}
            headers += [(b"x-request-id", self.facts.id.encode()), (b"x-content-type-options", b"nosniff")]
            for name, value in ((b"content-security-policy", STRICT_POLICY), (b"cache-control", b"no-store")):
                headers += [] if name in names else [(name, value)]
            message = {**message, "headers": headers}
        else:
            self.facts.given += len(message.get("body", b""))
        await self._send(message)
