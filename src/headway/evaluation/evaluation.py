"""The judgement of one subset: everything that `evaluation.json` says about it, computed from logits alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation import metrics
from headway.evaluation.calibrate import Bin, ece, ece_floor, reliability
from headway.evaluation.intervals import effective_n, macro_intervals, wilson
from headway.evaluation.metrics import Average, Averages, PerClass, Scores

# Top-5 says something only where five guesses are few among the classes.
TOP5_FROM = 11
# Times the images of the smallest class: beyond that, classes are told to differ.
UNEVEN = 3


@dataclass(frozen=True)
class ClassScores:
    """One class. precision is None where it was never predicted, recall and its interval where it has no images."""

    name: str
    precision: float | None
    recall: float | None
    recall_interval: tuple[float, float] | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True)
class Fit:
    """How well probabilities fit the labels: mean negative log-likelihood (nats), Brier (0 ... 2), ECE (0 ... 1)."""

    nll: float
    brier: float
    ece: float


@dataclass(frozen=True)
class Calibration:
    """Before (temperature 1) and after `temperature`; `bins` and `ece_floor` belong to after."""

    temperature: float
    before: Fit
    after: Fit
    ece_floor: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Evaluation:
    """What a classifier is worth on `n` images it was not fitted on. Shares lie in 0 ... 1, intervals are at 95 %.

    interval            Wilson, of accuracy
    guess               the class that an image-blind guess would name, and the accuracy of doing so
    ..._interval        of balanced accuracy and macro-F1; None where it would not be honest, and `macro_note` says why
    top5                None with 10 classes or fewer
    log_loss, brier     of the probabilities after temperature, log-loss in nats
    confusion           rows = labels, columns = predictions
    text                scikit-learn's classification_report with a micro row
    """

    n: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    guess: str
    guess_accuracy: float
    balanced_accuracy: float
    balanced_accuracy_interval: tuple[float, float] | None
    macro_f1: float
    macro_f1_interval: tuple[float, float] | None
    macro_note: str | None
    top5: float | None
    log_loss: float
    brier: float
    per_class: tuple[ClassScores, ...]
    averages: Averages
    confusion: tuple[tuple[int, ...], ...]
    text: str
    calibration: Calibration

    def __str__(self) -> str:
        low, high = self.interval
        return f"accuracy {self.accuracy:.3f} [{low:.3f}, {high:.3f}], n={self.n}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in `evaluation.json`: no NaN, what is undefined is null."""
        value = {name: getattr(self, name) for name in self.__dataclass_fields__ if not name.startswith("guess")}
        value["constant_guess"] = {"class": self.guess, "accuracy": self.guess_accuracy}
        value["interval"] = list(self.interval)
        for name in ("macro_f1_interval", "balanced_accuracy_interval"):
            value[name] = _as_list(getattr(self, name))
        value["per_class"] = [_class_to_json(own) for own in self.per_class]
        value["averages"] = self.averages.to_json()
        value["confusion"] = [list(row) for row in self.confusion]
        value["calibration"] = {**asdict(self.calibration), "bins": [asdict(own) for own in self.calibration.bins]}
        return value

    @property
    def uneven(self) -> bool:
        """Whether a class has more than three times the images of another: accuracy speaks for the large ones then."""
        supports = [own.support for own in self.per_class if own.support]
        return bool(supports) and max(supports) > UNEVEN * min(supports)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`. Raises KeyError or TypeError where `value` is not of that form."""
        plain = {name: value[name] for name in cls.__dataclass_fields__ if not name.startswith("guess")}
        calibration = value["calibration"]
        plain["interval"] = _pair(value["interval"])
        for name in ("macro_f1_interval", "balanced_accuracy_interval"):
            plain[name] = _pair_or_none(value[name])
        plain["per_class"] = tuple(_class_from_json(own) for own in value["per_class"])
        plain["averages"] = Averages(**{name: Average(**own) for name, own in value["averages"].items()})
        plain["confusion"] = tuple(tuple(row) for row in value["confusion"])
        plain["calibration"] = Calibration(
            temperature=calibration["temperature"],
            before=Fit(**calibration["before"]),
            after=Fit(**calibration["after"]),
            ece_floor=calibration["ece_floor"],
            bins=tuple(Bin(**own) for own in calibration["bins"]),
        )
        guess = value["constant_guess"]
        return cls(**plain, guess=guess["class"], guess_accuracy=guess["accuracy"])


def evaluate(
    logits: NDArray[Any],
    y: NDArray[Any],
    classes: Sequence[str],
    *,
    temperature: float,
    seed: int,
    train_counts: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> Evaluation:
    """Judge logits (N, C), finite and before temperature, against labels y (N,) in 0 ... C-1.

    classes       C names, in the order of the columns
    temperature   > 0, fitted on validation images
    seed          of the ECE's noise floor, >= 0
    train_counts  (C,) training images of each class: the constant guess is the commonest of them; None: of y
    groups        (N,) integers or None; images with one number are dependent and widen the intervals, negative = alone

    Raises HeadwayError where there is no image or a logit is not finite, ValueError where shapes or labels do not fit.
    """
    metrics.check_logits(logits, y)
    n_classes = logits.shape[1]
    if len(classes) != n_classes:
        raise ValueError(f"{len(classes)} class names for logits of {n_classes} classes")
    before, after = metrics.score(logits, y), metrics.score(logits, y, temperature)
    confusion = metrics.confusion_matrix(y, after.predicted, n_classes)
    counts = metrics.per_class(confusion)
    means = metrics.averages(counts)
    guess = int(np.argmax(counts.support if train_counts is None else train_counts))
    accuracy = means.micro.recall
    macro = macro_intervals(y, after.predicted, classes, groups=groups)
    fit = _fit(after)
    return Evaluation(
        n=len(y),
        correct=int(counts.right.sum()),
        accuracy=accuracy,
        interval=wilson(accuracy, effective_n(after.right, groups)),
        guess=classes[guess],
        guess_accuracy=float(counts.support[guess] / len(y)),
        balanced_accuracy=metrics.balanced_accuracy(counts),
        balanced_accuracy_interval=macro.balanced,
        macro_f1=means.macro.f1,
        macro_f1_interval=macro.f1,
        macro_note=macro.why or None,
        top5=float(metrics.top_right(logits, y, 5).mean()) if n_classes >= TOP5_FROM else None,
        log_loss=fit.nll,
        brier=fit.brier,
        per_class=_per_class(counts, classes, _effective_supports(after.right, y, counts, groups)),
        averages=means,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        text=metrics.report_text(counts, classes),
        calibration=Calibration(
            temperature=float(temperature),
            before=_fit(before),
            after=fit,
            ece_floor=ece_floor(after.confidence, seed=seed),
            bins=reliability(after.confidence, after.right),
        ),
    )


def _fit(scores: Scores) -> Fit:
    return Fit(float(scores.loss.mean()), float(scores.brier.mean()), ece(scores.confidence, scores.right))


def _effective_supports(
    right: NDArray[np.bool_], y: NDArray[Any], counts: PerClass, groups: NDArray[Any] | None
) -> Sequence[float]:
    if groups is None:
        return [float(support) for support in counts.support]
    return [effective_n(right[y == index], groups[y == index]) for index in range(len(counts.support))]


def _per_class(counts: PerClass, classes: Sequence[str], supports: Sequence[float]) -> tuple[ClassScores, ...]:
    columns = [[_defined(number) for number in values] for values in (counts.precision, counts.recall, counts.f1)]
    rows = []
    for index, (precision, recall, f1) in enumerate(zip(*columns, strict=True)):
        interval = None if recall is None else wilson(recall, supports[index])
        support, predicted = int(counts.support[index]), int(counts.predicted[index])
        rows.append(ClassScores(classes[index], precision, recall, interval, f1, support, predicted))
    return tuple(rows)


def _defined(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _class_to_json(own: ClassScores) -> dict[str, Any]:
    value = asdict(own)
    return {"class": value.pop("name"), **value, "recall_interval": _as_list(own.recall_interval)}


def _class_from_json(value: Mapping[str, Any]) -> ClassScores:
    plain = {name: value[name] for name in ClassScores.__dataclass_fields__ if name != "name"}
    plain["recall_interval"] = _pair_or_none(value["recall_interval"])
    return ClassScores(name=value["class"], **plain)


def _as_list(pair: tuple[float, float] | None) -> list[float] | None:
    return None if pair is None else list(pair)


def _pair(value: Sequence[float]) -> tuple[float, float]:
    low, high = value
    return low, high


def _pair_or_none(value: Sequence[float] | None) -> tuple[float, float] | None:
    return None if value is None else _pair(value)
