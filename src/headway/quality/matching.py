"""Which pairs of images show the same picture: candidates by their signatures, then each pair laid over each other."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from headway.data.descriptors import grey_plane
from headway.quality.signatures import CENTRE, Candidates, Each, nearest, signatures
from headway.quality.warping import likeness

LEAST = 0.92  # likeness of two images that show the same picture
_WHOLE, _MIDDLE = (8, 0.85), (6, 0.62)  # candidates of one image at most, and their least similarity
_PAIRS = 512  # laid over each other at a time


def find_matches(descriptors: NDArray[np.uint8], threads: int = 1) -> NDArray[np.int64]:
    """(n, BYTES) uint8 → (P, 2) int64, ascending: pairs of positions whose images show the same picture.

    Found are copies that were re-encoded, scaled, mirrored, or cropped to 0.9 of their sides and more, also several of
    these at once. Every pair is compared, by a few dozen numbers; the most similar ones are laid over each other.
    """
    if len(descriptors) < 2:
        return np.empty((0, 2), np.int64)
    from threadpoolctl import threadpool_limits

    # The products are small: each thread does its own, as threads that share one wait for each other most of the time.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, "headway-match") as pool:
        whole = signatures(descriptors)
        plain = nearest(whole, whole, *_WHOLE, pool.map)
        cropped = nearest(signatures(descriptors, CENTRE), whole, *_MIDDLE, pool.map)
        parts = [*_confirmed(descriptors, plain, 1.0, pool.map), *_confirmed(descriptors, cropped, CENTRE, pool.map)]
    pairs = np.concatenate([np.empty((0, 2), np.int64), *parts])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _confirmed(
    descriptors: NDArray[np.uint8], candidates: Candidates, scale: float, each: Each
) -> Iterable[NDArray[np.int64]]:
    """The pairs of `candidates` that are alike when they are laid over each other, in parts (P, 2)."""

    def confirm(start: int) -> NDArray[np.int64]:
        pairs = candidates.pairs[start : start + _PAIRS]
        mirrored = candidates.mirrored[start : start + _PAIRS, None, None]
        originals = grey_plane(descriptors[pairs[:, 0]]).astype(np.float32)
        copies = grey_plane(descriptors[pairs[:, 1]]).astype(np.float32)
        copies = np.where(mirrored, copies[:, :, ::-1], copies)
        alike: NDArray[np.int64] = pairs[likeness(originals, copies, scale) >= LEAST]
        return alike

    return each(confirm, range(0, len(candidates.pairs), _PAIRS))
