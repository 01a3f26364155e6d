"""Small data: the same steps on other splits of the same images, from features that are there already.

One small test set says as much about which images fell into it as about the classifier. Other splits show how much.
Nothing is chosen by them: the classifier that is kept, and the one test set it is judged on, stay as they are.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from headway.data.dataset import Dataset, Split
from headway.data.split import make_split
from headway.defaults import SOLVED
from headway.errors import Refused
from headway.evaluation.compare import student_quantile
from headway.events import Event, Line, Progress, drain
from headway.settings import FitSettings
from headway.steps import Sight, logits_of, train

REPEATS = 10
FEW_TEST = 200  # with more test images the interval of the one test is narrow enough
MOST_IMAGES = 1500  # of all subsets: a head is then found in a second or so


def few_to_judge_by(n_train: int, n_val: int, n_test: int) -> bool:
    """Whether one test says little, and a head is found soon."""
    return n_test < FEW_TEST and n_train + n_val + n_test <= MOST_IMAGES


def repeats(settings: FitSettings, split: Split, sight: Sight | None) -> bool:
    """Whether other splits are tried: a solved head, few images, and a split that headway made."""
    if sight is None or settings.strategy != "probe" or settings.head not in SOLVED or settings.views is not None:
        return False
    few = few_to_judge_by(len(split.train), len(split.val), len(split.test))
    return few and not split.brought and settings.split is None


def repeat(
    dataset: Dataset, sight: Sight | None, split: Split, settings: FitSettings, chosen: Mapping[str, Any]
) -> Generator[Event, None, dict[str, Any] | None]:
    """Train and judge on `REPEATS` other splits; "repeats" of evaluation.json; None where not needed, or impossible.

    chosen  "selection" of the run: its taps and L2 are kept, which makes each a single fit
    """
    if sight is None or not repeats(settings, split, sight):
        return None
    kept = {"taps": chosen["taps"], **({} if chosen["l2"] is None else {"l2": float(chosen["l2"])})}
    settings = settings.model_copy(update=kept)
    accuracies: list[float] = []
    balanced: list[float] = []
    for number in range(REPEATS):
        yield Progress("repeats", number, REPEATS, unit="splits")
        seed = (settings.seed + 1 + number) % 2**63
        try:
            other = make_split(dataset, sight.contents, seed=seed, val=settings.val, test=settings.test)
        except Refused:
            return None
        classifier, _ = drain(train(dataset, sight, other, settings))
        labels = dataset.labels[other.test]
        right = logits_of(classifier, sight.features, other.test).argmax(axis=1) == labels
        accuracies.append(float(right.mean()))
        balanced.append(float(np.mean([right[labels == label].mean() for label in np.unique(labels)])))
    yield Progress("repeats", REPEATS, REPEATS, unit="splits")
    found = summary(accuracies, len(split.test), len(split.train) + len(split.val))
    found["balanced_accuracy"] = {"mean": float(np.mean(balanced)), "deviation": float(np.std(balanced, ddof=1))}
    yield Line("repeats", found["sentence"])
    return found


def summary(accuracies: list[float], n_test: int, n_rest: int) -> dict[str, Any]:
    """Mean, spread and the corrected interval of the mean (Nadeau and Bengio, 2003) over splits of the same images.

    Splits share images, so their mean varies by (1/k + n_test / n_rest) times the variance between them, not by 1/k.
    """
    k, mean, deviation = len(accuracies), float(np.mean(accuracies)), float(np.std(accuracies, ddof=1))
    half = student_quantile(k - 1) * deviation * float(np.sqrt(1 / k + n_test / n_rest))
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {
        "n": k,
        "accuracy": accuracies,
        "mean": mean,
        "deviation": deviation,
        "interval": [low, high],
        "sentence": (
            f"on {k} other splits of these images the same head reaches accuracy {mean:.3f} on average "
            f"[{low:.3f}, {high:.3f}], from {min(accuracies):.3f} to {max(accuracies):.3f}"
        ),
    }
