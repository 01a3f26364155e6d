"""A head trained by epochs, on features: what is to be trained, and its layers afterwards."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.errors import Refused
from headway.training.batches import seed_of
from headway.training.head_layers import Standardise, build_head, head_layers
from headway.training.heads import Layer
from headway.training.judging import Fed
from headway.training.loop import Epoch, LoopSettings, Resumed, Rows, Step, Task, Trained, train
from headway.world import ALONE


@dataclass(frozen=True)
class HeadShape:
    """What a head that is trained by epochs is like.

    hidden       widths of the hidden layers; () = one linear layer
    dropout      share dropped of what the first, second, ... hidden layer reads; 0 for those not named
    standardize  train on features of mean 0 and deviation 1; folded into the first layer afterwards
    """

    hidden: tuple[int, ...] = ()
    dropout: tuple[float, ...] = ()
    standardize: bool = True

    @property
    def dropouts(self) -> tuple[float, ...]:
        """One share for each hidden layer."""
        return (*self.dropout, *[0.0] * (len(self.hidden) - len(self.dropout)))


@dataclass(frozen=True)
class TrainedHead:
    """Layers of the kept epoch, on raw features, and the training that they come from."""

    layers: tuple[Layer, ...]
    trained: Trained


def head_task(
    rows: Rows,
    val: Rows,
    n_classes: int,
    shape: HeadShape,
    seed: int,
    weights: NDArray[np.floating[Any]] | None = None,
) -> Task:
    """A random head and the features to train it on: the feeds give (b, D) float32. `weights` (C,) of the classes.

    Raises Refused where the shape's dropout does not fit its layers.
    """
    if len(shape.dropout) > len(shape.hidden) or not all(0 <= share < 1 for share in shape.dropout):
        raise Refused(
            f"--dropout {','.join(f'{share:g}' for share in shape.dropout)}: expected at most "
            f"{len(shape.hidden)} numbers from 0 to below 1, one before each hidden layer"
        )
    mean, scale = moments(rows)  # the width is known after it, too
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "head"))
        head = build_head(len(mean), shape.hidden, shape.dropouts, n_classes)
    model = nn.Sequential(Standardise(mean, scale), head) if shape.standardize else head
    of_class = None if weights is None else np.asarray(weights, dtype=np.float32)
    return Task(model, rows, val, class_weights=of_class)


def train_head(
    task: Task, settings: LoopSettings, folder: Path | None = None, key: str = ""
) -> Generator[Epoch | Step | Resumed, None, TrainedHead]:
    """Train the head of a `head_task`, alone; the layers of the best epoch. Raises what `loop.train` raises."""
    trained = yield from train(task, settings, ALONE, folder, key)
    task.model.load_state_dict(trained.state)
    return TrainedHead(head_layers(task.model), trained)


def moments(rows: Rows, size: int = 256) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation (0 for a constant) of the features, (D,) float32 each; `size` rows at once.

    Few of them, and in place: memory that is new costs more than the arithmetic.
    """
    count, mean, square = 0, torch.zeros(()), torch.zeros(())
    everyone = np.arange(len(rows))
    batches = [everyone[low : low + size] for low in range(0, len(rows), size)]
    with closing(Fed(rows.feed(batches, 0))) as fed:
        for features in fed.tensors:
            n, batch = len(features), features.to(torch.float64, copy=True)
            # Batches are merged by their means, so that no digits go in a difference of large squares
            # (Chan, Golub, LeVeque 1983).
            own = batch.mean(dim=0)
            apart = own - mean
            square = square + batch.sub_(own).square_().sum(dim=0)
            square = square + apart.square() * (count * n / (count + n))
            count += n
            mean = mean + apart * (n / count)
    deviation = (square / count).sqrt()
    noise = 4 * torch.finfo(torch.float32).eps * mean.abs()
    scale = torch.where(deviation > noise, 1 / deviation, 0.0)
    return mean.to(torch.float32), scale.to(torch.float32)
