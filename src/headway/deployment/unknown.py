"""How unlike an image is to those that were learnt from: one number, and the rate at which known images reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.sets import kept_ranks

SCORE = "max-logit+residual"  # what the scores are; of a bundle with another one this headway flags nothing
ARRAYS = ("centre", "scale", "axes", "spread", "scores")
# How much the distance weighs beside the logit where both are ordinary. Chosen among 0.1 to 0.4 on cats and dogs, blood
# cells and held-out classes of CIFAR-100: less misses images of another kind, more misses new classes of the same kind.
_FAR = 0.2
_SUREST, _FARTHEST = -3.0, 20.0  # deviations beyond which neither part says more
_TINY = 1e-6  # beside a squared distance of about 1 for each feature


@dataclass(frozen=True)
class Unknown:
    """Statistics of D features of training images, and the scores of n validation images.

    n       validation images
    centre  (D,) float32, mean of each feature;  scale (D,) float32, one over its deviation, 0 where it has none
    axes    (R, D) float32, orthonormal: the directions in which centred, scaled features vary most
    spread  (4,) float64: mean and deviation, over validation images, of the largest logit taken negative, and of the
            logarithm of the distance from the axes
    scores  (K,) float64, ascending: those of the validation images; of more than `sets.KEPT` those at `kept_ranks(n)`
    """

    n: int
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32]
    spread: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def least(self) -> float:
        """The smallest false-alarm rate that can be promised, 1 / (n + 1): less would need more validation images."""
        return 1 / (self.n + 1)

    def score(self, features: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, D) features and (N, C) logits → (N,) how strange, larger is stranger; no unit.

        Two things tell a strange image: no class fits it (the largest logit is small; Hendrycks et al., 2022), or its
        features lie where no image's do (far from the axes; as the residual of Wang et al., 2022). The second grows
        exponentially beyond what is ordinary, so that an image of another kind is told by it alone, and one of a new
        class of the same kind by the first.
        """
        doubt, far = self._parts(features, logits)
        doubt = np.maximum((doubt - self.spread[0]) / self.spread[1], _SUREST)
        far = np.minimum((far - self.spread[2]) / self.spread[3], _FARTHEST)
        return doubt + _FAR * np.exp(far)

    def rate(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) scores → (N,) share of known images that are as strange or stranger, 1 / (n + 1) ... 1.

        The p-value of conformal anomaly detection (Laxhammar and Falkman, 2010): of images exchangeable with the
        validation images, at most a share r gets a rate <= r.
        """
        ranks = np.concatenate([[0], kept_ranks(self.n)])
        below = ranks[np.searchsorted(self.scores, scores, side="left")]
        return np.asarray((self.n - below + 1) / (self.n + 1))

    def calibrated(self, features: NDArray[np.float32], logits: NDArray[np.float32]) -> Unknown:
        """The same, with `spread` and `scores` of the validation images with these features (n, D), logits (n, C)."""
        doubt, far = self._parts(features, logits)
        spread = np.array([doubt.mean(), max(doubt.std(), _TINY), far.mean(), max(far.std(), _TINY)])
        fitted = replace(self, n=len(features), spread=spread)
        ordered = np.sort(fitted.score(features, logits))
        return replace(fitted, scores=ordered[kept_ranks(len(ordered)) - 1])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by its name, as a bundle keeps them."""
        return {name: getattr(self, name) for name in ARRAYS}

    def _parts(
        self, features: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The largest logit taken negative, and the logarithm of the distance from the axes. Both (N,)."""
        place = (features - self.centre) * self.scale  # (N, D)
        along = place @ self.axes.T  # (N, R)
        square = np.square(place, dtype=np.float64).sum(axis=1) - np.square(along, dtype=np.float64).sum(axis=1)
        return -logits.max(axis=1).astype(np.float64), np.log(np.maximum(square, 0) + _TINY) / 2


def from_arrays(n: int, arrays: Mapping[str, NDArray[Any]], width: int) -> Unknown | str:
    """What `Unknown.arrays` gave, as an Unknown of `width` features; else the name of an array that does not fit."""
    axes = arrays["axes"]
    shapes = {
        "centre": (width,),
        "scale": (width,),
        "axes": (axes.shape[0] if axes.ndim == 2 else -1, width),
        "spread": (4,),
        "scores": kept_ranks(n).shape,
    }
    kinds = {"spread": np.float64, "scores": np.float64}
    for name, value in arrays.items():
        fits = value.shape == shapes[name] and value.dtype == kinds.get(name, np.float32)
        if not (fits and np.isfinite(value).all()):
            return name
    if not (arrays["spread"][1::2] > 0).all():
        return "spread"
    if not (np.diff(arrays["scores"]) >= 0).all():
        return "scores"
    return Unknown(n, **arrays)
