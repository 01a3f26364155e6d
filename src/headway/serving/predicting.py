"""From the bytes of a request's images to its answer: decoding in a few threads, the queue, the deadline."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headway.backbones.preprocess import prepare
from headway.data.images import BadImage, TooManyPixels, decode
from headway.deployment.bundle import Bundle
from headway.deployment.confidence import Levels
from headway.deployment.predictor import content_digest
from headway.deployment.runtime import BATCH
from headway.serving.asgi import FACTS, Facts, Receive, Scope, Send, answer
from headway.serving.asking import code_of, first_of, read_asked
from headway.serving.batching import Answer, Bad, Batches, Job, Ticket
from headway.serving.bodies import Asked
from headway.serving.facts import usual_levels
from headway.serving.limits import Limits
from headway.serving.metrics import Metrics
from headway.serving.refusals import Refusal

TOP = 5  # classes that an answer has where nothing is said
# Pixels beyond which images are decoded one after the other, so that as many at once as there are cores do not fill the
# memory: one of 200 million takes 600 MB. Others go on meanwhile.
_LARGE = 16_000_000


class Predictor:
    """`POST /predict` for one bundle. `threads` decode; the queue has its own. `model`: told in every answer."""

    def __init__(
        self, bundle: Bundle, limits: Limits, threads: int, metrics: Metrics, model: Mapping[str, Any]
    ) -> None:
        self._bundle, self._limits, self._metrics = bundle, limits, metrics
        self._max_pixels = limits.max_pixels or bundle.max_pixels
        self._usual = usual_levels(bundle.confidence)
        self._model = dict(model)
        openvino = bundle.manifest.engine["name"] == "openvino"
        self._batches = Batches(bundle, limits, max(BATCH, threads) if openvino else BATCH, metrics)
        self._pool = ThreadPoolExecutor(threads, "headway-decode")
        self._large = ThreadPoolExecutor(1, "headway-large")
        metrics.watch(lambda: self._batches.inside)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
        self._large.shutdown(cancel_futures=True)
        self._batches.close()

    def full(self) -> bool:
        """Whether one more image would be refused."""
        return self._batches.full()

    def pause(self) -> float:
        """How long the images that are taken on last, with plenty to spare: seconds."""
        return self._batches.pause()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Refusal and ClientLeft, which the gate answers."""
        facts: Facts = scope[FACTS]
        deadline = time.monotonic() + self._limits.deadline_s
        self._batches.check()  # before the body is read
        asked = await read_asked(scope, receive, self._pool, self._limits.max_images)
        facts.images = len(asked.images)
        levels = self._levels(asked)
        self._batches.take_on(len(asked.images))
        job = Job(len(asked.images), levels, asked.top or TOP, deadline)
        for at, content in enumerate(asked.images):
            self._pool.submit(self._prepare, Ticket(job, at, content), min(_LARGE, self._max_pixels))
        try:
            answers = await first_of(job.done, receive, deadline)
        finally:
            job.dropped = True
        facts.queue_ms = round(1000 * job.queue_seconds, 3)
        for each in answers:
            self._metrics.image(each.code if isinstance(each, Bad) else "ok")
        if len(answers) == 1 and isinstance(answers[0], Bad):
            raise Refusal(answers[0].code)
        told = {"model": self._model, "predictions": [_told(each) for each in answers], "request": facts.id}
        await answer(send, 200, json.dumps(told).encode())

    def _levels(self, asked: Asked) -> Levels:
        sets, unknown = self._bundle.confidence.sets, self._bundle.confidence.unknown
        if asked.coverage is not None and (sets is None or not sets.promises(asked.coverage)):
            raise Refusal("not_promised")
        if asked.unknown is not None and (unknown is None or asked.unknown < unknown.least):
            raise Refusal("not_promised")
        coverage = self._usual.coverage if asked.coverage is None else asked.coverage
        return Levels(coverage, self._usual.unknown if asked.unknown is None else asked.unknown)

    def _prepare(self, ticket: Ticket, max_pixels: int) -> None:
        """In a thread: one image, from its bytes to the queue. What is large waits for the one thread for such."""
        try:
            if ticket.job.dead:
                self._batches.leave_out()
                return
            start = time.monotonic()
            ticket.digest = content_digest(ticket.content)
            shortest = self._bundle.preprocess.draft
            decoded = decode(ticket.content, "image", shortest=shortest, max_pixels=max_pixels)
            ticket.pixels = prepare(decoded.image, self._bundle.preprocess)
            ticket.content = b""
            self._metrics.decoded(time.monotonic() - start)
        except BadImage as error:
            if isinstance(error, TooManyPixels) and max_pixels < self._max_pixels:
                self._large.submit(self._prepare, ticket, self._max_pixels)
                return
            self._batches.leave_out()
            ticket.tell(Bad(code_of(error), ticket.digest))
        except Exception as error:  # told by the gate as a fault
            self._batches.leave_out()
            ticket.tell(error)
        else:
            self._batches.put(ticket)


def _told(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Bad):
        return {"error": {"code": answer.code}, "digest": answer.digest}
    told = answer.to_json()
    del told["name"]
    return told
