"""Place units into subsets so that every class gets its quota and stands in every subset. Arrays in, arrays out.

Units of one class are cut from their order, which is exact up to the size of a unit. Units of several classes (a
patient with many findings, the same image under two labels) go first, the largest first, each into the subset whose
squared distance from the quotas shrinks most; at the end units are moved where a subset would lack a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import TRAIN

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """Samples (n) in units (U).

    unit    (n,) the unit of each sample, 0 to U - 1
    labels  (n,) the class of each sample
    ranks   (U,) the place of each unit in the order
    """

    unit: NDArray[np.intp]
    labels: NDArray[np.int32]
    ranks: Ints


def place(
    units: Units, quotas: Ints, placed: Ints, subsets: Sequence[int]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The subset of every unit (U,), and whether a subset has images of a class (3, C).

    quotas   (3, C) images of each class that each subset should have in the end
    placed   (3, C) images that it has already
    subsets  those to fill, in the order of being filled, TRAIN last
    """
    n_units = len(units.ranks)
    where = np.full(n_units, TRAIN, np.int8)
    sizes = np.bincount(units.unit, minlength=n_units)
    low = np.full(n_units, np.iinfo(np.int32).max, np.int32)
    high = np.full(n_units, -1, np.int32)
    np.minimum.at(low, units.unit, units.labels)
    np.maximum.at(high, units.unit, units.labels)
    placed = placed.copy()
    mixed = np.flatnonzero(low != high)
    counts = _counts(units, mixed, quotas.shape[1])
    for i in np.lexsort((units.ranks[mixed], -sizes[mixed])):
        subset = _best(counts[i], quotas, placed, subsets)
        where[mixed[i]] = subset
        placed[subset] += counts[i]
    single = np.flatnonzero(low == high)
    single = single[np.lexsort((units.ranks[single], low[single]))]
    for run in np.split(single, np.flatnonzero(np.diff(low[single])) + 1) if len(single) else []:
        label = low[run[0]]
        _cut(run, sizes[run], label, quotas, placed, subsets, where)
    if len(mixed):
        by_size = np.lexsort((units.ranks[mixed], sizes[mixed]))
        _repair(mixed[by_size], counts[by_size], placed, subsets, where)
    return where, placed > 0


def _counts(units: Units, mixed: NDArray[np.intp], n_classes: int) -> Ints:
    """(M, C) images of each class in each unit of several classes."""
    counts = np.zeros((len(mixed), n_classes), np.int64)
    if len(mixed):
        position = np.full(len(units.ranks), -1)
        position[mixed] = np.arange(len(mixed))
        mine = position[units.unit] >= 0
        np.add.at(counts, (position[units.unit[mine]], units.labels[mine]), 1)
    return counts


def _best(counts: Ints, quotas: Ints, placed: Ints, subsets: Sequence[int]) -> int:
    """Where a unit with `counts` (C,) reduces the squared distance from the quotas most, relative to them."""

    def gain(subset: int) -> float:
        need = (quotas[subset] - placed[subset]).astype(np.float64)
        return float(((need**2 - (need - counts) ** 2) / np.maximum(1, quotas[subset])).sum())

    return max(subsets, key=gain)


def _cut(
    run: NDArray[np.intp],
    sizes: NDArray[np.intp],
    label: int,
    quotas: Ints,
    placed: Ints,
    subsets: Sequence[int],
    where: NDArray[np.int8],
) -> None:
    """Cut the ordered units `run` of one class at the quotas; writes into `where` and `placed`."""
    ends = np.concatenate([[0], np.cumsum(sizes)])  # ends[k]: images in the first k units
    start = 0
    for i, subset in enumerate(subsets[:-1]):
        need = quotas[subset, label] - placed[subset, label]
        waiting = sum(placed[later, label] == 0 for later in subsets[i + 1 :])
        stop = start + int(np.argmin(np.abs(ends[start:] - ends[start] - max(0, need))))
        if placed[subset, label] == 0:
            stop = max(stop, start + 1)
        stop = min(stop, max(start, len(run) - waiting))
        where[run[start:stop]] = subset
        placed[subset, label] += ends[stop] - ends[start]
        start = stop
    where[run[start:]] = subsets[-1]
    placed[subsets[-1], label] += ends[-1] - ends[start]


def _repair(
    mixed: NDArray[np.intp], counts: Ints, placed: Ints, subsets: Sequence[int], where: NDArray[np.int8]
) -> None:
    """Move units of several classes, the smallest first, into subsets that lack a class; leave no gap behind."""
    for subset in subsets:
        for label in np.flatnonzero((placed.sum(axis=0) > 0) & (placed[subset] == 0)):
            for i in range(len(mixed)):
                home = where[mixed[i]]
                if counts[i, label] and home != subset and ((placed[home] > counts[i]) | (counts[i] == 0)).all():
                    where[mixed[i]] = subset
                    placed[home] -= counts[i]
                    placed[subset] += counts[i]
                    break
