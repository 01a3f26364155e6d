"""The queue and its thread: who shares a batch, who is refused, what a fault does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.backbones.preprocess import Preprocess
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.confidence import NONE, Confidence
from headway.deployment.predictor import conclude
from headway.serving.batching import PAUSE, Batches, Job, Ticket
from headway.serving.limits import Limits
from headway.serving.metrics import Metrics
from headway.serving.refusals import Refusal
from tests.deployment import toys

LONG = 60_000.0  # milliseconds: whoever waits for so long without need fails by the timeout


class Watched:
    """A bundle that notes how many images it computes at once, and takes `seconds` for each batch."""

    def __init__(self, bundle: Bundle, seconds: float = 0.0) -> None:
        self._bundle, self._seconds = bundle, seconds
        self.sizes: list[int] = []
        self.preprocess: Preprocess = bundle.preprocess
        self.classes, self.temperature, self.max_pixels = bundle.classes, bundle.temperature, bundle.max_pixels
        self.confidence: Confidence = bundle.confidence

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(images))
        time.sleep(self._seconds)
        if (images == 0).all():
            raise RuntimeError("a fault")
        return self._bundle.logits(images)

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        raise AssertionError("nobody asked for it")


def queued(model: Watched, limits: Limits, use: Callable[[Batches], Awaitable[Any]]) -> Any:
    """What `use(batches)` returns, of a queue that is closed afterwards."""
    batches = Batches(model, limits, 4, Metrics())

    async def run() -> Any:
        async with asyncio.timeout(30):
            return await use(batches)

    try:
        return asyncio.run(run())
    finally:
        batches.close()


def tickets(images: NDArray[np.uint8], seconds: float = 20) -> tuple[Job, list[Ticket]]:
    job = Job(len(images), NONE, 5, time.monotonic() + seconds)
    return job, [Ticket(job, at, b"", digest=str(at), pixels=image) for at, image in enumerate(images)]


@pytest.fixture
def model(plain: Path) -> Watched:
    return Watched(load_bundle(plain, threads=1))


def test_batch__four_at_most_and_every_answer_at_its_place(model: Watched, plain: Path) -> None:
    images = toys.images(9)

    async def use(batches: Batches) -> list[Any]:
        batches.take_on(9)
        job, ordered = tickets(images)
        for ticket in reversed(ordered):
            batches.put(ticket)
        return await job.done

    found = queued(model, Limits(wait_ms=LONG), use)
    alone = load_bundle(plain, threads=1)
    wanted = [conclude(alone, alone.logits(images[at : at + 1])[0], None, name="", digest=str(at)) for at in range(9)]

    assert model.sizes == [4, 4, 1]
    assert found == wanted


def test_batch__waits_for_none_where_none_is_on_its_way(model: Watched) -> None:
    async def use(batches: Batches) -> None:
        for _ in range(3):
            batches.take_on(1)
            job, (ticket,) = tickets(toys.images(1))
            batches.put(ticket)
            await job.done

    queued(model, Limits(wait_ms=LONG), use)

    assert model.sizes == [1, 1, 1]


def test_batch__waits_for_one_on_its_way_until_it_is_left_out(model: Watched) -> None:
    async def use(batches: Batches) -> tuple[int, int]:
        batches.take_on(3)
        job, (first, second) = tickets(toys.images(2))
        batches.put(first)
        await asyncio.sleep(0.1)
        batches.put(second)
        await asyncio.sleep(0.1)
        before = len(model.sizes)
        batches.leave_out()
        await job.done
        return before, batches.inside

    assert queued(model, Limits(wait_ms=LONG), use) == (0, 0)
    assert model.sizes == [2]


def test_batch__waits_no_longer_than_stated(model: Watched) -> None:
    async def use(batches: Batches) -> None:
        batches.take_on(2)
        job, (ticket,) = tickets(toys.images(1))
        batches.put(ticket)
        await job.done  # the other one never comes

    queued(model, Limits(wait_ms=20), use)

    assert model.sizes == [1]


def test_fault__ends_its_batch_and_nothing_else(model: Watched) -> None:
    async def use(batches: Batches) -> Any:
        batches.take_on(1)
        job, (ticket,) = tickets(np.zeros((1, toys.SIZE, toys.SIZE, 3), np.uint8))
        batches.put(ticket)
        with pytest.raises(RuntimeError, match="a fault"):
            await job.done
        batches.take_on(1)
        job, (ticket,) = tickets(toys.images(1))
        batches.put(ticket)
        return await job.done, batches.inside

    (answer,), inside = queued(model, Limits(), use)

    assert answer.label in toys.CLASSES
    assert inside == 0


def test_full__by_number(model: Watched) -> None:
    async def use(batches: Batches) -> list[bool]:
        batches.take_on(5)
        return [batches.full(n) for n in (1, 2, 3)]

    assert queued(model, Limits(queue=7), use) == [False, False, True]


def test_full__by_what_the_present_pace_can_answer_in_time(plain: Path) -> None:
    slow = Watched(load_bundle(plain, threads=1), seconds=0.1)

    async def use(batches: Batches) -> tuple[bool, bool, bool]:
        batches.take_on(1)
        job, (ticket,) = tickets(toys.images(1))
        batches.put(ticket)
        await job.done  # the pace is 0.1 s an image or a little more
        alone = batches.full(1000)  # whatever it takes, somebody must be the first
        batches.take_on(1)
        with pytest.raises(Refusal, match="busy"):
            batches.take_on(99)
        return alone, batches.full(1), batches.full(99)

    assert queued(slow, Limits(queue=10_000, deadline_s=8), use) == (False, False, True)


def test_pause__is_a_part_of_the_time_that_the_images_inside_take(plain: Path) -> None:
    slow = Watched(load_bundle(plain, threads=1), seconds=0.02)

    async def use(batches: Batches) -> list[float]:
        found = [batches.pause()]
        batches.take_on(1)
        found.append(batches.pause())  # no pace is known yet
        job, (ticket,) = tickets(toys.images(1))
        batches.put(ticket)
        await job.done  # the pace is 0.02 s an image or more
        for n in (0, 1, 1000):
            batches.take_on(n)
            found.append(batches.pause())
        return found

    before, unknown, nothing, one, many = queued(slow, Limits(queue=10_000, deadline_s=1e9), use)

    assert (before, unknown, nothing) == (0, 0, 0)
    assert 0.005 <= one <= many
    assert many == PAUSE
