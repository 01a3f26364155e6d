"""Tiny networks and data for the training loop, and helpers that follow it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.training.loop import Epoch, Feed, LoopSettings, Rows, Task, Trained, train
from headway.world import ALONE


class ConvNet(nn.Module):
    """Images (B, 8, 8, 3), uint8 or floats → logits (B, 3). dropout and norm switch what is random and what keeps."""

    def __init__(self, norm: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.second = nn.Conv2d(6, 8, 3, 2, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        x = self.second(self.norm(self.first(x)).relu()).relu().mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(x))
        return logits


class Heavy(ConvNet):
    """As if memory held `holds` images."""

    holds = 5

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        if len(images) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return logits


def network(**options: Any) -> ConvNet:
    """Always the same random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return ConvNet(**options)


def images(n: int, seed: int = 0) -> tuple[Tensor, NDArray[np.int64]]:
    """Images (n, 8, 8, 3) uint8 whose colour hints at their label, and the labels (n,), 0..2."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = random.integers(0, 160, (n, 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(n), :, :, labels] += 60
    return torch.from_numpy(pixels), labels


def feed_of(inputs: Tensor) -> Feed:
    """A feed of what is in memory, the same in every epoch."""
    return lambda batches, epoch: (inputs[torch.from_numpy(batch)] for batch in batches)


def rows(n: int, seed: int = 0) -> Rows:
    pixels, labels = images(n, seed)
    return Rows(feed_of(pixels), labels)


def task(n: int = 44, model: nn.Module | None = None, n_val: int = 30) -> Task:
    return Task(network() if model is None else model, rows(n), rows(n_val, seed=1))


def finish(training: Generator[Any, None, Trained]) -> tuple[list[Any], Trained]:
    """Everything that a training yields, and what it returns."""
    seen: list[Any] = []
    while True:
        try:
            seen.append(next(training))
        except StopIteration as end:
            return seen, end.value


def trained(task: Task, settings: LoopSettings) -> Trained:
    return finish(train(task, settings, ALONE))[1]


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states hold the same bits under the same names."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].numpy().tobytes() == other[name].numpy().tobytes()
        for name in one
    )


def curve(epochs: Sequence[Epoch]) -> list[tuple[float, ...]]:
    """What must not depend on the clock."""
    return [(e.epoch, e.lr, e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy, e.best) for e in epochs]


def interrupting(feed: Feed, at: int, error: Callable[[], BaseException]) -> Feed:
    """A feed that raises in the place of its batch number `at` (from 0) over all training epochs."""
    given = [0]

    def broken(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        for tensor in feed(batches, epoch):
            if epoch and given[0] == at:
                raise error()
            given[0] += bool(epoch)
            yield tensor

    return broken
