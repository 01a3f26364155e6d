"""What a server counts, in the text format of Prometheus. One registry a server, none that is shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_IMAGES = (1, 2, 3, 4, 8, 16, 32)


class Metrics:
    """The counters of one worker; every series bears its number, as each worker counts for itself."""

    def __init__(self, worker: int = 1) -> None:
        self._registry = CollectorRegistry()
        who = {"worker": str(worker)}

        only: Any = {"registry": self._registry}
        timed: Any = {**only, "buckets": _SECONDS}
        label = ["worker"]
        self._who = who
        self._kept: dict[tuple[str | int, ...], Any] = {}
        self._requests = Counter("headway_requests", "Requests that ended", [*label, "route", "status"], **only)
        self._refused = Counter("headway_refused", "Refusals by their code", [*label, "code"], **only)
        self._images = Counter("headway_images", "Images that were answered", [*label, "outcome"], **only)
        seconds = "From the head of a request to its answer"
        self._seconds = Histogram("headway_request_seconds", seconds, [*label, "route"], **timed)
        told = "To decode and prepare an image"
        self._decode = Histogram("headway_decode_seconds", told, label, **timed).labels(**who)
        told = "An image waited for the engine"
        self._queue = Histogram("headway_queue_seconds", told, label, **timed).labels(**who)
        told = "To compute a batch"
        self._engine = Histogram("headway_engine_seconds", told, label, **timed).labels(**who)
        self._batch = Histogram("headway_batch_images", "Images in a batch", label, buckets=_IMAGES, **only).labels(
            **who
        )
        told = "Images taken on and not yet answered"
        self._waiting = Gauge("headway_waiting_images", told, label, **only).labels(**who)

    def watch(self, waiting: Callable[[], int]) -> None:
        """Tell `waiting()` as the number of images that are taken on."""
        self._waiting.set_function(waiting)

    def request(self, route: str, status: int, seconds: float, code: str | None) -> None:
        """A request ended."""
        self._series("requests", route, status).inc()
        self._series("seconds", route).observe(seconds)
        if code is not None:
            self._series("refused", code).inc()

    def _series(self, name: str, *labels: str | int) -> Any:
        """One series, kept: to look it up by its labels takes as long as the rest of a refusal."""
        found = self._kept.get((name, *labels))
        if found is None:
            family: Any = getattr(self, f"_{name}")
            found = self._kept[(name, *labels)] = family.labels(self._who["worker"], *labels)
        return found

    def decoded(self, seconds: float) -> None:
        """An image was decoded and prepared."""
        self._decode.observe(seconds)

    def image(self, outcome: str) -> None:
        """An image was answered: "ok", or the code of what is wrong with it."""
        self._images.labels(**self._who, outcome=outcome).inc()

    def batch(self, waited: Sequence[float], seconds: float) -> None:
        """A batch of len(waited) images was computed in `seconds`, after each waited that long."""
        self._batch.observe(len(waited))
        self._engine.observe(seconds)
        for each in waited:
            self._queue.observe(each)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
