"""Intervals at 95 %: Wilson's, of shares of images and of means over classes; images of a group are dependent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Two-sided 95 % quantile of the normal distribution.
Z95 = 1.959963984540054
# With fewer images of a class, or fewer mistakes, what a mean over classes varies by is not known well enough.
FEWEST_FOR_MACRO = 30
FEWEST_MISTAKES = 5
_SMOOTHED = 2.5  # mistakes that smoothing adds, over all classes, to as many as there are anyway: in 100 classes not 50
_NOT = "An interval of {} would not be honest at this n"


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


@dataclass(frozen=True)
class MacroIntervals:
    """95 % intervals of macro-F1 and of balanced accuracy; None where one would not be honest, and `why`, in words."""

    f1: tuple[float, float] | None
    balanced: tuple[float, float] | None
    why: str


def macro_intervals(
    y: NDArray[Any],
    predicted: NDArray[Any],
    classes: Sequence[str],
    *,
    groups: NDArray[Any] | None = None,
) -> MacroIntervals:
    """Wilson's interval of macro-F1 and of balanced accuracy, at the number of images whose share would vary as much.

    y, predicted (N,) in 0 ... C-1; classes C names; `groups` as in `effective_n`.

    Each image has an influence on the mean over classes (delta method); what influences vary by within labels is the
    variance, for classes as common as they are here; n is share (1 - share) / variance (the effective sample size of
    Korn and Graubard, 1998). The variance is that of the confusion matrix with one more image in each class, half of it
    mistaken, or less where there are many classes and few mistakes: without it a class without a mistake would have no
    variance. Coverage: benchmarks/interval_coverage.
    """
    support = np.bincount(y, minlength=len(classes))
    wrong = int((y != predicted).sum())
    least = int(np.argmin(support))
    if support[least] < FEWEST_FOR_MACRO:
        return _none(f"{classes[least]} has {support[least]} test images, and {FEWEST_FOR_MACRO} a class are needed")
    if wrong < FEWEST_MISTAKES:
        mistaken = f"{wrong} {'image was' if wrong == 1 else 'images were'} mistaken"
        return _none(f"{mistaken}, and {FEWEST_MISTAKES} mistakes are needed")
    cells = np.bincount(y.astype(np.intp) * len(classes) + predicted, minlength=len(classes) ** 2)
    confusion = cells.reshape(len(classes), len(classes)).astype(np.float64)
    found = []
    for mean in (of_f1, of_recall):
        share, influence = mean(confusion)
        effect = 1.0 if groups is None else _design_effect(influence[y, predicted], y, _blocks(groups))
        n, mistakes = _worth(_smoothed(confusion), mean)
        found.append(wilson(share, max(1.0, n / effect)) if mistakes >= FEWEST_MISTAKES else None)
    if None not in found:
        return MacroIntervals(found[0], found[1], "")
    what = "macro-F1 or balanced accuracy" if found[0] is None else "balanced accuracy"
    few = f"its smallest classes decide it, and the mistakes there count for less than {FEWEST_MISTAKES}"
    return MacroIntervals(found[0], None, f"{_NOT.format(what)}: {few}.")


def _none(why: str) -> MacroIntervals:
    return MacroIntervals(None, None, f"{_NOT.format('macro-F1 or balanced accuracy')}: {why}.")


def of_f1(confusion: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Macro-F1 of a (C, C) confusion matrix, and the influence (C, C) of one image by its label and its prediction.

    Of the sum over classes: an image that is right adds 2 (1 - F1) / (labels + guesses); one that is not takes
    F1 / (labels + guesses) from the class it is of and from the one it is taken for.
    """
    both = confusion.sum(axis=1) + confusion.sum(axis=0)
    f1 = 2 * np.diag(confusion) / both
    influence = -(f1 / both)[:, None] - (f1 / both)[None, :]
    np.fill_diagonal(influence, 2 * (1 - f1) / both)
    return float(f1.mean()), influence / len(f1)


def of_recall(confusion: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Balanced accuracy of a (C, C) confusion matrix without an empty row, and the influence as in `of_f1`."""
    labels = confusion.sum(axis=1)
    recall = np.diag(confusion) / labels
    influence = np.repeat((-recall / labels)[:, None], len(labels), axis=1)
    np.fill_diagonal(influence, (1 - recall) / labels)
    return float(recall.mean()), influence / len(labels)


Mean = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


def _worth(confusion: NDArray[np.float64], mean: Mean) -> tuple[float, float]:
    """For how many images, and for how many mistakes, those of `confusion` count in a mean over classes.

    Mistakes of different weight count for (sum of weights)^2 / sum of squares (Kish, 1965).
    """
    share, influence = mean(confusion)
    of_class = (confusion * influence).sum(axis=1)
    variance = (confusion * influence**2).sum() - (of_class**2 / confusion.sum(axis=1)).sum()
    weight = np.diag(influence)[:, None] - influence  # 0 on the diagonal: nothing is lost there
    lost = float((confusion * weight).sum())
    return share * (1 - share) / float(variance), lost**2 / float((confusion * weight**2).sum())


def _smoothed(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """`confusion` with one image more in each class, a part of it, half at most, taken for any other class."""
    mistaken = min(0.5, _SMOOTHED / len(confusion) + 1 - float(np.trace(confusion) / confusion.sum()))
    more = np.full_like(confusion, mistaken / (len(confusion) - 1))
    np.fill_diagonal(more, 1 - mistaken)
    whole = confusion + more
    return np.asarray(whole * (confusion.sum() / whole.sum()))


def _design_effect(influence: NDArray[np.float64], y: NDArray[Any], blocks: NDArray[np.intp]) -> float:
    """By how much groups widen a variance, at least 1: that of summed influences over that of single images."""
    influence = influence - (np.bincount(y, influence) / np.maximum(np.bincount(y), 1))[y]
    of_groups = np.bincount(blocks, influence)
    n, single = len(of_groups), float(influence @ influence)
    return max(1.0, float(of_groups @ of_groups) * n / (n - 1) / single) if n > 1 and single > 0 else 1.0


def _blocks(groups: NDArray[Any]) -> NDArray[np.intp]:
    """(n,) 0 ... G-1: the same number for the same group, a number of its own for each negative one."""
    alone = groups < 0
    apart = np.where(alone, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    return np.unique(apart, return_inverse=True)[1].astype(np.intp)
