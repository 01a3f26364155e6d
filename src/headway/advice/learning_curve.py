"""How much more images would bring: a head solved on parts of the training images, and its errors carried on.

The error on n images is taken as e(n) = limit + size * n^-c (the power law that learning curves follow: Cortes et al.
1993, "Learning curves: asymptotic values and rate of convergence"; Viering and Loog 2021, "The shape of learning
curves: a review"). Written with what is asked for, N being all training images:

    e(n) = e(N) + gain * ((n/N)^-c - 1) / (1 - 2^-c)

where `gain` is what twice the images take off. c is not known from four or five sizes, so every c from 0.05 to 1 counts
by how well it fits; e(N) and gain, given c, are a weighted least squares with gain >= 0 and a limit >= 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wrong = NDArray[np.bool_]

_EXPONENTS = np.linspace(0.05, 1.0, 20)
_SAMPLES = 1000  # for each exponent
_PSEUDO = 0.5  # images that only one of the sizes gets wrong: sizes that agree on all that was seen may differ


@dataclass(frozen=True)
class Part:
    """Heads solved on `n` training images each. wrong (draws, V): which validation images they got wrong."""

    n: int
    wrong: Wrong
    loss: float

    @property
    def accuracy(self) -> float:
        return 1.0 - float(self.wrong.mean())


@dataclass(frozen=True)
class Curve:
    """The learning curve of a head on frozen features.

    parts     from few images to all
    gain      what twice the images would bring, as a share of validation images;  interval  of it at 95 %
    exponent  c that fits best;  left_out  which part was too dear, in words, or ""
    """

    parts: tuple[Part, ...]
    gain: float
    interval: tuple[float, float]
    exponent: float
    left_out: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "points": [
                {"n": part.n, "draws": len(part.wrong), "val_accuracy": part.accuracy, "val_log_loss": part.loss}
                for part in self.parts
            ],
            "doubling": {"gain": self.gain, "interval": list(self.interval)},
            "exponent": self.exponent,
            "left_out": self.left_out,
        }


def carry_on(parts: Sequence[Part], *, seed: int, left_out: str = "") -> Curve:
    """The curve through `parts`, the last of which has all images, and what twice as many would bring.

    What it does not know, and the interval holds: which validation images there are (they are the same for all sizes,
    so what all sizes share falls out of the gain), which training images a part happened to get (measured between
    draws of one size), the exponent, and which images the next ones will be. Needs three sizes.
    """
    if len(parts) < 3:
        raise ValueError(f"a learning curve needs three sizes, not {len(parts)}")
    sizes = np.array([part.n for part in parts], np.float64)
    draws = np.array([len(part.wrong) for part in parts])
    seen = np.stack([part.wrong.mean(axis=0) for part in parts])  # (K, V)
    # One image more that every size gets right, and one that none does: no error seen does not mean there are none.
    errors = np.concatenate([seen, np.zeros((len(seen), 1)), np.ones((len(seen), 1))], axis=1)
    n_val = errors.shape[1]
    luck = _luck(parts)
    covariance = np.cov(errors) / n_val + np.diag(luck / draws + _PSEUDO / n_val**2)
    rng = np.random.default_rng([seed, 5])
    found = np.empty((len(_EXPONENTS), _SAMPLES))
    evidence = np.empty(len(_EXPONENTS))
    for row, c in enumerate(_EXPONENTS):
        shape = ((sizes / sizes[-1]) ** -c - 1) / (1 - 2**-c)
        found[row], evidence[row] = _sampled(errors.mean(axis=1), shape, covariance, c, rng)
    found += rng.normal(size=found.shape) * np.sqrt(1.5 * luck[-1])  # of the images there are, and of the next
    weights = np.repeat(np.exp(evidence - evidence.max()), _SAMPLES)
    low, middle, high = _quantiles(found.reshape(-1), weights, (0.025, 0.5, 0.975))
    return Curve(tuple(parts), middle, (low, high), float(_EXPONENTS[evidence.argmax()]), left_out)


def _luck(parts: Sequence[Part]) -> NDArray[np.float64]:
    """(K,) variance of the error between draws of one size: errors / n times what is measured where there are several.

    Small parts have more errors and more luck: it goes with both, and is pooled over the sizes.
    """
    scale = np.array([_error(part) / part.n for part in parts])
    several = [(part, own) for part, own in zip(parts, scale, strict=True) if len(part.wrong) > 1]
    spread = [(len(part.wrong) - 1) * float(part.wrong.mean(axis=1).var(ddof=1)) / own for part, own in several]
    pooled = sum(spread) / max(1, sum(len(part.wrong) - 1 for part, _ in several))
    return np.asarray(scale * pooled)


def _error(part: Part) -> float:
    """Share of errors as if half an image more had been wrong: never 0."""
    return float((part.wrong.mean(axis=0).sum() + 0.5) / (part.wrong.shape[1] + 1))


def _sampled(
    errors: NDArray[np.float64],
    shape: NDArray[np.float64],
    covariance: NDArray[np.float64],
    c: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], float]:
    """Gains (S,) at one exponent as the errors (K,) leave them open, and the log-evidence of the exponent.

    Those below 0, and those that would bring the limit below 0, count as what lies at the border.
    """
    design = np.stack([np.ones_like(shape), shape], axis=1)  # (K, 2): e(N) and the gain
    whitened = np.linalg.solve(covariance, np.column_stack([design, errors]))  # (K, 3)
    spread = np.linalg.inv(design.T @ whitened[:, :2])
    mean = spread @ (design.T @ whitened[:, 2])
    residual = errors - design @ mean
    misfit = float(residual @ np.linalg.solve(covariance, residual))
    samples = mean + rng.normal(size=(_SAMPLES, 2)) @ np.linalg.cholesky(spread).T
    most = np.maximum(samples[:, 0], 0) * (1 - 2**-c)
    return np.clip(samples[:, 1], 0, most), 0.5 * float(np.linalg.slogdet(spread)[1]) - misfit / 2


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64], at: Sequence[float]) -> list[float]:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return [float(values[order[np.searchsorted(reached, q * reached[-1])]]) for q in at]
