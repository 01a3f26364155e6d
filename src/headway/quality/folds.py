"""Deal images into folds, so that every one is judged by what was learnt from others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def deal(
    labels: NDArray[np.integer], units: NDArray[np.integer], ranks: NDArray[np.integer], folds: int = FOLDS
) -> NDArray[np.int8]:
    """(n,) int8 the fold of each image: every class is spread evenly, images of one unit stay together.

    units (n,) whole numbers, equal for images that must not be parted;  ranks (n,) a permutation that decides the order
    """
    _, unit = np.unique(units, return_inverse=True)
    first = np.full(int(unit.max(initial=-1)) + 1, len(ranks))
    np.minimum.at(first, unit, ranks)
    leads = np.flatnonzero(ranks == first[unit])  # one image of each unit
    order = leads[np.lexsort((ranks[leads], labels[leads]))]
    fold = np.empty(len(first), np.int8)
    fold[unit[order]] = np.arange(len(order)) % folds  # classes stand one after the other, so each is spread
    return fold[unit]
