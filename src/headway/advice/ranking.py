"""Several backbones by a probe on the same few images: cross-validated, each against the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.advice.subsets import nested_order
from headway.advice.transferability import log_me
from headway.evaluation.metrics import score
from headway.training.curvature import Memory
from headway.training.solvers import LOOSE, pose

FOLDS = 5
_L2 = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # from strong to weak; of a few hundred images nothing weaker was best


@dataclass(frozen=True)
class Probed:
    """What a linear head on a backbone's features is worth on images that it was not fitted on.

    right   (N,) of each image, by the head of the folds that it is not in;  loss  their mean log-loss, in nats
    l2      that had the lowest;  log_me  of all N images
    """

    right: NDArray[np.bool_]
    loss: float
    l2: float
    log_me: float


def folds_of(labels: NDArray[np.integer[Any]], units: NDArray[np.integer[Any]], seed: int) -> NDArray[np.int64]:
    """(N,) the fold of each image, 0 to 4: stratified, images of one unit (copies, groups) together."""
    first, inverse = np.unique(units, return_index=True, return_inverse=True)[1:]
    order = nested_order(labels[first], np.random.default_rng([seed, 6]))
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(order)) * FOLDS // len(order)  # runs: every so many-th would be of one class
    return folds[inverse]


def cross_validate(features: NDArray[np.float32], labels: NDArray[np.integer[Any]], folds: NDArray[np.int64]) -> Probed:
    """Softmax regression on features (N, D), every image judged by the head of the other folds.

    One L2 for all folds, the one of lowest log-loss over all images: with six to choose from, of a path, accuracy is
    flattered by less than its interval is wide, and alike for every backbone.
    """
    y = labels.astype(np.int64)
    n_classes = int(y.max()) + 1
    right, loss = np.zeros((len(_L2), len(y)), np.bool_), np.zeros((len(_L2), len(y)))
    for fold in np.unique(folds):
        own = folds == fold
        problem, memory, point = pose(features[~own], y[~own], n_classes), Memory(), None
        for position, l2 in enumerate(_L2):
            solution = problem.solve(l2, start=point, tolerance=LOOSE, memory=memory)
            point = solution.point
            scores = score(features[own] @ solution.weight.T + solution.bias, y[own])
            right[position, own], loss[position, own] = scores.right, scores.loss
    best = int(loss.mean(axis=1).argmin())
    return Probed(right[best], float(loss[best].mean()), _L2[best], log_me(features, y))
