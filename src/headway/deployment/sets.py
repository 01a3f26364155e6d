"""Prediction sets with a promised coverage: split conformal prediction from the scores of validation images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KEPT = 4096  # scores that a bundle carries at most


@dataclass(frozen=True)
class Sets:
    """What any coverage needs of the validation images.

    n       validation images
    scores  (K,) float64, ascending: the score of each one's own label; of more than `KEPT` those at `kept_ranks(n)`
    """

    n: int
    scores: NDArray[np.float64]

    @property
    def most(self) -> float:
        """The largest coverage that can be promised, n / (n + 1): more would need more validation images."""
        return self.n / (self.n + 1)

    def promises(self, coverage: float) -> bool:
        """Whether n is enough for `coverage`, 0 < coverage < 1."""
        return _rank(self.n, coverage) <= self.n

    def threshold(self, coverage: float) -> float:
        """The score up to which classes belong to a set: the ceil((n + 1) coverage)-th smallest of n.

        Of images that are exchangeable with the validation images, at least `coverage` then have their label in their
        set (Vovk et al., 2005; Papadopoulos et al., 2002). Where that very rank was not kept, the next one that was.
        Raises ValueError where `promises` says no.
        """
        rank = _rank(self.n, coverage)
        if rank > self.n:
            raise ValueError(f"{self.n} images promise no coverage of {coverage}")
        return float(self.scores[np.searchsorted(kept_ranks(self.n), rank)])


def class_scores(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, C) probabilities → (N, C) scores: 1 - probability, but 0 for the most likely class (the first of equal ones).

    1 - probability is the score of the smallest sets on average (Sadinle et al., 2019, "LAC"). As the most likely
    class has the least score that there is, no set is ever empty; and as the validation images are scored in the same
    way, the promise holds for just these sets.
    """
    scores = 1 - probabilities
    scores[np.arange(len(scores)), probabilities.argmax(axis=1)] = 0.0
    return scores


def kept_ranks(n: int) -> NDArray[np.int64]:
    """Which of n sorted scores a bundle carries, counted from 1, ascending: all of them, or `KEPT` evenly spread."""
    if n <= KEPT:
        return np.arange(1, n + 1, dtype=np.int64)
    return np.ceil(np.linspace(1, n, KEPT)).astype(np.int64)


def calibrated_sets(label_scores: NDArray[np.float64]) -> Sets:
    """Sets from the scores (n,) of the labels of n >= 1 validation images."""
    ordered = np.sort(label_scores)
    return Sets(len(ordered), ordered[kept_ranks(len(ordered)) - 1])


def _rank(n: int, coverage: float) -> int:
    return math.ceil(round((n + 1) * coverage, 9))  # 0.07 x 100 is 7.000000000000001 to a computer
