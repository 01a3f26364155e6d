"""Learning rate and momentum of every step, as plain functions of its number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headway.errors import Refused, nearest

SCHEDULES = ("none", "cosine", "onecycle", "step:7:0.1")

# One cycle, as in torch's OneCycleLR (Smith 2018, "A disciplined approach to neural network hyper-parameters", 4.1):
# up over the first 30 % of all steps from lr / 25, then down to lr / 250,000. Momentum goes the other way, by 0.1.
_RISE, _BELOW, _END = 0.3, 25.0, 25.0 * 1e4
_MOMENTUM_DIP = 0.1
_WARM_FROM = 0.01


@dataclass(frozen=True)
class Schedule:
    """A parsed schedule. name none | cosine | onecycle | step; every and factor act with step only."""

    name: str
    every: int = 1
    factor: float = 1.0


def parse_schedule(text: str) -> Schedule:
    """ "step:7:0.1" → Schedule("step", 7, 0.1). Raises Refused where `text` is not understood."""
    if text in ("none", "cosine", "onecycle"):
        return Schedule(text)
    name, _, rest = text.partition(":")
    if name == "step":
        every, _, factor = rest.partition(":")
        try:
            step, times = int(every), float(factor)
        except ValueError:
            step, times = 0, 0.0
        if step >= 1 and 0 < times <= 1:
            return Schedule(name, step, times)
    near = nearest(text, SCHEDULES, 1) or ["cosine"]
    raise Refused(
        f"--schedule {text} is not known. Nearest: {near[0]}. "
        "Known: none, cosine, onecycle, step:EVERY:FACTOR (step:7:0.1 = times 0.1 every 7 epochs)"
    )


@dataclass(frozen=True)
class Course:
    """The steps of a whole training.

    per_epoch  steps of one epoch; total steps of all epochs; warm steps of linear warm-up
    """

    schedule: Schedule
    per_epoch: int
    total: int
    warm: int = 0

    @staticmethod
    def of(schedule: str, per_epoch: int, epochs: int, warmup: float = 0.0) -> Course:
        """The course of `epochs` epochs; `warmup` in epochs, at most all of them."""
        total = per_epoch * epochs
        return Course(parse_schedule(schedule), per_epoch, total, min(round(warmup * per_epoch), total))

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by in `step` (from 0).

        Warm-up rises linearly from 1/100; cosine falls from 1 after it to 0 at the end of the last step.
        """
        if self.schedule.name == "onecycle":
            return self._cycle(step, 1 / _BELOW, 1.0, 1 / _END)
        warm = _WARM_FROM + (1 - _WARM_FROM) * step / self.warm if step < self.warm else 1.0
        if self.schedule.name == "cosine" and step >= self.warm:
            return 0.5 * (1 + math.cos(math.pi * (step - self.warm) / max(1, self.total - self.warm)))
        if self.schedule.name == "step":
            return warm * float(self.schedule.factor ** (step // self.per_epoch // self.schedule.every))
        return warm

    def momentum(self, step: int, momentum: float) -> float:
        """The momentum in `step`: falls by 0.1 and comes back with onecycle, where there is any."""
        if self.schedule.name != "onecycle" or not momentum:
            return momentum
        return self._cycle(step, momentum, max(0.0, momentum - _MOMENTUM_DIP), momentum)

    def _cycle(self, step: int, start: float, top: float, end: float) -> float:
        """From `start` to `top` at 30 % of the steps, to `end` in the last one, along half cosines."""
        peak = _RISE * self.total - 1
        if step <= peak:
            return _anneal(start, top, step / peak)
        return _anneal(top, end, (step - peak) / (self.total - 1 - peak) if self.total - 1 > peak else 1.0)


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(share, 1.0)))
