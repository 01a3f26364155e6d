"""What a classifier got right: per-image scores, the confusion matrix, per-class numbers, averages, the report's text.

Everything is numpy: importing scikit-learn on top of torch was measured at 1 to 1.7 s of the 8 that a warm
`headway fit` may take. Its functions are the oracle of the tests instead, and where a value is open to choice (a class
that occurs neither as label nor as prediction, an undefined precision inside an average) scikit-learn's default holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.errors import HeadwayError

# Rows of logits turned to float64 at a time: memory stays flat whatever N is.
CHUNK = 8192


@dataclass(frozen=True)
class Scores:
    """How each of N images was scored at one temperature.

    predicted   (N,) intp, index of the greatest logit (the first of equal ones)
    confidence  (N,) float64 in (0, 1], probability of the predicted class
    loss        (N,) float64 >= 0, -log of the label's probability, in nats
    brier       (N,) float64 in 0 ... 2, squared errors of the probabilities, summed over classes (Brier, 1950)
    right       (N,) bool, predicted == label
    """

    predicted: NDArray[np.intp]
    confidence: NDArray[np.float64]
    loss: NDArray[np.float64]
    brier: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Average:
    """One row of averages over classes; precision, recall and f1 in 0 ... 1, support = images."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Averages:
    """micro: over images; macro: over classes, each the same; weighted: over classes by their support."""

    micro: Average
    macro: Average
    weighted: Average

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class PerClass:
    """Counts of C classes, each (C,) int64: right, support (labels), predicted."""

    right: NDArray[np.int64]
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,) in 0 ... 1; NaN where the class was never predicted."""
        return _ratio(self.right, self.predicted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) in 0 ... 1; NaN where no image has the label."""
        return _ratio(self.right, self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,) in 0 ... 1; NaN where the class occurs neither as label nor as prediction."""
        return _ratio(2 * self.right, self.support + self.predicted)

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """(C,) the class occurs as label or as prediction: the classes that averages run over."""
        return (self.support + self.predicted) > 0


def check_logits(logits: NDArray[Any], y: NDArray[Any]) -> None:
    """Refuse what cannot be judged.

    Raises HeadwayError where there is no image or a logit is not finite, ValueError where shapes or labels do not fit.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or y.shape != (len(logits),):
        raise ValueError(f"logits must be (N, C) with C >= 2 and y (N,), not {logits.shape} and {y.shape}")
    if len(y) == 0:
        raise HeadwayError("there is no labelled image to judge the classifier on; at least one is needed")
    if y.min() < 0 or y.max() >= logits.shape[1]:
        raise ValueError(f"labels must be 0 to {logits.shape[1] - 1}, not {y.min()} to {y.max()}")
    broken = sum(int((~np.isfinite(logits[rows]).all(axis=1)).sum()) for rows in _chunks(len(y)))
    if broken:
        raise HeadwayError(
            f"the classifier's outputs are not finite for {broken:,} of {len(y):,} images: its training diverged; "
            "train again with a smaller --lr"
        )


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float64]:
    """(N, C) finite logits of any size → (N, C) float64 probabilities of logits / temperature."""
    shifted = _shifted(logits, temperature)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def score(logits: NDArray[Any], y: NDArray[Any], temperature: float = 1.0) -> Scores:
    """Score N images. logits (N, C) finite, before temperature; y (N,) in 0 ... C-1; temperature > 0.

    Raises as `check_logits`.
    """
    check_logits(logits, y)
    n = len(y)
    predicted = np.empty(n, np.intp)
    confidence, loss, brier = np.empty(n), np.empty(n), np.empty(n)
    for rows in _chunks(n):
        shifted = _shifted(logits[rows], temperature)
        labels = y[rows]
        own = np.arange(len(labels))
        # From the logits themselves: at a high temperature two different logits may round to one value.
        predicted[rows] = logits[rows].argmax(axis=1)
        of_label = shifted[own, labels]
        probability = np.exp(shifted, out=shifted)
        total = probability.sum(axis=1)
        loss[rows] = np.log(total) - of_label
        confidence[rows] = 1 / total  # the greatest shifted logit is 0
        probability /= total[:, None]
        probability[own, labels] -= 1
        brier[rows] = (probability * probability).sum(axis=1)
    return Scores(predicted, confidence, loss, brier, predicted == y)


def top_right(logits: NDArray[Any], y: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """(N,) is the label among the `k` greatest logits? Of equal logits the first class comes first, as in `argmax`."""
    n, n_classes = logits.shape
    right = np.empty(n, np.bool_)
    for rows in _chunks(n):
        part, labels = logits[rows], y[rows]
        own = part[np.arange(len(labels)), labels][:, None]
        ahead = (part > own) | ((part == own) & (np.arange(n_classes) < labels[:, None]))
        right[rows] = ahead.sum(axis=1) < k
    return right


def worst_mistakes(scores: Scores, limit: int) -> NDArray[np.intp]:
    """Indices of at most `limit` wrong images, the least probable label first, ties in order of index."""
    wrong = np.flatnonzero(~scores.right)
    return wrong[np.argsort(-scores.loss[wrong], kind="stable")][:limit]


def confusion_matrix(y: NDArray[Any], predicted: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """(C, C) counts, rows = labels, columns = predictions."""
    cells = np.bincount(y.astype(np.intp) * n_classes + predicted, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.int64, copy=False)


def per_class(confusion: NDArray[np.int64]) -> PerClass:
    """The counts of each class of a (C, C) confusion matrix."""
    return PerClass(np.diag(confusion).copy(), confusion.sum(axis=1), confusion.sum(axis=0))


def balanced_accuracy(counts: PerClass) -> float:
    """Mean recall over the classes that have images, in 0 ... 1."""
    return float(counts.recall[counts.support > 0].mean())


def averages(counts: PerClass) -> Averages:
    """Micro, macro and weighted averages over the classes that occur; an undefined precision or recall counts as 0."""
    n = int(counts.support.sum())
    accuracy = float(counts.right.sum() / n)
    precision, recall, f1 = (
        np.nan_to_num(kind[counts.occurs]) for kind in (counts.precision, counts.recall, counts.f1)
    )
    support = counts.support[counts.occurs]

    def weighted(values: NDArray[np.float64]) -> float:
        # In scikit-learn's order of operations, so that 0.275 falls to the same side when the report rounds it.
        return float((values * support).sum() / n)

    return Averages(
        micro=Average(accuracy, accuracy, accuracy, n),
        macro=Average(float(precision.mean()), float(recall.mean()), float(f1.mean()), n),
        weighted=Average(weighted(precision), weighted(recall), weighted(f1), n),
    )


def report_text(counts: PerClass, classes: Sequence[str]) -> str:
    """scikit-learn's `classification_report` (2 digits), with the micro row that it leaves out.

    Classes that occur neither as label nor as prediction have no row.
    """
    occurring: list[int] = np.flatnonzero(counts.occurs).tolist()
    width = max(len("weighted avg"), *(len(classes[index]) for index in occurring))
    lines = [f"{'':>{width}} " + "".join(f" {head:>9}" for head in ("precision", "recall", "f1-score", "support")), ""]
    precision, recall, f1 = (np.nan_to_num(values) for values in (counts.precision, counts.recall, counts.f1))

    def row(name: str, values: Average) -> str:
        numbers = (values.precision, values.recall, values.f1)
        return f"{name:>{width}} " + "".join(f" {number:>9.2f}" for number in numbers) + f" {values.support:>9}"

    for index in occurring:
        own = Average(float(precision[index]), float(recall[index]), float(f1[index]), int(counts.support[index]))
        lines.append(row(classes[index], own))
    means = averages(counts)
    lines += ["", f"{'accuracy':>{width}} {'':>20} {means.micro.recall:>9.2f} {means.micro.support:>9}"]
    lines += [row("micro avg", means.micro), row("macro avg", means.macro), row("weighted avg", means.weighted)]
    return "\n".join(lines) + "\n"


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _shifted(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(N, C) float64 logits / temperature with 0 for the greatest of each row: exp of it cannot overflow."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted /= temperature
    return shifted


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))
