"""`make_app`: the whole server of one bundle as an ASGI app. No torch, nothing of training, no web framework."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from headway.deployment.bundle import Bundle
from headway.machine import usable_cores
from headway.serving import logs
from headway.serving.asgi import FACTS, JSON, Facts, Receive, Scope, Send, answer
from headway.serving.explaining import Explaining
from headway.serving.facts import model_facts
from headway.serving.gate import Gate
from headway.serving.limits import Limits
from headway.serving.metrics import CONTENT_TYPE, Metrics
from headway.serving.openapi import document
from headway.serving.predicting import Predictor
from headway.serving.refusals import Headers, Refusal, whole_refusal

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

PAGE = {
    "/": ("index.html", b"text/html; charset=utf-8"),
    "/page.css": ("page.css", b"text/css; charset=utf-8"),
    **{f"/{name}": (name, b"text/javascript; charset=utf-8") for name in ("page.js", "words.js", "why.js")},
}
OPEN_PATHS = (*PAGE, "/healthz", "/readyz")  # need no token
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def make_app(
    bundle: Bundle,
    limits: Limits | None = None,
    *,
    log: logs.Write | None = None,
    threads: int | None = None,
    worker: int = 1,
) -> App:
    """The server of `bundle`.

    log      gets one line of JSON, with its line end, for every request and every fault of the server's own
    threads  that decode images, None: as many as there are cores
    worker   number of this process among those that share the port; stands in the metrics

    Its threads run until `close`.
    """
    return App(bundle, limits or Limits(), log or (lambda line: None), threads or usable_cores(), worker)


class App:
    """An ASGI app. `drain` before it ends, `close` at the end."""

    def __init__(self, bundle: Bundle, limits: Limits, log: logs.Write, threads: int, worker: int) -> None:
        self._log, self._metrics, self._stopping = log, Metrics(worker), False
        self._model = model_facts(bundle, limits)
        who = {name: self._model[name] for name in ("name", "version")}
        self._predictor = Predictor(bundle, limits, threads, self._metrics, who)
        self._explaining = Explaining(bundle, limits, who)
        fixed = {"/openapi.json": _fixed(json.dumps(document(limits, bundle.confidence)).encode(), JSON)}
        page = {path: _fixed(_static(name), kind, _PAGE_POLICY) for path, (name, kind) in PAGE.items()}
        live = {
            "/healthz": self._health,
            "/readyz": self._ready,
            "/metrics": self._measured,
            "/model": self._described,
        }
        self._routes: dict[str, dict[str, Handler]] = {
            **{path: {"GET": handler, "HEAD": handler} for path, handler in (fixed | page | live).items()},
            "/predict": {"POST": self._unless_stopping(self._predictor)},
            "/explain": {"POST": self._unless_stopping(self._explaining)},
        }
        self._gate = Gate(self._routed, limits, open_paths=OPEN_PATHS, told=self._told, fault=self._fault)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._gate(scope, receive, send)

    def drain(self) -> None:
        """From now on not ready, and no new predictions; those that were taken on are answered."""
        self._stopping = True

    def close(self) -> None:
        """End the threads."""
        self._predictor.close()
        self._explaining.close()

    def full(self) -> bool:
        """Whether a new prediction would be refused as busy."""
        return not self._stopping and self._predictor.full()

    def pause(self) -> float:
        """See asgi.Crowded."""
        return self._predictor.pause() if self.full() else 0.0

    def turn_away(self, taken: int, last: bool) -> bytes:
        """See asgi.Crowded."""
        facts = Facts(secrets.token_hex(8), "POST", "/predict", "busy", status=503, taken=taken)
        self._told(facts, 0.0)
        return whole_refusal("busy", facts.id, close=last)

    async def _routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts: Facts = scope[FACTS]
        handlers = self._routes.get(scope["path"])
        if handlers is None:
            raise Refusal("not_found")
        facts.route = scope["path"]
        handler = handlers.get(scope["method"])
        if handler is None:
            raise Refusal("wrong_method", [(b"allow", ", ".join(handlers).encode())])
        await handler(scope, receive, send)

    def _unless_stopping(self, handler: Handler) -> Handler:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if self._stopping:
                raise Refusal("stopping")
            await handler(scope, receive, send)

        return handle

    async def _described(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = {**self._model, "explains": await self._explaining.told()}
        await answer(send, 200, json.dumps(told).encode())

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, b'{"status": "ok"}')

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._stopping:
            raise Refusal("stopping")
        await answer(send, 200, b'{"status": "ok"}')

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, self._metrics.text(), CONTENT_TYPE)

    def _told(self, facts: Facts, seconds: float) -> None:
        self._metrics.request(facts.route or "other", facts.status, seconds, facts.code)
        self._log(logs.request_line(facts, seconds))

    def _fault(self, request: str, trace: str) -> None:
        self._log(logs.event_line("fault", id=request, traceback=trace))


def _static(name: str) -> bytes:
    return (Path(__file__).parent / "static" / name).read_bytes()


def _fixed(body: bytes, kind: bytes, policy: bytes | None = None) -> Handler:
    """A handler that always answers the same. A page is kept by browsers only as long as it is the same."""
    headers: Headers = []
    if policy is not None:
        headers = [(b"content-security-policy", policy), (b"cache-control", b"no-cache")]

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, 200, body, kind, headers)

    return handle
