"""What the probe is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.events import Detail, Measured, Progress
from headway.training.design import Read
from headway.training.heads import Head

Columns = Callable[[tuple[str, ...], NDArray[np.intp]], NDArray[np.float32]]


@dataclass(frozen=True)
class ProbeData:
    """What a head is trained on. Nothing of it is changed.

    columns     (names of taps, indices (n,)) → their features side by side, (n, D) float32, finite
    labels      (N,) integers of the whole dataset, 0..n_classes-1 where `train` and `val` point
    train, val  indices into the dataset
    taps        (name, dimension) of every tap there is; one is called "last"
    views       as `columns`, of changed images (flipped, cropped): more rows to train on, never to validate on
    memory      bytes that the machine has: features for a linear head that take more than a quarter of them are read
                from a scratch file; None = no limit
    groups      (N,) integers or None: images of one number are dependent and are held out together, negative = alone
    """

    columns: Columns
    labels: NDArray[np.integer[Any]]
    train: NDArray[np.intp]
    val: NDArray[np.intp]
    taps: tuple[tuple[str, int], ...]
    n_classes: int
    views: Sequence[Columns] = ()
    memory: int | None = None
    groups: NDArray[np.integer[Any]] | None = None


@dataclass(frozen=True)
class Held:
    """Training images that were held out in turn: logits (m, C) by heads that had not learnt from them, labels (m,)."""

    logits: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Probe:
    """A trained head and how it was chosen.

    temperature  fitted on the validation logits, and on those of `held`
    chosen       "selection" of evaluation.json: head, taps, l2, why, candidates, paired
    history      rows of history.csv, column → value, None where it does not apply; `best` is true of one row
    val_logits   (n_val, C) float32, before temperature
    seconds      spent, features read included
    held         where there were few images to validate on; else None
    """

    head: Head
    temperature: float
    chosen: dict[str, Any]
    history: list[dict[str, Any]]
    val_logits: NDArray[np.float32]
    seconds: float
    held: Held | None = None


Probing = Generator[Progress | Detail | Measured, None, Probe]


def names_of(data: ProbeData, taps: str) -> tuple[str, ...]:
    """Names of the taps that "last" or "all" stands for."""
    return tuple(name for name, _ in data.taps) if taps == "all" else ("last",)


def reads_of(data: ProbeData, taps: tuple[str, ...]) -> list[Read]:
    """The columns of `taps` of the images as they are, then of each view of them."""
    return [partial(columns, taps) for columns in (data.columns, *data.views)]


def training_labels(data: ProbeData) -> NDArray[np.int64]:
    """(n,) labels of the training images, then of each view of them."""
    return np.tile(data.labels[data.train].astype(np.int64), 1 + len(data.views))


def last_columns(data: ProbeData) -> slice:
    """Where the columns of the last tap stand among all columns."""
    start = 0
    for name, dim in data.taps:
        if name == "last":
            return slice(start, start + dim)
        start += dim
    raise ValueError("no tap is called 'last'")
