"""What the features of training images are like, for telling images that are unlike them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headway.deployment.unknown import Unknown

AXES = 64  # directions; 16 to 256 told strange images about equally well
_MORE = 16  # directions that are followed beside those that are kept: they make the kept ones exact
_ROUNDS = 4


def learn(features: NDArray[np.float32]) -> Unknown:
    """Statistics of training features (N, D), N >= 1, finite; they are yet to be calibrated (`Unknown.calibrated`).

    The axes are found by randomised subspace iteration (Halko et al., 2011), always from the same start. There are
    never more than half as many as images or features, so that a distance from them remains.
    """
    n, width = features.shape
    centre = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6 * max(float(deviation.max()), float(np.abs(centre).max()) * 1e-3)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
    place = (features - centre.astype(np.float32)) * scale  # (N, D)
    axes = _main_axes(place, min(AXES, width // 2, n // 2))
    empty = np.empty(0)
    return Unknown(0, centre.astype(np.float32), scale, axes, np.array([0.0, 1.0, 0.0, 1.0]), empty)


def _main_axes(place: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """(rank, D) orthonormal float32: the directions in which the rows of (N, D) vary most, the widest first."""
    n, width = place.shape
    if not rank:
        return np.empty((0, width), np.float32)
    start = np.random.default_rng(0).standard_normal((width, min(rank + _MORE, n, width))).astype(np.float32)
    basis = np.linalg.qr(start)[0]  # (D, rank + _MORE)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(place.T @ (place @ basis))[0]
    _, _, turned = np.linalg.svd(place @ basis, full_matrices=False)
    return np.ascontiguousarray((basis @ turned.T).T[:rank], np.float32)
