"""Leaks: images of one set that stand, the same or nearly, in another; and what that does to the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import TEST
from headway.data.wording import counted
from headway.evaluation.intervals import wilson
from headway.quality.duplicates import Duplicates, crossing


@dataclass(frozen=True)
class Share:
    """A share of `n` images with its 95 % interval (Wilson); None where there is no image."""

    value: float | None
    interval: tuple[float, float] | None
    n: int

    def __str__(self) -> str:
        if self.value is None or self.interval is None:
            return "unknown"
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] on {self.n:,}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"accuracy": self.value, "interval": None if self.interval is None else list(self.interval), "n": self.n}


@dataclass(frozen=True)
class LeakedAccuracy:
    """Accuracy on the test set with the leaked images, without them, and on them alone."""

    whole: Share
    clean: Share
    leaked: Share

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, with one sentence that says it."""
        parts = {"with": self.whole, "without": self.clean, "leaked": self.leaked}
        return {**{name: share.to_json() for name, share in parts.items()}, "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """What it says, for people."""
        stand = (
            f"{counted(self.leaked.n, 'test image')} {'stands' if self.leaked.n == 1 else 'stand'} in another set too"
        )
        if not self.clean.n:
            return f"{stand}: no test image is left without them"
        return f"{stand}: accuracy {self.whole} with them, {self.clean} without"


def leaked_images(duplicates: Duplicates, subsets: NDArray[np.int8], subset: int = TEST) -> NDArray[np.bool_]:
    """(N,) bool: images of `subset` that stand, the same or nearly, in another of train, val and test."""
    leaked = np.zeros(len(subsets), bool)
    for group in (*crossing(duplicates.exact, subsets), *crossing(duplicates.near or (), subsets)):
        members = np.array(group, np.intp)
        leaked[members[subsets[members] == subset]] = True
    return leaked


def accuracy_without(right: NDArray[np.bool_], leaked: NDArray[np.bool_]) -> LeakedAccuracy:
    """What the leaked images do to the accuracy. right, leaked (n,) bool of the n test images."""
    return LeakedAccuracy(_share(right), _share(right[~leaked]), _share(right[leaked]))


def _share(right: NDArray[np.bool_]) -> Share:
    if not len(right):
        return Share(None, None, 0)
    value = float(right.mean())
    return Share(value, wilson(value, len(right)), len(right))
