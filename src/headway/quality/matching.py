"""Which pairs of images show the same picture: candidates by their signatures, then each pair laid over each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headway.data.descriptors import grey_plane
from headway.quality.signatures import CENTRE, Candidates, nearest, signatures
from headway.quality.warping import likeness

LEAST = 0.94  # likeness of two images that show the same picture
_WHOLE, _MIDDLE = (8, 0.88), (4, 0.65)  # candidates of one image at most, and their least similarity
_PAIRS = 512  # laid over each other at a time


def find_matches(descriptors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, BYTES) uint8 → (P, 2) int64, ascending: pairs of positions whose images show the same picture.

    Found are copies that were re-encoded, scaled, mirrored, or cropped to 0.9 of their sides and more, also several of
    these at once. Every pair of similar ones is compared: n² / 2 comparisons of a few dozen numbers.
    """
    if len(descriptors) < 2:
        return np.empty((0, 2), np.int64)
    whole = signatures(descriptors)
    plain = nearest(whole, whole, *_WHOLE)
    cropped = nearest(signatures(descriptors, CENTRE), whole, *_MIDDLE)
    parts = [_confirmed(descriptors, plain, 1.0), _confirmed(descriptors, cropped, CENTRE)]
    return np.unique(np.sort(np.concatenate(parts), axis=1), axis=0)


def _confirmed(descriptors: NDArray[np.uint8], candidates: Candidates, scale: float) -> NDArray[np.int64]:
    """The pairs (P, 2) of `candidates` that are alike when they are laid over each other."""
    kept = []
    for start in range(0, len(candidates.pairs), _PAIRS):
        pairs = candidates.pairs[start : start + _PAIRS]
        mirrored = candidates.mirrored[start : start + _PAIRS, None, None]
        originals = grey_plane(descriptors[pairs[:, 0]]).astype(np.float32)
        copies = grey_plane(descriptors[pairs[:, 1]]).astype(np.float32)
        copies = np.where(mirrored, copies[:, :, ::-1], copies)
        kept.append(pairs[likeness(originals, copies, scale) >= LEAST])
    return np.concatenate(kept) if kept else np.empty((0, 2), np.int64)
