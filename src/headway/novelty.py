"""What the features of training images are like, for telling images that are unlike them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.unknown import Unknown

RULES = 1  # of `learn`
AXES = 512  # directions; of another kind 16 told images as well, of new classes fewer tell less, 768 hardly more
_SHRINK = 0.05  # how much of the spread of all images stands in for that within classes, of which some have few images
_LARGEST = 1 << 20  # numbers in all axes: of very many features fewer axes are kept
_MORE = 16  # directions that are followed beside those that are kept: they make the kept ones exact
_ROUNDS = 2


def learn(features: NDArray[np.float32], labels: NDArray[Any]) -> Unknown:
    """Statistics of training features (N, D), N >= 1, finite, of images with labels (N,); yet to be calibrated.

    The axes are found by randomised subspace iteration (Halko et al., 2011), always from the same start. There are
    never more than half as many as images or features, so that a distance from them remains.
    """
    n, width = features.shape
    centre = features.mean(axis=0, dtype=np.float64)
    place = features - centre.astype(np.float32)  # (N, D)
    deviation = np.sqrt(np.square(place).mean(axis=0, dtype=np.float64))
    # Float32 leaves a feature that is always the same a deviation of its last digits.
    varies = deviation > 1e-6 * np.maximum(np.abs(centre), float(deviation.max()))
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
    place *= scale
    axes = _main_axes(place, min(AXES, width // 2, n // 2, _LARGEST // width))
    widths, whiten, means = _classes((place @ axes.T).astype(np.float64), labels)
    spread = np.array([0.0, 1.0] * 3)
    return Unknown(0, centre.astype(np.float32), scale, axes, widths, whiten, means, spread, np.empty(0))


def _classes(
    along: NDArray[np.float64], labels: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """`Unknown.widths`, `whiten` and `means` of places (N, R) along the axes."""
    n, rank = along.shape
    _, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), rank))  # (M, R)
    np.add.at(means, members, along)
    means /= counts[:, None]
    variances = np.square(along).mean(axis=0) + 1e-9
    within = along - means[members]
    covariance = (1 - _SHRINK) * within.T @ within / n + _SHRINK * np.diag(variances)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))  # (R, R)
    return (1 / np.sqrt(variances)).astype(np.float32), whiten.astype(np.float32), (means @ whiten.T).astype(np.float32)


def _main_axes(place: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """(rank, D) orthonormal float32: the directions in which the rows of (N, D) vary most, the widest first."""
    n, width = place.shape
    if not rank:
        return np.empty((0, width), np.float32)
    start = np.random.default_rng(0).standard_normal((width, min(rank + _MORE, n, width))).astype(np.float32)
    basis = np.linalg.qr(start)[0]  # (D, rank + _MORE)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(place.T @ (place @ basis))[0]
    along = (place @ basis).astype(np.float64)
    turned = np.linalg.eigh(along.T @ along)[1][:, ::-1]  # the widest first; a tenth of the time of an SVD of `along`
    return np.ascontiguousarray((basis @ turned.astype(np.float32)).T[:rank], np.float32)
