"""Images that lie far from all others of their class, in the network's features.

The distance of an image is the mean cosine distance to its nearest neighbours within a class; an image whose label may
be wrong is held against the class that it looks like too, and the smaller distance counts. What is far is told by the
class itself: distances are taken as multiples of its median, on a logarithmic scale, against their usual spread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
FEWEST = 20  # images of a class without which its spread says nothing
_REFERENCES = 20_000  # of all classes together: what is held in memory beside one block
_MOST_OF_A_CLASS = 2_000
_LEAST_OF_A_CLASS = 50
_BLOCK = 8192
_FAR = 3.0  # robust standard deviations of the logarithm

Read = Callable[[NDArray[np.intp]], NDArray[np.float32]]


@dataclass(frozen=True)
class Outliers:
    """Images far from their class, the furthest first.

    judged   number of images that were measured
    indices  (m,) into the dataset
    times    (m,) float32, the distance over the median distance of the class
    """

    judged: int
    indices: NDArray[np.intp]
    times: NDArray[np.float32]


def find_outliers(
    read: Read,
    indices: NDArray[np.intp],
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer] | None,
    ranks: NDArray[np.integer],
) -> Outliers:
    """Measure the images `indices` (n,), block by block.

    read       indices (n,) → features (n, D) float32
    labels     (n,) classes;  predicted (n,) what a head that never saw the image says; None = not asked
    ranks      (n,) a permutation that decides which images of a class stand for it, where it has many
    """
    n_classes = int(labels.max(initial=-1)) + 1
    near = np.full(len(indices), np.inf, np.float32)  # to the nearer of the two classes
    home = np.asarray(labels, np.intp).copy()  # which of them that is
    own = np.full(len(indices), np.inf, np.float32)
    chosen = _references(labels, ranks, n_classes)
    banks = {label: _normal(read(indices[rows])) for label, rows in chosen.items()}
    for start in range(0, len(indices), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(indices)))
        block = _normal(read(indices[rows]))
        for label, bank in banks.items():
            mine = np.flatnonzero(labels[rows] == label)
            if len(mine):
                own[rows[mine]] = _distance(block[mine], bank, rows[mine], chosen[label])
            if predicted is not None:
                other = np.flatnonzero((predicted[rows] == label) & (labels[rows] != label))
                if len(other):
                    near[rows[other]] = _distance(block[other], bank, rows[other], chosen[label])
                    home[rows[other]] = label
    nearer = own <= near
    near[nearer], home[nearer] = own[nearer], labels[nearer]
    return _far(indices, labels, own, near, home)


def _references(labels: NDArray[np.integer], ranks: NDArray[np.integer], n_classes: int) -> dict[int, NDArray[np.intp]]:
    """The rows that stand for each class that is large enough."""
    most = min(_MOST_OF_A_CLASS, max(_LEAST_OF_A_CLASS, _REFERENCES // max(1, n_classes)))
    order = np.lexsort((ranks, labels))
    starts = np.searchsorted(labels[order], np.arange(n_classes + 1))
    return {
        label: np.sort(order[starts[label] : starts[label + 1]][:most])
        for label in range(n_classes)
        if starts[label + 1] - starts[label] >= FEWEST
    }


def _normal(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    normal: NDArray[np.float32] = features / np.maximum(lengths, np.float32(1e-12))
    return normal


def _distance(
    block: NDArray[np.float32], bank: NDArray[np.float32], rows: NDArray[np.intp], references: NDArray[np.intp]
) -> NDArray[np.float32]:
    """(n,) mean cosine distance to the nearest of the references, the image itself left out."""
    apart = 1 - block @ bank.T  # (n, m)
    place = np.searchsorted(references, rows)
    itself = np.flatnonzero(references[np.minimum(place, len(references) - 1)] == rows)
    apart[itself, place[itself]] = np.inf
    k = min(NEIGHBOURS, len(references) - 1)
    nearest = np.partition(apart, k - 1, axis=1)[:, :k]
    found: NDArray[np.float32] = nearest.mean(axis=1)
    return found


def _far(
    indices: NDArray[np.intp],
    labels: NDArray[np.integer],
    own: NDArray[np.float32],
    near: NDArray[np.float32],
    home: NDArray[np.intp],
) -> Outliers:
    times = np.ones(len(indices), np.float32)
    score = np.full(len(indices), -np.inf)
    for label in np.unique(labels):
        within = own[labels == label]
        if not np.isfinite(within).all():
            continue  # too small a class: nothing was measured
        usual = np.log(np.maximum(within, 1e-6))
        middle = float(np.median(usual))
        spread = max(1.4826 * float(np.median(np.abs(usual - middle))), 0.05)
        here = np.flatnonzero(home == label)
        far = np.log(np.maximum(near[here], 1e-6)) - middle
        times[here], score[here] = np.exp(far), far / spread
    rows = np.flatnonzero((score > _FAR) & np.isfinite(near))
    rows = rows[np.argsort(-score[rows], kind="stable")]
    return Outliers(int(np.isfinite(own).sum()), indices[rows], times[rows])
