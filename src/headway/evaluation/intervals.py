"""Intervals at 95 %: Wilson for shares of images, a bootstrap for macro-F1; images of one group count as dependent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Two-sided 95 % quantile of the normal distribution.
Z95 = 1.959963984540054
# With fewer images in a class the resampled F1 of that class is too coarse for an honest interval.
FEWEST_FOR_MACRO_F1 = 30


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) of a share `share` (0 ... 1) seen on `n` > 0 images.

    Never leaves 0 ... 1 and is never empty, not even at 0 or 1. `n` need not be whole: see `effective_n`. Over shares
    of 0.5 to 0.99 it covers 95.0 to 95.3 % on average for n of 30 to 3,000, and at the worst share 91 % (n = 50).
    """
    if n <= 0:
        raise ValueError(f"an interval needs n > 0, not {n}")
    weight = Z95 * Z95 / n
    centre = share + weight / 2
    half = Z95 * float(np.sqrt(share * (1 - share) / n + weight / (4 * n)))
    low = 0.0 if share == 0 else max(0.0, (centre - half) / (1 + weight))
    high = 1.0 if share == 1 else min(1.0, (centre + half) / (1 + weight))
    return low, high


def effective_n(right: NDArray[np.bool_], groups: NDArray[Any] | None) -> float:
    """How many independent images the n images `right` (n,) are worth, at most n.

    groups (n,) integers: images with one number are dependent; negative = on its own. None: all on their own. It is n
    over the design effect (Kish, 1965), measured as the variance between groups over the binomial variance. Where all
    images are right, or all wrong, nothing can be measured, and images of a group count as copies of each other.
    """
    n = len(right)
    if groups is None or n == 0:
        return float(n)
    blocks = _blocks(groups)
    sizes = np.bincount(blocks)
    if len(sizes) == n:
        return float(n)
    share = float(right.mean())
    if len(sizes) == 1 or share in (0.0, 1.0):
        return float(n * n / (sizes * sizes).sum())
    excess = np.bincount(blocks, weights=right - share)
    between = len(sizes) / (len(sizes) - 1) * float(excess @ excess)
    return float(n / max(1.0, between / (n * share * (1 - share))))


def macro_f1_interval(
    y: NDArray[Any],
    predicted: NDArray[Any],
    n_classes: int,
    *,
    seed: int,
    groups: NDArray[Any] | None = None,
    replicates: int = 1000,
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of macro-F1 (Efron, 1979); None where a class has fewer than 30 images.

    y, predicted (N,) in 0 ... C-1; `groups` as in `effective_n`, resampled as groups. Each resample draws from the
    images and four more: two right and two wrong ones (as Agresti and Coull, 1998, for shares), labels drawn from y.
    Without them a test set with no mistake has an interval of no width: simulated on 2 classes of 30 images with a true
    recall of 0.99 the plain bootstrap covers 51 %, this one 88 %; over recalls of 0.6 to 0.99, 83 % against 93 %.
    """
    support = np.bincount(y, minlength=n_classes)
    if support.min() < FEWEST_FOR_MACRO_F1:
        return None
    rng = np.random.default_rng([seed, 1])
    order = np.lexsort((predicted, y))
    y, predicted = y[order].astype(np.intp), predicted[order].astype(np.intp)
    blocks = None if groups is None else _blocks(groups)[order]
    n_blocks = len(y) if blocks is None else int(blocks.max()) + 1
    right = y == predicted
    values = np.empty(replicates)
    for replicate in range(replicates):
        drawn = np.bincount(rng.integers(0, n_blocks + 4, n_blocks), minlength=n_blocks + 4).astype(np.float64)
        weights = drawn[:n_blocks] if blocks is None else drawn[blocks]
        more_y = y[rng.integers(0, len(y), 4)]
        more_predicted = (more_y + np.array([0, 0, 1, 1]) * rng.integers(1, n_classes, 4)) % n_classes
        more = drawn[n_blocks:] * (len(y) / n_blocks)  # as heavy as a group is on average
        labels = np.bincount(y, weights, n_classes) + np.bincount(more_y, more, n_classes)
        guesses = np.bincount(predicted, weights, n_classes) + np.bincount(more_predicted, more, n_classes)
        hits = np.bincount(y[right], weights[right], n_classes) + np.bincount(more_y[:2], more[:2], n_classes)
        values[replicate] = _macro_f1(hits, labels + guesses)
    low, high = np.quantile(values, [0.025, 0.975])
    point = _macro_f1(np.bincount(y[right], minlength=n_classes), support + np.bincount(predicted, minlength=n_classes))
    return min(float(low), point), max(float(high), point)


def _macro_f1(hits: NDArray[Any], labels_and_guesses: NDArray[Any]) -> float:
    """Mean of 2 hits / (labels + guesses) over the classes that occur."""
    occurs = labels_and_guesses > 0
    return float((2 * hits[occurs] / labels_and_guesses[occurs]).mean())


def _blocks(groups: NDArray[Any]) -> NDArray[np.intp]:
    """(n,) 0 ... G-1: the same number for the same group, a number of its own for each negative one."""
    alone = groups < 0
    apart = np.where(alone, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    return np.unique(apart, return_inverse=True)[1].astype(np.intp)
