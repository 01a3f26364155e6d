"""Heads solved on parts of the training images: which parts, within what work, and how they do on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.advice.learning_curve import Part
from headway.evaluation.metrics import score
from headway.training.balance import balanced_weights
from headway.training.solvers import LOOSE, pose

WORK = 1.5e11  # multiply-adds of all parts together: about 3 s of two cores
_PASSES = 25  # over the features that a fit takes
_FEWEST = 5  # images of a part, and one a class on average
_MOST_DRAWS = 4
_MOST_ROWS = 32_768  # of features in memory
_LEVELS = 5  # a half, a quarter, ... of the images
_LARGEST = 0.6  # of the work for one part, so that the smaller ones have room


@dataclass(frozen=True)
class Level:
    """Parts of `n` training images each, `draws` of them, no image in two."""

    n: int
    draws: int


def nested_order(labels: NDArray[np.integer[Any]], rng: np.random.Generator) -> NDArray[np.intp]:
    """(N,) an order of which every run of neighbours holds the classes in the proportion of all."""
    places = np.empty(len(labels))
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        places[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.argsort(places, kind="stable").astype(np.intp)


def plan_levels(n: int, n_classes: int, dim: int, work: float = WORK) -> tuple[tuple[Level, ...], tuple[int, ...]]:
    """From small to large, what fits into `work` (multiply-adds).

    The smallest comes first, twice, as two draws of a size tell how much is luck; then each of the others once, so that
    the curve reaches far; then more draws of each. Nothing of it depends on how fast the machine is.

    n  training images;  dim  D of the features. Also returns the sizes that were too dear.
    """
    fewest, halves = max(_FEWEST, n_classes), [n // 2**level for level in range(n.bit_length() - 1, 0, -1)]
    halves = [size for size in halves if size >= fewest]
    if len(halves) < 2 and n // 3 >= fewest:
        halves = [n // 3, 2 * n // 3]
    left = work / (2.0 * dim * n_classes * _PASSES)  # images that may still be fitted
    sizes = [size for size in halves if size <= min(_LARGEST * left, _MOST_ROWS)][-_LEVELS:]
    draws = [0] * len(sizes)
    every = list(range(len(sizes)))
    for at in [*every[:1], *every, *every[1:], *every * (_MOST_DRAWS - 2)]:
        if draws[at] < min(_MOST_DRAWS, n // sizes[at], _MOST_ROWS // sizes[at]) and sizes[at] <= left:
            draws[at] += 1
            left -= sizes[at]
    taken = tuple(Level(size, times) for size, times in zip(sizes, draws, strict=True) if times)
    return taken, tuple(size for size in halves if size > max(sizes, default=0))


def solve_levels(
    rows: NDArray[np.float32],
    labels: NDArray[np.integer[Any]],
    val: tuple[NDArray[np.float32], NDArray[np.integer[Any]]],
    levels: Sequence[Level],
    l2: float,
    *,
    n_classes: int,
    weighted: bool = False,
) -> tuple[Part, ...]:
    """A linear head on each part, under the penalty `l2` of the head on all images.

    rows      (n, D) features of training images in nested order;  labels  (n,)
    val       features (M, D) and labels (M,) of validation images
    weighted  whether every class counts alike

    The penalty stands beside a mean loss and hardly depends on the number of images: of CIFAR-100 in parts of 62 to
    4,000 the best of half to 32 times as much was right on at most 0.9 points more, mostly on 0.3. Each fit begins at
    the constant guess: beginning with a head that has seen more would flatter it.
    """
    parts = []
    for level in levels:
        wrong, losses = [], []
        for draw in range(level.draws):
            own = slice(draw * level.n, (draw + 1) * level.n)
            y = labels[own].astype(np.int64)
            weights = balanced_weights(y, n_classes) if weighted else None
            solution = pose(rows[own], y, n_classes, weights=weights).solve(l2, tolerance=LOOSE)
            scores = score(val[0] @ solution.weight.T + solution.bias, val[1])
            wrong.append(~scores.right)
            losses.append(float(scores.loss.mean()))
        parts.append(Part(level.n, np.stack(wrong), float(np.mean(losses))))
    return tuple(parts)
