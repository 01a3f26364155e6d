"""One batch of a step: its images, mixed or not, what they are to be told as, and what the step met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.training import mixing
from headway.training.batches import own_part
from headway.training.optimizers import Optimizer
from headway.training.task import LoopSettings, Task
from headway.world import World


@dataclass(frozen=True)
class Batch:
    """One batch of an epoch, and the part of this process.

    number  from 1, of `total`; positions (b,) of all processes
    own     which of them are this process's
    asked   positions that its feed is asked for: the own ones, then those that they are mixed with
    others  (n_own,) where in `asked` the other image of each own one is; None = nothing is mixed
    """

    epoch: int
    number: int
    total: int
    positions: NDArray[np.intp]
    own: slice
    asked: NDArray[np.intp]
    others: NDArray[np.intp] | None
    mix: mixing.Mix | None

    @property
    def n_own(self) -> int:
        return int(self.own.stop - self.own.start)

    @staticmethod
    def of(
        positions: NDArray[np.intp], epoch: int, place: tuple[int, int], settings: LoopSettings, world: World
    ) -> Batch:
        """`place`: number of the batch, and of how many."""
        own = own_part(len(positions), world)
        mix = mixing.draw(settings.mixup, settings.cutmix, len(positions), settings.seed, epoch, place[0])
        if mix is None or own.stop == own.start:
            asked = positions[own] if own.stop > own.start else positions[:1]
            return Batch(epoch, *place, positions, own, asked, None, mix)
        partners = mix.partners[own]  # positions in the batch
        outside = partners[(partners < own.start) | (partners >= own.stop)]
        asked = np.concatenate([positions[own], positions[outside]])
        where = {int(partner): own.stop - own.start + index for index, partner in enumerate(outside)}
        others = np.array([where.get(int(partner), int(partner) - own.start) for partner in partners], dtype=np.intp)
        return Batch(epoch, *place, positions, own, asked, others, mix)


@dataclass(frozen=True)
class Met:
    """What one batch gave, over all processes: mean loss, images that were right, norm of the gradient.

    fits  whether memory held it; else the rest means nothing
    """

    loss: float
    right: float
    norm: float
    fits: bool = True


@dataclass(frozen=True)
class Targets:
    """Labels (b,) of some images, and of those that they are mixed with; `share` of the first, the rest the second's.

    weight  of the whole batch, all processes together: its images, or their class weights
    """

    first: Tensor
    second: Tensor | None
    share: float
    weight: float

    def at(self, chunk: slice) -> Targets:
        """Those of some of the images."""
        return Targets(self.first[chunk], None if self.second is None else self.second[chunk], self.share, self.weight)


class Steps(Protocol):
    """What takes the steps of a training: `stepping.Stepper` for any model, `head_stepping.HeadStepper` for heads.

    scaler      the loss scaler of fp16; None otherwise
    norms_live  whether BatchNorm takes statistics of batches
    """

    model: nn.Module
    world: World

    @property
    def optimizer(self) -> Optimizer: ...

    @property
    def scaler(self) -> Any: ...

    @property
    def norms_live(self) -> bool: ...

    def prepare(self) -> None:
        """To be called again when what of the model trains has changed."""

    def release(self) -> None:
        """Hand the model back as it came, on the CPU."""

    def remember(self) -> None:
        """Before a forward pass: note what it may move."""

    def undo(self) -> None:
        """After a forward pass that no step follows: all as it was."""

    def gradients(self, batch: Batch, images: Tensor, micro: int | None) -> Met:
        """Gradients of the mean loss of the whole batch; `images` is what the feed gave for `batch.asked`."""

    def apply(self) -> bool:
        """Take the step; whether it was taken."""


class Labels:
    """Labels (N,) of the training rows, and how much each class counts."""

    def __init__(self, task: Task) -> None:
        self._labels = torch.from_numpy(np.array(task.train.labels, dtype=np.int64))
        weights = task.class_weights
        self.weights = None if weights is None else torch.from_numpy(np.array(weights, dtype=np.float32))

    def mixed(self, batch: Batch, images: Tensor) -> tuple[Tensor, Targets]:
        """The images of the own part, mixed where that is asked for, and their targets, on the images' device.

        images  what the feed gave for `batch.asked`
        """
        first, share = self._labels[torch.from_numpy(batch.positions)], 1.0
        second = None
        if batch.mix is not None:
            second = first[torch.from_numpy(batch.mix.partners)]
            if batch.others is not None:
                others = images[torch.from_numpy(batch.others).to(images.device)]
                images, share = mixing.blend(batch.mix, images[: batch.n_own], others)
            else:  # an empty part: how much counts follows from the shape of any image
                _, share = mixing.blend(batch.mix, images, images)
        weight = share * self._weigh(first) + (0.0 if second is None else (1 - share) * self._weigh(second))
        here = [None if labels is None else labels[batch.own].to(images.device) for labels in (first, second)]
        assert here[0] is not None
        return images, Targets(here[0], here[1], share, weight)

    def _weigh(self, labels: Tensor) -> float:
        return float(len(labels) if self.weights is None else self.weights[labels].sum())


def chunks(n: int, micro: int | None) -> list[slice]:
    """`n` images, `micro` at once; None = all."""
    size = micro or n
    return [slice(low, min(low + size, n)) for low in range(0, n, size)] if n else []


def exact_norm(gradients: list[Tensor]) -> float:
    """The norm in float64: that of float32 overflows though every number is finite."""
    return math.sqrt(sum(float(gradient.detach().cpu().to(torch.float64).square().sum()) for gradient in gradients))
