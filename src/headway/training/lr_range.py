"""A learning rate found by trying: the range test of Smith 2017 ("Cyclical Learning Rates", arXiv 1506.01186, 3.3)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from headway.errors import Stopped
from headway.training.batch import Batch, Steps
from headway.training.batches import cut_batches, largest_part, shuffle
from headway.training.head_stepping import open_stepper
from headway.training.judging import Fed
from headway.training.norms import live_norms
from headway.training.optimizers import set_rates
from headway.training.task import LoopSettings, Task
from headway.world import World

_LOW, _HIGH, _STEPS = 1e-6, 10.0, 100
_MEMORY = 0.9  # how much of the smoothed loss is that of the steps before
_DIVERGED = 4.0  # times the lowest smoothed loss: no need to go on


@dataclass(frozen=True)
class Found:
    """The rate, why it is this one in a sentence, and every (rate, loss) that was tried."""

    lr: float
    why: str
    tried: tuple[tuple[float, float], ...]


def find_lr(task: Task, settings: LoopSettings, world: World) -> Found:
    """The learning rate at which the loss falls steepest, seen over the logarithm of the rate.

    Up to 100 steps with rates rising from 1e-6 to 10, by the settings' optimizer and batches, until the smoothed loss
    is four times its lowest. The model is left as it was. Same task, settings and threads: same rate. Where the loss
    never falls, the rate of the settings stands.
    """
    model = task.model
    mode = model.training
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    tried: list[tuple[float, float]] = []
    if settings.thaw_every:
        model.thaw(1)  # type: ignore[operator]
    stepper = open_stepper(task, replace(settings, schedule="none", ema=0.0), world)
    try:
        with closing(_tries(task, settings, stepper)) as trying:
            for pair in trying:
                tried.append(pair)
                if _diverged([loss for _, loss in tried]):
                    break
    finally:
        stepper.release()
        _restore(task, before)
        model.train(mode)
    tried = [pair for pair in tried if math.isfinite(pair[1])]
    lr = steepest([rate for rate, _ in tried], [loss for _, loss in tried])
    if lr is None:
        return Found(settings.lr, f"The loss fell at no rate tried; --lr {settings.lr:g} stands.", tuple(tried))
    why = f"The loss falls steepest at {lr:.3g} (range test of {len(tried)} rates up to {tried[-1][0]:.3g})."
    return Found(lr, why, tuple(tried))


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate where the smoothed loss falls most per factor of the rate, before its lowest; two digits. None: nowhere.

    rates  rising by one factor
    """
    smooth = smoothed(losses)
    lowest = int(np.argmin(smooth)) if len(smooth) else 0
    if lowest < 2:
        return None
    slopes = np.gradient(np.array(smooth[: lowest + 1]))
    position = int(np.argmin(slopes))
    return float(f"{rates[position]:.1e}") if slopes[position] < 0 else None


def smoothed(losses: Sequence[float]) -> list[float]:
    """The moving average of the losses, without the pull to 0 that its start has (as Adam's, Kingma and Ba 2015)."""
    found, mean = [], 0.0
    for number, loss in enumerate(losses, start=1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        found.append(mean / (1 - _MEMORY**number))
    return found


def _diverged(losses: Sequence[float]) -> bool:
    smooth = smoothed(losses)
    return not math.isfinite(smooth[-1]) or smooth[-1] > _DIVERGED * min(smooth)


def _tries(task: Task, settings: LoopSettings, stepper: Steps) -> Generator[tuple[float, float], None, None]:
    """(rate, loss) of each step, the step taken after it."""
    rates = np.geomspace(_LOW, _HIGH, _STEPS).tolist()
    micro, number = settings.micro_batch, 0
    for epoch in count(1):
        for batch, images in _epoch(task, settings, stepper, epoch):
            if number == len(rates):
                return
            met = stepper.gradients(batch, images, micro)
            while not met.fits:
                at_once = min(micro or settings.batch, largest_part(len(batch.positions), stepper.world))
                if at_once == 1:
                    raise Stopped("not enough memory for 1 image at once. Smaller images need less: --image")
                micro = (at_once + 1) // 2  # the rate is a guess anyway: BatchNorm may see fewer images for it
                stepper.undo()
                met = stepper.gradients(batch, images, micro)
            yield rates[number], met.loss
            if not math.isfinite(met.loss) or (stepper.scaler is None and not math.isfinite(met.norm)):
                return
            set_rates(stepper.optimizer, rates[number], None)
            stepper.apply()
            number += 1


def _epoch(
    task: Task, settings: LoopSettings, stepper: Steps, epoch: int
) -> Generator[tuple[Batch, Tensor], None, None]:
    fewest = 2 * stepper.world.size if live_norms(task.model) else 1
    cut = cut_batches(shuffle(len(task.train), settings.seed, epoch), settings.batch, min(fewest, settings.batch))
    batches = [
        Batch.of(positions, epoch, (number, len(cut)), settings, stepper.world)
        for number, positions in enumerate(cut, start=1)
    ]
    with closing(Fed(task.train.feed([batch.asked for batch in batches], epoch))) as fed:
        yield from zip(batches, fed.tensors, strict=True)


@torch.no_grad()
def _restore(task: Task, before: dict[str, Tensor]) -> None:
    for name, tensor in task.model.state_dict().items():
        tensor.copy_(before[name])
