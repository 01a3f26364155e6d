"""Which images may be copies of each other: low frequencies of their descriptors, compared each with each.

A signature is a handful of DCT coefficients of brightness and colour, each times about its frequency, as pictures have
less of the higher ones. Mirrored, an image keeps its even coefficients and turns the sign of the odd ones, so one
comparison gives both. A copy that was cropped is nearest to the middle of its original, so that is compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.data.descriptors import COLOUR_SIDE, SIDE, colour_planes, grey_plane
from headway.quality.warping import interpolation, places

Floats = NDArray[np.float32]
Each = Callable[[Callable[[int], NDArray[np.int64]], Iterable[int]], Iterable[NDArray[np.int64]]]

CENTRE = 0.92  # side of the middle that cropped copies are sought by; they keep 0.9 and more
_GREY, _COLOUR = 7, 4  # coefficients along each side
_TILT = 0.7  # weight of a coefficient = frequency ** _TILT
_MEAN_COLOUR = 0.5  # weight of the mean of Cb and Cr, which have no frequency
_FLOOR = 10.0  # grey levels: what little contrast makes of two empty pictures is no likeness
_ROWS, _COLUMNS = 512, 1024  # of a tile of similarities
_MOST_HITS = 1 << 17  # held of a row of tiles, before all but the nearest are dropped
_CHUNK = 4096  # images whose coefficients are computed at a time


@dataclass(frozen=True)
class Candidates:
    """Pairs that may be copies: (P, 2) int64 positions, and (P,) bool, whether the second one is mirrored.

    In the order (original, copy): what was sought is the first one, or its middle, in the second.
    """

    pairs: NDArray[np.int64]
    mirrored: NDArray[np.bool_]


def signatures(descriptors: NDArray[np.uint8], keep: float = 1.0) -> Floats:
    """(n, BYTES) uint8 → (n, D) float32 of length at most 1, the even coefficients first (`n_even` of them).

    keep  share of both sides of the middle that is looked at
    """
    result = np.empty((len(descriptors), len(_weights())), np.float32)
    grey_basis = _basis(_GREY, SIDE, keep)
    colour_basis = _basis(_COLOUR, COLOUR_SIDE, keep)
    for start in range(0, len(descriptors), _CHUNK):
        part = descriptors[start : start + _CHUNK]
        grey = grey_basis @ grey_plane(part).astype(np.float32) @ grey_basis.T  # (n, 7, 7)
        colour = colour_basis @ (colour_planes(part).astype(np.float32) - 128) @ colour_basis.T  # (n, 2, 4, 4)
        flat = np.concatenate([grey.reshape(len(part), -1), colour.reshape(len(part), -1)], axis=1)
        found = flat[:, _order()] * _weights()
        length = np.sqrt((found * found).sum(axis=1, keepdims=True) + _FLOOR**2)
        result[start : start + _CHUNK] = found / length
    return result


def nearest(queries: Floats, others: Floats, k: int, least: float, each: Each = map) -> Candidates:
    """For each query (n, D) its at most `k` nearest of `others` (n, D) but itself, plain or mirrored, from `least` up.

    Exact: each is compared with each, in tiles that fit a core's cache, so memory stays bounded. Where `queries` are
    `others`, a pair is looked at once and counts for its first one.
    """
    parts = [_nearest_of(start, queries, others, (k, least)) for start in range(0, len(queries), _ROWS)]
    pairs = np.concatenate(parts) if parts else np.empty((0, 2), np.int64)
    even = n_even()
    odd = [
        (queries[part[:, 0], even:] * others[part[:, 1], even:]).sum(axis=1)
        for part in np.array_split(pairs, -(-len(pairs) // _CHUNK) or 1)
    ]
    return Candidates(pairs, np.concatenate(odd) < 0)


def n_even() -> int:
    """How many coefficients of a signature are even from left to right."""
    return int((_frequencies()[_order(), 1] % 2 == 0).sum())


def _nearest_of(start: int, queries: Floats, others: Floats, wanted: tuple[int, float]) -> NDArray[np.int64]:
    """Pairs (P, 2) of the queries from `start` on, a block of them, with their nearest others."""
    (k, least), even = wanted, n_even()
    block = queries[start : start + _ROWS]
    rows, columns, values = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    bar = np.full((len(block), 1), least, np.float32)  # what a likeness must exceed: in the end the k-th of its row
    for first in range(start if queries is others else 0, len(others), _COLUMNS):
        tile = others[first : first + _COLUMNS]
        similar = block[:, :even] @ tile[:, :even].T
        odd = block[:, even:] @ tile[:, even:].T
        similar += np.abs(odd, out=odd)  # even + |odd|: the better of plain (even + odd) and mirrored (even - odd)
        hits = np.flatnonzero(similar > bar)
        row, column = hits // len(tile), hits % len(tile)
        other = row + start < column + first if queries is others else row + start != column + first
        row, column = row[other], column[other]
        rows = np.concatenate([rows, row])
        columns = np.concatenate([columns, column + first])
        values = np.concatenate([values, similar[row, column]])
        if len(rows) > _MOST_HITS:
            rows, columns, values = _first_of_each(rows, columns, values, k)
            full = np.flatnonzero(np.bincount(rows, minlength=len(block)) == k)
            bar[full, 0] = values[np.searchsorted(rows, full, side="right") - 1]
    rows, columns, _ = _first_of_each(rows, columns, values, k)
    return np.stack([rows + start, columns], axis=1)


def _first_of_each(
    rows: NDArray[np.int64], columns: NDArray[np.int64], values: Floats, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The `k` largest values of each row, by row."""
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    kept = np.arange(len(rows)) - np.searchsorted(rows, rows) < k
    return rows[kept], columns[kept], values[kept]


def _basis(n: int, side: int, keep: float) -> Floats:
    """(n, side) float32: the first `n` DCT coefficients of the middle of a row of pixels, per pixel."""
    u = np.arange(n)[:, None]
    waves = np.cos(np.pi * (np.arange(side) + 0.5) * u / side) * np.where(u == 0, 1.0, np.sqrt(2.0)) / side
    middle = interpolation(places(np.array([[keep, 0.0]], np.float32), side))[0]
    basis: Floats = (waves @ middle).astype(np.float32)
    return basis


def _frequencies() -> NDArray[np.int64]:
    """(F, 3) int64: frequency down and across, and whether of colour, of every coefficient."""
    grey = [(v, u, 0) for v in range(_GREY) for u in range(_GREY)]
    colour = [(v, u, 1) for _ in range(2) for v in range(_COLOUR) for u in range(_COLOUR)]
    return np.array([*grey, *colour])


def _order() -> NDArray[np.int64]:
    """Which coefficients make a signature: none of the corner of the highest, no mean brightness; even ones first."""
    down, across, colour = _frequencies().T
    within = np.hypot(down, across) < np.where(colour, _COLOUR, _GREY)
    kept = np.flatnonzero(within & ((down + across > 0) | (colour == 1)))
    return kept[np.argsort(across[kept] % 2, kind="stable")]


def _weights() -> Floats:
    """(D,) float32."""
    down, across, _ = _frequencies()[_order()].T
    frequency = np.hypot(down, across)
    return np.where(frequency > 0, frequency**_TILT, _MEAN_COLOUR).astype(np.float32)
