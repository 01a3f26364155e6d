"""The queue of images and the one thread that computes them, in batches of those that are there at the time.

Images of different requests share a batch, and no answer depends on that: the runtime gives an image the same numbers
beside any others, and what they say is worked out image by image. A batch waits only for images that are on their way.

What is taken on is bounded twice: by number, and by time. The pace at which images were answered lately, times those
taken on, is when one more would be answered; where that is past its deadline it is refused at once, not later.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headway.deployment.confidence import Levels
from headway.deployment.predictor import Model, Prediction, conclude
from headway.serving.limits import Limits
from headway.serving.metrics import Metrics
from headway.serving.refusals import Refusal

PAUSE = 0.02  # seconds by which a full server may be late to hear of anything
_NEWEST = 0.2  # weight of the newest batch in the pace
_LITTLE = 0.25  # of what is taken on may be computed meanwhile


@dataclass(frozen=True)
class Bad:
    """An image that cannot be answered, with the code of why."""

    code: str
    digest: str


Answer = Prediction | Bad


class Job:
    """The images of one request, answered when all of them are. Made and settled in the thread of its event loop."""

    def __init__(self, n: int, levels: Levels, top: int, deadline: float) -> None:
        self.levels, self.top, self.deadline = levels, top, deadline
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[Answer]] = self.loop.create_future()
        self.dropped = False  # nobody waits for it any more
        self.queue_seconds = 0.0  # the longest that one of its images waited for the engine
        self._answers: list[Answer | None] = [None] * n
        self._open = n

    @property
    def dead(self) -> bool:
        """Whether an answer would help nobody: the client left, or it would come too late."""
        return self.dropped or time.monotonic() > self.deadline

    def settle(self, at: int, answer: Answer | Exception) -> None:
        """The answer of its image number `at`, or the fault that ends the whole job."""
        if self.done.done() or self.dropped:
            return
        if isinstance(answer, Exception):
            self.done.set_exception(answer)
            return
        self._answers[at] = answer
        self._open -= 1
        if not self._open:
            self.done.set_result([found for found in self._answers if found is not None])


@dataclass(eq=False)
class Ticket:
    """One image on its way. taken, queued: seconds of time.monotonic."""

    job: Job
    at: int
    content: bytes
    taken: float = field(default_factory=time.monotonic)
    queued: float = 0.0
    digest: str = ""
    pixels: NDArray[np.uint8] | None = None  # (S, S, 3), once it is prepared

    def tell(self, answer: Answer | Exception) -> None:
        """Hand its answer to the job, from any thread."""
        with suppress(RuntimeError):  # the loop has ended; nobody waits
            self.job.loop.call_soon_threadsafe(self.job.settle, self.at, answer)


class Batches:
    """`model` with its queue and its thread. `largest` images are computed at once, at most."""

    def __init__(self, model: Model, limits: Limits, largest: int, metrics: Metrics) -> None:
        self._model, self._limits, self._largest, self._metrics = model, limits, largest, metrics
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._inside = 0  # taken on and not yet answered, wherever they are
        self._pace = 0.0  # seconds an image, while there is something to do
        self._last = 0.0  # when the last batch ended
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="headway-engine", daemon=True)
        self._thread.start()

    @property
    def inside(self) -> int:
        """Images that are taken on and not yet answered."""
        return self._inside

    def full(self, n: int = 1) -> bool:
        """Whether `n` more images could not be answered in time."""
        late = self._pace * (self._inside + n) > self._limits.deadline_s
        return self._inside + n > self._limits.queue or (late and self._inside > 0)

    def pause(self) -> float:
        """Seconds, at most `PAUSE`, after which most of the images that are taken on are still to be computed."""
        return min(PAUSE, _LITTLE * self._pace * self._inside)

    def check(self, n: int = 1) -> None:
        """Raise Refusal where it is full."""
        if self.full(n):
            raise Refusal("busy")

    def take_on(self, n: int) -> None:
        """Count `n` images in; each of them must then be `put` or `left_out`. Raises Refusal as `check` does."""
        with self._changed:
            self.check(n)
            self._inside += n

    def put(self, ticket: Ticket) -> None:
        """A prepared image, to be computed."""
        ticket.queued = time.monotonic()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.notify()

    def leave_out(self) -> None:
        """An image that was taken on will not come: it is bad, or nobody waits for it."""
        with self._changed:
            self._inside -= 1
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the batch that it computes."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            alive = [ticket for ticket in batch if not ticket.job.dead]
            start = time.monotonic()
            try:
                told: Sequence[Answer | Exception] = self._answers(alive) if alive else []
            except Exception as error:  # the thread outlives whatever a batch does; the gate tells it as a fault
                told = [error] * len(alive)
            end = time.monotonic()
            with self._changed:
                self._inside -= len(batch)
                if alive:
                    taken = min(ticket.taken for ticket in alive)
                    newest = (end - max(self._last, taken)) / len(alive)
                    self._pace = newest if not self._pace else self._pace + _NEWEST * (newest - self._pace)
                self._last = end
            if alive:  # before the answers, so that who has one finds it counted
                self._metrics.batch([start - ticket.queued for ticket in alive], end - start)
            for ticket, answer in zip(alive, told, strict=True):
                ticket.job.queue_seconds = max(ticket.job.queue_seconds, start - ticket.queued)
                ticket.tell(answer)

    def _next(self) -> list[Ticket] | None:
        """The images that are computed next, in the order in which they came; None when it is over."""
        with self._changed:
            self._wait(lambda: bool(self._waiting), None)
            until = time.monotonic() + self._limits.wait_ms / 1000
            self._wait(lambda: len(self._waiting) >= min(self._largest, self._inside), until)
            if self._closed:
                return None
            return [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]

    def _wait(self, enough: Callable[[], bool], until: float | None) -> None:
        while not (self._closed or enough()):
            rest = None if until is None else until - time.monotonic()
            if rest is not None and rest <= 0:
                return
            self._changed.wait(rest)

    def _answers(self, tickets: Sequence[Ticket]) -> list[Answer]:
        pixels = np.stack([ticket.pixels for ticket in tickets if ticket.pixels is not None])
        asks = any(ticket.job.levels.unknown is not None for ticket in tickets)
        features: Sequence[NDArray[np.float32] | None] = [None] * len(tickets)
        if asks and self._model.confidence.unknown is not None:
            logits, found = self._model.both(pixels)
            features = list(found)
        else:
            logits = self._model.logits(pixels)
        return [
            conclude(
                self._model, row, more, name="", digest=ticket.digest, top=ticket.job.top, levels=ticket.job.levels
            )
            for ticket, row, more in zip(tickets, logits, features, strict=True)
        ]
