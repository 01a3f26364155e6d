"""The server's log: one JSON object a line. Never a name that a client chose, never content."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from headway.serving.asgi import Facts

Write = Callable[[str], object]


def request_line(facts: Facts, seconds: float) -> str:
    """The line of a finished request; `status` 499 means that the client left before its answer."""
    return _line(
        id=facts.id,
        method=facts.method,
        route=facts.route or "other",
        status=facts.status,
        code=facts.code,
        bytes_in=facts.taken,
        bytes_out=facts.given,
        ms=round(1000 * seconds, 3),
        queue_ms=facts.queue_ms,
        images=facts.images,
    )


def event_line(event: str, **more: Any) -> str:
    """The line of anything else: a fault with its traceback, a worker that ended."""
    return _line(event=event, **more)


def _line(**values: Any) -> str:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    told = {"time": stamp, **{name: value for name, value in values.items() if value is not None}}
    return json.dumps(told) + "\n"
