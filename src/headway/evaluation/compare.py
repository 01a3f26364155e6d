"""Is one classifier better than another on the same images? Only a paired test may say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.intervals import Z95

ALPHA = 0.05


@dataclass(frozen=True)
class PairedTest:
    """Two classifiers, a and b, on the same `n` images.

    measure     "accuracy" (shares, more is better) or "log-loss" (nats, less is better)
    a, b        their means
    difference  a - b, with its 95 % interval
    p_value     two-sided: how often chance alone shows a difference at least as large
    """

    measure: str
    n: int
    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p_value: float

    @property
    def better(self) -> str | None:
        """ "a" or "b" where p < 0.05 and the interval leaves out 0, else None: no difference shown."""
        low, high = self.interval
        if self.p_value >= ALPHA or low <= 0 <= high:
            return None
        return "a" if (self.difference > 0) == (self.measure == "accuracy") else "b"

    def sentence(self, a: str, b: str) -> str:
        """The result in words, with `a` and `b` as their names."""
        sign = f"{self.measure} {self.a:.3f} against {self.b:.3f}"
        low, high = self.interval
        conditions = f"difference {self.difference:+.3f} [{low:+.3f}, {high:+.3f}], p={self.p_value:.2g}, n={self.n:,}"
        if self.better is None:
            return f"no difference shown between {a} and {b}: {sign}, {conditions}"
        best, other = (a, b) if self.better == "a" else (b, a)
        return f"{best} is better than {other}: {a} against {b} {sign}, {conditions}"

    def to_json(self) -> dict[str, Any]:
        """Every field, and `better`."""
        return {
            "measure": self.measure,
            "n": self.n,
            "a": self.a,
            "b": self.b,
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "better": self.better,
        }


def paired_test(a: NDArray[Any], b: NDArray[Any]) -> PairedTest:
    """Compare two classifiers image by image: a, b (N,) from the same images in the same order.

    bool (right or wrong)   exact McNemar test (1947): the sign test on the images where only one of the two is right;
                            Tango's score interval (1998) of the difference, honest where few or no images differ
    floats (log-losses)     Student's paired t-test and interval, N >= 2. Simulated, it covers 93 to 97 % at n >= 100;
                            where a handful of mistakes carries nearly all of the loss, as little as 71 % at n = 30,
                            86 % at n = 100 and 92 % at n = 300

    Raises ValueError where the two do not belong together.
    """
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0 or (a.dtype == np.bool_) != (b.dtype == np.bool_):
        raise ValueError(f"a paired test needs two like arrays (N,), not {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    if a.dtype == np.bool_:
        return _paired_shares(a, b)
    return _paired_losses(a.astype(np.float64), b.astype(np.float64))


def _paired_shares(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> PairedTest:
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    interval = _tango(only_a, only_b, n)
    p_value = sign_test(only_a, only_b)
    return PairedTest("accuracy", n, float(a.mean()), float(b.mean()), (only_a - only_b) / n, interval, p_value)


def _paired_losses(a: NDArray[np.float64], b: NDArray[np.float64]) -> PairedTest:
    n = len(a)
    if n < 2:
        raise ValueError("a paired test of losses needs at least 2 images")
    differences = a - b
    if not np.isfinite(differences).all():
        raise ValueError("a paired test needs finite losses")
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / float(np.sqrt(n))
    half = student_quantile(n - 1) * error
    # Without any spread the difference is as sure as the images: 0 or a constant.
    p_value = student_p(mean / error, n - 1) if error > 0 else float(mean == 0)
    return PairedTest("log-loss", n, float(a.mean()), float(b.mean()), mean, (mean - half, mean + half), p_value)


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value of `wins` against `losses` fair coin tosses, in 0 ... 1."""
    tosses, fewer = wins + losses, min(wins, losses)
    index = np.arange(1, fewer + 1)
    log_ways = np.concatenate([[0.0], np.cumsum(np.log((tosses - index + 1) / index))])
    return min(1.0, 2 * float(np.exp(log_ways - tosses * np.log(2)).sum()))


def student_p(t: float, df: int) -> float:
    """Two-sided p-value of Student's t with `df` whole degrees of freedom, by its finite series.

    Abramowitz and Stegun (1964), 26.7.3 and 26.7.4. Right to 1e-12 or so: smaller values come out as 0.
    """
    angle = np.arctan2(abs(t), np.sqrt(df))
    sine, cosine = np.sin(angle), np.cos(angle)
    steps = np.arange(1 if df % 2 == 0 else 2, df - 2, 2)  # factors of the terms after the first
    terms = np.concatenate([[1.0], np.cumprod(steps / (steps + 1) * cosine * cosine)])
    if df == 1:
        inside = 2 / np.pi * angle
    elif df % 2:
        inside = 2 / np.pi * (angle + sine * cosine * terms.sum())
    else:
        inside = sine * terms.sum()
    return float(np.clip(1 - inside, 0, 1))


def student_quantile(df: int) -> float:
    """The t that Student's distribution with `df` >= 1 degrees of freedom exceeds, either way, in 5 % of cases."""
    return _falling_root(lambda t: student_p(t, df) - ALPHA, 0.0, 20.0)


def tango_statistic(
    only_a: NDArray[Any] | int, only_b: NDArray[Any] | int, n: int, difference: float
) -> NDArray[np.float64]:
    """Tango's score statistic of a true `difference` of accuracies: standard normal, falling in `difference`.

    only_a, only_b  how many of n images only a, and only b, gets right: whole numbers, or arrays of one shape
    """
    a, b = np.asarray(only_a, np.float64), np.asarray(only_b, np.float64)
    linear = (2 * n - a + b) * difference - a - b
    constant = -b * difference * (1 - difference)
    share = (np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    excess = a - b - n * difference
    spread = np.sqrt(np.where(variance > 0, variance, 1.0))
    return np.where(variance > 0, excess / spread, np.where(excess == 0, 0.0, np.copysign(np.inf, excess)))


def _tango(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """Tango's score interval of a difference of paired shares: the differences that a score test would not reject."""

    def statistic(difference: float) -> float:
        return float(tango_statistic(only_a, only_b, n, difference))

    middle = (only_a - only_b) / n
    low = -1.0 if middle == -1 else _falling_root(lambda value: statistic(value) - Z95, -1.0, middle)
    high = 1.0 if middle == 1 else _falling_root(lambda value: statistic(value) + Z95, middle, 1.0)
    return low, high


def _falling_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0 between `low` and `high`, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
