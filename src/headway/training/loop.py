"""The training loop, the one for heads on features, for fine-tuning and from scratch: a generator of what happened.

Stateless in its randomness: order = f(seed, epoch), mixing = f(seed, epoch, batch), dropout = f(seed, epoch, batch,
rank). So a training that was stopped goes on from its checkpoint and ends in the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from headway.errors import HeadwayError, Refused, Stopped
from headway.training.averaging import Average
from headway.training.batch import Batch, Met
from headway.training.batches import count_batches, cut_batches, largest_part, shuffle
from headway.training.head_stepping import open_stepper
from headway.training.interrupts import undisturbed
from headway.training.judging import Fed, best_of, ending, measure, predict, told_ending
from headway.training.norms import live_norms, told_norms
from headway.training.optimizers import momentum_of, set_rates
from headway.training.schedules import Course
from headway.training.standing import Keeper, Standing, restore
from headway.training.task import (
    METRICS,
    OPTIMIZERS,
    Epoch,
    Feed,
    LoopSettings,
    Resumed,
    Rows,
    Step,
    Task,
    Trained,
    check_settings,
    told_conflicts,
)
from headway.world import World

__all__ = [
    "METRICS",
    "OPTIMIZERS",
    "Epoch",
    "Feed",
    "LoopSettings",
    "Resumed",
    "Rows",
    "Step",
    "Task",
    "Trained",
    "check_settings",
    "measure",
    "predict",
    "told_conflicts",
    "told_norms",
    "train",
]

Training = Generator[Epoch | Step | Resumed, None, Trained]

_TOLD_EVERY = 0.5  # seconds between two Steps


def train(
    task: Task,
    settings: LoopSettings,
    world: World,
    folder: Path | None = None,
    key: str = "",
    enough: Callable[[], bool] | None = None,
) -> Training:
    """Train `task.model`, in place; returns the state of the best epoch. The model is left with the last weights.

    folder  for checkpoints, None = none. One of the same `key` (a digest of all that decides the result) is gone on
            from; where training had ended, its result is returned at once
    enough  asked after every step and epoch: True ends training there ("time"), with the best epoch so far. In one
            process only; a step that no judgement followed counts for nothing

    What stops it from outside (an exception, Ctrl-C, the generator closed) finds the last completed step saved. Raises
    Refused where a setting is not understood, HeadwayError before a step whose loss or gradient is not finite, and
    Stopped where memory does not suffice and taking fewer images at once would change the result.
    """
    check_settings(settings)
    for name, rows in (("training", task.train), ("validation", task.val)):
        if len(rows) == 0:
            raise Refused(f"there are no {name} images: a model needs some to learn from and some to be chosen by")
    loop = _Loop(task, settings, Keeper(folder, key, world), enough)
    try:
        return (yield from loop.run())
    finally:
        loop.stepper.release()


class _Loop:
    """One training under way. All that a checkpoint needs is in `standing`, the stepper and the average."""

    def __init__(
        self, task: Task, settings: LoopSettings, keeper: Keeper, enough: Callable[[], bool] | None = None
    ) -> None:
        self.task, self.settings, self.keeper, self.world = task, settings, keeper, keeper.world
        fewest = 2 * self.world.size if _ever_live(task.model, settings) else 1
        # The statistics of one image in a process are none: a last batch that small goes with the one before.
        self.fewest = min(fewest, settings.batch)
        n_batches = count_batches(len(task.train), settings.batch, self.fewest)
        self.course = Course.of(settings.schedule, n_batches, settings.epochs, settings.warmup)
        self.standing = Standing()
        self.thawed = 0
        if settings.thaw_every:
            self._thaw(1)
        self.stepper = open_stepper(task, settings, self.world)
        self.average = Average(task.model, settings.ema) if settings.ema else None
        self.since = self.saved = time.monotonic()
        self.forwarded = False  # buffers may be ahead of the weights
        self.torn = False  # a step is half taken
        self.enough = enough
        self.unsaved = False

    def run(self) -> Training:
        """Everything, from the checkpoint or the beginning to the end."""
        found = self.keeper.load()
        if found is not None:
            self.standing = restore(found, self.stepper, self.average)
            yield _resumed(self.standing, found.facts["processes"], found.damaged, self.world)
        self.since = self.saved = time.monotonic()
        try:
            if self.settings.judge_start and not self.standing.history and not self.standing.step:
                yield self._judge(0, 0.0, (math.nan, math.nan))
            while not self.standing.ended:
                yield from self._epoch()
        except BaseException as error:
            self._rescue(error)
            raise
        standing = self.standing
        why = told_ending(standing.history, standing.ended, self.settings)
        return Trained(standing.best, tuple(standing.history), standing.ended, why, tuple(standing.micro_batches))

    def _epoch(self) -> Generator[Epoch | Step, None, None]:
        """The batches of an epoch that are left, then its judgement."""
        standing, settings = self.standing, self.settings
        if settings.thaw_every and self._thaw(1 + (standing.epoch - 1) // settings.thaw_every):
            self.stepper.prepare()
        order = shuffle(len(self.task.train), settings.seed, standing.epoch)
        cut = cut_batches(order, settings.batch, self.fewest)
        todo = [
            Batch.of(positions, standing.epoch, (number, len(cut)), settings, self.world)
            for number, positions in enumerate(cut, start=1)
            if number > standing.done
        ]
        told = time.monotonic()
        with closing(Fed(self.task.train.feed([batch.asked for batch in todo], standing.epoch))) as fed:
            for batch, images in zip(todo, fed.tensors, strict=True):
                self._step(batch, images)
                if batch.number < batch.total and self._ends():
                    return  # of the last one the judgement follows: it would be a pity to lose the epoch for it
                now = time.monotonic()
                if now - self.saved >= settings.checkpoint_seconds:
                    self._save()
                if now - told >= _TOLD_EVERY:
                    told = now
                    seen = min(batch.number * settings.batch, len(self.task.train))
                    yield Step(standing.epoch, batch.number, batch.total, standing.loss / seen)
        lr = settings.lr * self.course.factor((standing.epoch - 1) * self.course.per_epoch)
        n = len(self.task.train)
        yield self._judge(standing.epoch, lr, (standing.loss / n, standing.right / n))
        self._ends()

    def _ends(self) -> bool:
        """Whether time is up: the best epoch so far is then the result."""
        if self.enough is None or self.standing.ended or not self.standing.history or not self.enough():
            return False
        self.standing.ended, self.unsaved = "time", True
        self._save()
        return True

    def _step(self, batch: Batch, images: Tensor) -> None:
        """One step of the optimizer, or none: what raises in here leaves the last one to be saved."""
        standing, settings, stepper = self.standing, self.settings, self.stepper
        momentum = self.course.momentum(standing.step, momentum_of(settings))
        set_rates(stepper.optimizer, settings.lr * self.course.factor(standing.step), momentum)
        met = self._gradients(batch, images)
        if not math.isfinite(met.loss) or (stepper.scaler is None and not math.isfinite(met.norm)):
            raise HeadwayError(self._told_not_finite(batch, met))
        n = len(batch.positions)
        with undisturbed():
            self.torn = True
            taken = stepper.apply()
            if self.average is not None and taken:
                self.average.update(standing.step + 1)
            standing.step, standing.done = standing.step + 1, batch.number
            standing.loss, standing.right = standing.loss + met.loss * n, standing.right + met.right
            self.unsaved, self.forwarded, self.torn = True, False, False

    def _gradients(self, batch: Batch, images: Tensor) -> Met:
        """The gradients of a batch, of fewer images at once where memory does not hold them all."""
        while True:
            record = self.standing.micro_batches
            micro = record[-1][1] if record else self.settings.micro_batch
            self.stepper.remember()
            self.forwarded = True
            met = self.stepper.gradients(batch, images, micro)
            if met.fits:
                return met
            self.stepper.undo()
            self._halve(batch, min(micro or len(batch.positions), largest_part(len(batch.positions), self.world)))

    def _halve(self, batch: Batch, at_once: int) -> None:
        """Take half as many images at once from now on; Stopped where that is none, or another result."""
        where = f"not enough memory for {at_once} images at once in epoch {batch.epoch}, batch {batch.number}"
        if at_once == 1:
            raise Stopped(f"{where.replace('images', 'image')}. Smaller images need less: --image")
        half = (at_once + 1) // 2
        if self.stepper.norms_live and not self.settings.allow_inexact:
            raise Stopped(
                f"{where}. Of fewer at once BatchNorm takes other statistics, which changes the result. "
                f"Ask for that with --micro-batch {half}, or allow it wherever memory asks for it with --allow-inexact"
            )
        self.standing.micro_batches.append((self.standing.step, half))
        self.unsaved, self.forwarded = True, False
        self._save()

    def _judge(self, number: int, lr: float, met: tuple[float, float]) -> Epoch:
        """Validate; note the epoch, whether it is the best and whether it is the last."""
        standing, settings, model = self.standing, self.settings, self.task.model
        with self.average.shown() if self.average is not None else nullcontext():
            micro = standing.micro_batches[-1][1] if standing.micro_batches else settings.micro_batch
            logits = predict(model, self.task.val, min(micro or settings.batch, settings.batch), self.world)
            state = {name: _kept(tensor) for name, tensor in model.state_dict().items()}
        measured = measure(logits, np.asarray(self.task.val.labels))
        seconds = standing.seconds + time.monotonic() - self.since
        score, judged = measured[settings.keep], (measured["val.loss"], measured["val.accuracy"])
        epoch = Epoch(number, lr, *met, *judged, score=score, best=True, seconds=seconds)
        history = [*standing.history, epoch]
        if best_of(history, settings.keep) is not epoch:
            epoch = history[-1] = Epoch(number, lr, *met, *judged, score=score, best=False, seconds=seconds)
        with undisturbed():
            self.torn = True
            standing.history, standing.ended = history, ending(history, measured, settings)
            standing.best = state if epoch.best else standing.best
            standing.epoch, standing.done, standing.loss, standing.right = number + 1, 0, 0.0, 0.0
            self.unsaved, self.torn = True, False
        self._save()
        return epoch

    def _save(self) -> None:
        now = time.monotonic()
        self.standing.seconds += now - self.since
        self.since = now
        self.keeper.save(self.standing, self.stepper, self.average)
        self.saved, self.unsaved = time.monotonic(), False

    def _rescue(self, error: BaseException) -> None:
        """Save the last completed step, whatever came in between."""
        if self.torn:
            return  # the checkpoint before is whole
        if self.forwarded:
            self.stepper.undo()
        if self.unsaved:
            try:
                self._save()
            except OSError as failed:
                error.add_note(f"the last steps could not be saved: {failed}")

    def _thaw(self, k: int) -> bool:
        """Let the last `k` stages train; whether that is news."""
        if k == self.thawed:
            return False
        self.thawed = k
        self.task.model.thaw(k)  # type: ignore[operator]  # a network of stages: only such have thaw_every
        return True

    def _told_not_finite(self, batch: Batch, met: Met) -> str:
        n, shown = len(batch.positions), ", ".join(map(str, sorted(batch.positions[:5].tolist())))
        return (
            f"the loss or its gradient is not a finite number in epoch {batch.epoch}, batch {batch.number} of "
            f"{batch.total} (loss {met.loss}; {n} training images, at positions {shown}{', ...' if n > 5 else ''}); "
            f"that step was not taken. Try a lower learning rate: --lr {self.settings.lr / 10:g} "
            f"(it was {self.settings.lr:g})"
        )


def _ever_live(model: nn.Module, settings: LoopSettings) -> bool:
    """Whether BatchNorm takes statistics of batches at any time of the training."""
    mode = model.training
    if settings.thaw_every:
        model.thaw(None)  # type: ignore[operator]
    model.train()
    live = bool(live_norms(model))
    model.train(mode)
    return live


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _resumed(standing: Standing, processes: int, damaged: tuple[str, ...], world: World) -> Resumed:
    text = f"going on from the checkpoint after epoch {standing.epoch - 1}"
    if standing.ended:
        text = f"training had ended after epoch {standing.epoch - 1}; its checkpoint has the result"
    elif standing.done:
        text = f"going on from the checkpoint in epoch {standing.epoch}, after {standing.done} batches"
    if damaged:
        text += f"; newer ones were damaged and left alone: {', '.join(damaged)}"
    if standing.micro_batches:
        text += f"; {standing.micro_batches[-1][1]} images at once, as memory asked for before"
    if processes != world.size:
        text += f"; {processes} processes began it and {world.size} go on, so the last digits may differ"
    return Resumed(standing.epoch, standing.done, text)
