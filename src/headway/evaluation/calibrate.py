"""How far a probability can be believed: the temperature, the reliability bins, ECE and its noise floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.metrics import CHUNK, check_logits

N_BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
# Simulated images for the noise floor, in all; at least 20 and at most 200 simulations.
_SIMULATED = 20_000_000


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in (low, high]; confidence and accuracy are means, None where n is 0."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def fit_temperature(logits: NDArray[Any], y: NDArray[Any]) -> float:
    """The temperature T by which logits are divided so that probabilities fit y (Guo et al., 2017), in 0.05 ... 20.

    logits (N, C) finite; y (N,) in 0 ... C-1, from validation images. Minimises, over b = 1/T, the summed log-loss of
    softmax(b x logits) plus (b - 1)^2 / 2. It is convex in b, so there is one minimum. The second part, a weak prior
    that the head is calibrated as trained, weighs as 1 against the N of the images. Without it images that are all
    right have no minimum: T falls to its bound, and the first mistake on other images costs hundreds of nats. On the
    fitting data the log-loss is never above that of T = 1, as the prior is 0 there and nowhere less.
    Raises as `check_logits`.
    """
    check_logits(logits, y)
    low, high = 1 / HOTTEST, 1 / COLDEST
    inverse = 1.0
    for _ in range(100):
        slope, curvature = _slope(logits, y, inverse)
        if slope > 0:
            high = inverse
        else:
            low = inverse
        # Newton's step where it stays inside what is known to hold the minimum, else half of it.
        step = inverse - slope / curvature
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return float(np.clip(1 / inverse, COLDEST, HOTTEST))


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """The 15 bins of equal width of a reliability diagram. confidence (N,) in (0, 1], right (N,)."""
    edges = np.linspace(0, 1, N_BINS + 1)
    where = _bin(confidence)
    counts = np.bincount(where, minlength=N_BINS)
    confidences = np.bincount(where, confidence, N_BINS)
    hits = np.bincount(where, right, N_BINS)
    bins = []
    for index, n in enumerate(counts.tolist()):
        means = (float(confidences[index] / n), float(hits[index] / n)) if n else (None, None)
        bins.append(Bin(float(edges[index]), float(edges[index + 1]), n, *means))
    return tuple(bins)


def ece(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error over 15 bins of equal width, 0 ... 1 (Naeini et al., 2015; Guo et al., 2017)."""
    gaps = np.bincount(_bin(confidence), confidence - right, N_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def ece_floor(confidence: NDArray[np.float64], *, seed: int) -> float:
    """The ECE that a perfectly calibrated classifier with these confidences shows on average, by chance alone.

    confidence (N,) in (0, 1]. Each image is right with just its confidence, simulated 20 to 200 times from `seed`.
    """
    rng = np.random.default_rng([seed, 2])
    confidence = np.sort(confidence)  # the floor must not depend on the order of the images
    where = _bin(confidence)
    n = len(confidence)
    repeats = int(np.clip(_SIMULATED // n, 20, 200))
    expected = np.bincount(where, confidence, N_BINS)
    total = 0.0
    for _ in range(repeats):
        hits = np.bincount(where, rng.random(n) < confidence, N_BINS)
        total += float(np.abs(expected - hits).sum()) / n
    return total / repeats


def _bin(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    inner = np.linspace(0, 1, N_BINS + 1)[1:-1]
    return np.searchsorted(inner, confidence, side="left")


def _slope(logits: NDArray[Any], y: NDArray[Any], inverse: float) -> tuple[float, float]:
    """First and second derivative, with respect to b = 1/T at `inverse`, of what `fit_temperature` minimises."""
    slope, curvature = inverse - 1.0, 1.0
    for start in range(0, len(y), CHUNK):
        centred = logits[start : start + CHUNK].astype(np.float64)
        centred -= centred.max(axis=1, keepdims=True)
        labels = y[start : start + CHUNK]
        of_label = centred[np.arange(len(labels)), labels]
        probability = np.exp(centred * inverse)
        probability /= probability.sum(axis=1, keepdims=True)
        mean = (probability * centred).sum(axis=1)
        slope += float((mean - of_label).sum())
        centred -= mean[:, None]
        curvature += float((probability * centred * centred).sum())
    return slope, curvature
