"""How unlike an image is to those that were learnt from: one number, and the rate at which known images reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.sets import kept_ranks

SCORE = "logit+relative+residual"  # what the scores are; of a bundle with another one this headway flags nothing
ARRAYS = ("centre", "scale", "axes", "widths", "whiten", "means", "spread", "scores")
# What weighs how much was chosen on cats and dogs and on held-out classes of CIFAR-100, other ones than are reported.
# More of the distance misses new classes of the same kind, less of it images of another kind. Bundles keep scores, so
# other weights need another name in SCORE.
_LOGIT, _RELATIVE, _FAR = 0.7, 0.3, 0.15
_SUREST, _FARTHEST = -3.0, 20.0  # deviations beyond which neither side says more
TINY = 1e-6  # beside a squared distance of about 1 for each feature
WEIGHTS = (_LOGIT, _RELATIVE, _FAR, _SUREST, _FARTHEST)  # all of them, for who scores in another language


@dataclass(frozen=True)
class Unknown:
    """Statistics of D features of training images, and the scores of n validation images.

    n       validation images
    centre  (D,) float32, mean of each feature;  scale (D,) float32, one over its deviation, 0 where it has none
    axes    (R, D) float32, orthonormal: the directions in which centred, scaled features vary most
    widths  (R,) float32, one over the deviation along each axis
    whiten  (R, R) float32: what turns places along the axes so that the images of a class have deviation 1 every way
    means   (M, R) float32: the classes' mean places, so turned; a class without training images has none
    spread  (6,) float64: mean and deviation, over validation images, of each of the three parts of a score
    scores  (K,) float64, ascending: those of the validation images; of more than `sets.KEPT` those at `kept_ranks(n)`
    """

    n: int
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32]
    widths: NDArray[np.float32]
    whiten: NDArray[np.float32]
    means: NDArray[np.float32]
    spread: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def least(self) -> float:
        """The smallest false-alarm rate that can be promised, 1 / (n + 1): less would need more validation images."""
        return 1 / (self.n + 1)

    def score(self, features: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, D) features and (N, C) logits → (N,) how strange, larger is stranger; no unit.

        An image is strange where no class fits it: its largest logit is small (Hendrycks et al., 2022), and it is
        farther from every class than images are from the middle of all (relative Mahalanobis distance; Ren et al.,
        2021). Or it is where its features lie off the axes, where no image's do (the residual of Wang et al., 2022).
        That part grows exponentially beyond what is ordinary: an image of another kind is told by it alone, a new class
        of the same kind by the others.
        """
        return self.added_up(self.parts(features, logits))

    def added_up(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(3, N) of `parts` → (N,) scores."""
        logit, relative, far = (parts - self.spread[0::2, None]) / self.spread[1::2, None]
        doubt = np.maximum(_LOGIT * logit + _RELATIVE * relative, _SUREST)
        return np.asarray(doubt + _FAR * np.exp(np.minimum(far, _FARTHEST)))

    def rate(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) scores → (N,) share of known images that are as strange or stranger, 1 / (n + 1) ... 1.

        The p-value of conformal anomaly detection (Laxhammar and Falkman, 2010): of images exchangeable with the
        validation images, at most a share r gets a rate <= r.
        """
        ranks = np.concatenate([[0], kept_ranks(self.n)])
        below = ranks[np.searchsorted(self.scores, scores, side="left")]
        return np.asarray((self.n - below + 1) / (self.n + 1))

    def calibrated(self, parts: NDArray[np.float64]) -> Unknown:
        """The same, with `spread` and `scores` of n >= 1 validation images, of which `parts` gave (3, n)."""
        spread = np.array([value for part in parts for value in (part.mean(), max(part.std(), TINY))])
        fitted = replace(self, n=parts.shape[1], spread=spread)
        ordered = np.sort(fitted.added_up(parts))
        return replace(fitted, scores=ordered[kept_ranks(len(ordered)) - 1])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by its name, as a bundle keeps them."""
        return {name: getattr(self, name) for name in ARRAYS}

    def parts(self, features: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(3, N): the largest logit taken negative, relative Mahalanobis distance, logarithm of that from the axes."""
        place = (features - self.centre) * self.scale  # (N, D)
        along = (place @ self.axes.T).astype(np.float64)  # (N, R)
        turned, means = along @ self.whiten.T, self.means.astype(np.float64)
        near = np.square(means).sum(axis=1) - 2 * turned @ means.T  # (N, M), without what all classes share
        relative = near.min(axis=1) + np.square(turned).sum(axis=1) - np.square(along * self.widths).sum(axis=1)
        rest = np.square(place, dtype=np.float64).sum(axis=1) - np.square(along).sum(axis=1)
        return np.stack([-logits.max(axis=1).astype(np.float64), relative, np.log(np.maximum(rest, 0) + TINY) / 2])


def from_arrays(n: int, arrays: Mapping[str, NDArray[Any]], width: int) -> Unknown | str:
    """What `Unknown.arrays` gave, as an Unknown of `width` features; else the name of an array that does not fit."""
    rank, n_means = (arrays[name].shape[0] if arrays[name].ndim == 2 else -1 for name in ("axes", "means"))
    shapes = {
        "centre": (width,),
        "scale": (width,),
        "axes": (rank, width),
        "widths": (rank,),
        "whiten": (rank, rank),
        "means": (n_means, rank),
        "spread": (6,),
        "scores": kept_ranks(n).shape,
    }
    kinds = {"spread": np.float64, "scores": np.float64}
    for name, value in arrays.items():
        fits = value.shape == shapes[name] and value.dtype == kinds.get(name, np.float32)
        if not (fits and np.isfinite(value).all()):
            return name
    if not n_means:
        return "means"
    if not (arrays["spread"][1::2] > 0).all():
        return "spread"
    if not (np.diff(arrays["scores"]) >= 0).all():
        return "scores"
    return Unknown(n, **arrays)
