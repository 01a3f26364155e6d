"""Images that are odd by what is plain to see of them: size, shape, nearly one colour. And classes of uneven size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = 4.0  # times shorter or longer than the median of the shorter sides
ASPECT = 3.0  # of the longer side to the shorter; and as many times as usual here
FLAT = 4.0  # grey levels of standard deviation, of 255
UNEVEN = 3.0  # the largest class over the smallest


@dataclass(frozen=True)
class Oddity:
    """One odd image. kind: small, large, long, flat; text: what is odd, with its number."""

    index: int
    kind: str
    text: str


def find_oddities(
    sizes: NDArray[np.integer],
    indices: NDArray[np.intp],
    spreads: NDArray[np.floating] | None,
    spread_of: NDArray[np.intp] | None = None,
) -> tuple[Oddity, ...]:
    """The odd ones, by kind, the oddest of each kind first.

    sizes      (N, 2) width and height of the whole dataset;  indices (n,) the accepted samples
    spreads    (m,) standard deviation of the grey values of the samples `spread_of` (m,); None = not looked at
    """
    found: list[tuple[str, float, Oddity]] = []
    if len(indices):
        shorter = np.maximum(1, sizes[indices].min(axis=1)).astype(np.float64)
        longer = np.maximum(1, sizes[indices].max(axis=1)).astype(np.float64)
        usual, shape = float(np.median(shorter)), longer / shorter
        limit = ASPECT * max(1.0, float(np.median(shape)))
        for kind, rows, score in (
            ("small", np.flatnonzero(shorter * SIZES < usual), shorter),
            ("large", np.flatnonzero(shorter > SIZES * usual), -shorter),
            ("long", np.flatnonzero(shape > limit), -shape),
        ):
            for row in rows.tolist():
                width, height = (int(side) for side in sizes[indices[row]])
                oddity = Oddity(int(indices[row]), kind, f"{width:,} x {height:,} pixels")
                found.append((kind, float(score[row]), oddity))
    if spreads is not None and spread_of is not None:
        for row in np.flatnonzero(spreads < FLAT).tolist():
            text = f"grey values spread by {spreads[row]:.1f} of 255"
            found.append(("flat", float(spreads[row]), Oddity(int(spread_of[row]), "flat", text)))
    order = {"small": 0, "large": 1, "long": 2, "flat": 3}
    found.sort(key=lambda item: (order[item[0]], item[1], item[2].index))
    return tuple(oddity for _, _, oddity in found)


def imbalance(counts: NDArray[np.integer], classes: Sequence[str]) -> dict[str, Any] | None:
    """The largest and the smallest class where they differ by more than `UNEVEN` times, as plain values; else None.

    counts (C,) images of each class; classes without any are passed over
    """
    there = np.flatnonzero(counts > 0)
    if len(there) < 2:
        return None
    small, large = there[counts[there].argmin()], there[counts[there].argmax()]
    ratio = float(counts[large] / counts[small])
    if ratio <= UNEVEN:
        return None
    return {
        "largest": {"class": classes[large], "images": int(counts[large])},
        "smallest": {"class": classes[small], "images": int(counts[small])},
        "ratio": round(ratio, 2),
    }
