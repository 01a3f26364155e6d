"""How well features separate classes before anything is trained on them: LogME, and the nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RULES = 1  # of both
_ROUNDS, _SETTLED = 300, 1e-6  # of the fixed point of LogME; it mostly takes a dozen
_LEAST = 1e-10  # smallest precision, so that features which explain everything stay finite
_BLOCK = 1 << 24  # similarities at a time, 64 MB
_SHARPNESS = 1 / 0.07  # of the votes of neighbours (Wu et al. 2018, "Unsupervised feature learning via ...")
_MOST_NEIGHBOURS = 20


def log_me(features: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """LogME of features (N, D) for labels (N,): the largest log-evidence of a linear model, per image; more is better.

    You, Liu, Wang and Long 2021, "LogME: practical assessment of pre-trained models for transfer learning": each class
    is regressed (1 for its images, 0 for others) on the raw features with Gaussian weights of precision alpha and noise
    of precision beta, both at the maximum of the evidence; the mean over classes, in nats. The fixed point runs in the
    coordinates of one decomposition, for all classes at once (You et al. 2022). Compares features on the same images,
    and says nothing by itself.
    """
    present = np.unique(labels)
    targets = (labels[:, None] == present).astype(np.float64)  # (N, C)
    n, d = features.shape
    energy, inside = _spectrum(features.astype(np.float64), targets)  # (K,), (K, C)
    outside = np.maximum(targets.sum(axis=0) - inside.sum(axis=0), 0.0)  # (C,) what no weights can reach
    alpha = beta = np.ones(len(present))
    for _ in range(_ROUNDS):
        shrunk = alpha / (alpha + beta * energy[:, None])  # (K, C)
        missed = (shrunk**2 * inside).sum(axis=0) + outside
        size = ((1 - shrunk) ** 2 * inside / energy[:, None]).sum(axis=0)
        effective = (1 - shrunk).sum(axis=0)
        before = alpha / beta
        alpha = np.maximum(effective / np.maximum(size, _LEAST), _LEAST)
        beta = np.maximum((n - effective) / np.maximum(missed, _LEAST), _LEAST)
        if (np.abs(alpha / beta - before) <= _SETTLED * before).all():
            break
    found = _evidence(alpha, beta, energy, inside, outside, (n, d))  # (C,)
    return float(found.mean() / n)


def _spectrum(
    features: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared singular values (K,) above rounding; squares (K, C) of the targets along the left singular vectors."""
    n, d = features.shape
    if n <= d:
        energy, left = np.linalg.eigh(features @ features.T)
        along = left.T @ targets
    else:
        energy, right = np.linalg.eigh(features.T @ features)
        along = right.T @ (features.T @ targets) / np.sqrt(np.maximum(energy, _LEAST))[:, None]
    kept = energy > energy[-1] * max(n, d) * np.finfo(np.float64).eps
    return energy[kept], along[kept] ** 2


def _evidence(
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    energy: NDArray[np.float64],
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """(C,) log-evidence of each class at its precisions."""
    n, d = shape
    curvature = alpha + beta * energy[:, None]  # (K, C)
    shrunk = alpha / curvature
    missed = (shrunk**2 * inside).sum(axis=0) + outside
    size = ((1 - shrunk) ** 2 * inside / energy[:, None]).sum(axis=0)
    volume = np.log(curvature).sum(axis=0) + (d - len(energy)) * np.log(alpha)
    found = n * np.log(beta / (2 * np.pi)) + d * np.log(alpha) - beta * missed - alpha * size - volume
    return np.asarray(found / 2)


def count_of_neighbours(labels: NDArray[np.integer[Any]]) -> int:
    """How many neighbours vote: the root of the images that a class has in the middle, from 1 to 20."""
    counts = np.unique(labels, return_counts=True)[1]
    return int(np.clip(round(float(np.sqrt(np.median(counts)))), 1, _MOST_NEIGHBOURS))


def nearest_labels(
    known: NDArray[np.float32], labels: NDArray[np.integer[Any]], asked: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """(n,) the label that the `k` nearest of `known` (N, D) with `labels` (N,) give each row of `asked` (n, D).

    By cosine, after the mean of `known` is taken off: what all images have in common says nothing. Votes weigh
    exp(cosine / 0.07), as is usual since Wu et al. 2018.
    """
    centre = known.mean(axis=0)
    here, there = _directions(known - centre), _directions(asked - centre)
    k, n_classes = min(k, len(here)), int(labels.max()) + 1
    found = np.empty(len(there), np.int64)
    step = max(1, _BLOCK // len(here))
    for low in range(0, len(there), step):
        close = there[low : low + step] @ here.T  # (n, N)
        nearest = np.argpartition(-close, k - 1, axis=1)[:, :k]
        rows = np.arange(len(close))[:, None]
        weights = np.exp((close[rows, nearest] - 1) * _SHARPNESS)
        votes = np.zeros((len(close), n_classes))
        np.add.at(votes, (rows, labels[nearest]), weights)
        found[low : low + step] = votes.argmax(axis=1)
    return found


def _directions(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
