"""Which classes more labelled images would help most, and which are taken for each other: from validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.evaluation import Evaluation
from headway.evaluation.intervals import wilson

_PRIOR = 4.0  # images' worth of the mean of all classes that a class begins with: two of two wrong prove little
_FEWEST_CONFUSED = 3
_MOST_NAMED = 3
_TOLD = 0.0005  # below it would be told as +0.0 points
_UNEVEN = 3  # times as many images in the largest class as in the smallest: then balanced accuracy counts


@dataclass(frozen=True)
class WeakClass:
    """A class whose recall is shown to be below that of all images.

    n           validation images of it;  n_train  training images
    measure     "accuracy", or "balanced accuracy" where classes are uneven
    gain        what twice its training images would bring to `measure`, expected; None where no curve tells
    """

    name: str
    recall: float
    interval: tuple[float, float]
    n: int
    n_train: int
    measure: str
    gain: float | None

    def sentence(self) -> str:
        """label more of monocyte: recall 0.61 [0.39, 0.80] on 18 validation images, ..."""
        low, high = self.interval
        start = f"label more of {self.name}: recall {self.recall:.2f} [{low:.2f}, {high:.2f}] on {_images(self.n)}"
        if self.gain is None or self.gain < _TOLD:
            return f"{start}, from {self.n_train:,} to learn from"
        return f"{start}; twice its {self.n_train:,} would bring about {100 * self.gain:+.1f} points of {self.measure}"


@dataclass(frozen=True)
class Confusion:
    """Two classes that are taken for each other more often than mistakes spread evenly would be.

    there, back  images of the first called the second, and the other way;  n  images of both
    """

    names: tuple[str, str]
    there: int
    back: int
    n: int

    def sentence(self) -> str:
        """cat and lynx are taken for each other 12 times in 40 validation images."""
        a, b = self.names
        if not self.there or not self.back:
            a, b, wrong = (a, b, self.there) if self.there else (b, a, self.back)
            return f"{a} is taken for {b} {wrong:,} times in {_images(self.n)} of the two"
        return f"{a} and {b} are taken for each other {self.there + self.back:,} times in {_images(self.n)}"


def weak_classes(
    val: Evaluation, train_counts: NDArray[np.integer[Any]], share_removed: float | None
) -> tuple[WeakClass, ...]:
    """Classes whose recall on validation images is shown to be below that of all, the most to gain first.

    val            of validation images
    train_counts   (C,) training images
    share_removed  which part of all errors twice the images would remove (`Evidence.share_removed`), or None

    The expected error of a class lies between its own and that of all classes, as it had four images of those: a class
    of two images is not the worst because both were wrong.
    """
    support = np.array([own.support for own in val.per_class], np.float64)
    right = np.array([round((own.recall or 0.0) * own.support) for own in val.per_class])
    seen = support[support > 0]
    uneven = len(seen) > 0 and train_counts.max() > _UNEVEN * max(1, int(train_counts.min()))
    level = val.balanced_accuracy if uneven else val.accuracy
    expected = (support - right + _PRIOR * (1 - level)) / (support + _PRIOR)  # (C,) error
    part = np.full(len(support), 1 / max(1, len(seen))) if uneven else support / support.sum()
    worth = expected * part
    weak = [
        index
        for index, own in enumerate(val.per_class)
        if own.recall is not None and own.recall_interval is not None and own.recall_interval[1] < val.accuracy
    ]
    weak.sort(key=lambda index: -worth[index])
    return tuple(
        WeakClass(
            val.per_class[index].name,
            float(right[index] / support[index]),
            val.per_class[index].recall_interval or (0.0, 1.0),
            int(support[index]),
            int(train_counts[index]),
            "balanced accuracy" if uneven else "accuracy",
            None if share_removed is None else max(0.0, share_removed) * float(worth[index]),
        )
        for index in weak[:_MOST_NAMED]
    )


def confusions(val: Evaluation) -> tuple[Confusion, ...]:
    """Pairs of classes that account for more mistakes than an even spread would give them, shown at 95 %.

    Of two classes nothing is told: there every mistake is between them.
    """
    names = [own.name for own in val.per_class]
    if len(names) < 3:
        return ()
    table = np.array(val.confusion)
    wrong = table - np.diag(np.diag(table))
    both, support = wrong + wrong.T, table.sum(axis=1)
    evenly = wrong.sum() / max(1, int(table.sum())) / (len(names) - 1)  # share of a class called one certain other
    found = []
    for a, b in zip(*np.nonzero(np.triu(both >= _FEWEST_CONFUSED)), strict=True):
        n = int(support[a] + support[b])
        if n and wilson(both[a, b] / n, n)[0] > evenly:
            found.append(Confusion((names[a], names[b]), int(wrong[a, b]), int(wrong[b, a]), n))
    found.sort(key=lambda pair: -(pair.there + pair.back))
    return tuple(found[:_MOST_NAMED])


def as_json(weak: Sequence[WeakClass], confused: Sequence[Confusion]) -> dict[str, Any]:
    """Plain values for `evaluation.json`."""
    return {
        "classes": [{**asdict(own), "interval": list(own.interval), "sentence": own.sentence()} for own in weak],
        "confusions": [{**asdict(pair), "names": list(pair.names), "sentence": pair.sentence()} for pair in confused],
    }


def _images(n: int) -> str:
    return f"{n:,} validation image{'' if n == 1 else 's'}"
