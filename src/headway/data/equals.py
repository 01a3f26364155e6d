"""Which of many digests are equal, and which places share a number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def numbered(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, 32) digests → (n,) equal numbers, from 0, for equal ones."""
    if not len(digests):
        return np.zeros(0, np.int64)
    flat = np.ascontiguousarray(digests).view("S32").ravel()
    return np.unique(flat, return_inverse=True)[1].astype(np.int64)


def shared(numbers: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """The places of each number (n,) from 0 that stands at more than one of them: ascending, by number."""
    several = np.flatnonzero(np.bincount(numbers)[numbers] > 1)  # few of many: an array for each number takes long
    order = several[np.argsort(numbers[several], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
