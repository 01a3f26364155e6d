"""What the data is like: what was found, what was set aside and why, what stands twice. No advice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import SUBSETS, UNASSIGNED, Contents, Dataset, Split

SCHEMA = 1
_MOST = 1000  # entries of one list: a report of 5,000,000 images must still open


def audit(dataset: Dataset, contents: Contents, split: Split | None) -> dict[str, Any]:
    """The content of audit.json, as plain JSON values. `split` is None where the data was refused before one."""
    subsets = split.subsets if split else np.where(contents.accepted, dataset.given, UNASSIGNED)
    aside = sorted(contents.reasons.items())
    return {
        "schema": SCHEMA,
        "found": len(dataset),
        "accepted": int(contents.accepted.sum()),
        "set_aside": [{"name": dataset.names[index], "reason": reason} for index, reason in aside],
        "ignored": dict(dataset.ignored),
        "notes": list(dataset.notes),
        "counts": class_counts(dataset, subsets),
        "unlabelled": int((dataset.labels < 0).sum()),
        "brought": list(split.brought) if split else [],
        "conflicts": [
            {"names": _names(dataset, group), "labels": [_label(dataset, index) for index in group]}
            for group in (split.conflicts if split else ())[:_MOST]
        ],
        "straddling": [
            {"names": _names(dataset, group), "subsets": [_subset(split, index) for index in group]}
            for group in (split.straddling if split else ())[:_MOST]
        ],
        "duplicates": _duplicates(contents),
        "sizes": _sizes(contents.sizes[contents.accepted]),
    }


def class_counts(dataset: Dataset, subsets: NDArray[np.int8]) -> dict[str, dict[str, int]]:
    """Class → how many of its images train, validate and test. subsets (N,) int8."""
    return {
        name: {
            subset: int(((dataset.labels == label) & (subsets == number)).sum())
            for number, subset in enumerate(SUBSETS[:3])
        }
        for label, name in enumerate(dataset.classes)
    }


def _names(dataset: Dataset, group: tuple[int, ...]) -> list[str]:
    return [dataset.names[index] for index in group]


def _label(dataset: Dataset, index: int) -> str | None:
    label = int(dataset.labels[index])
    return dataset.classes[label] if label >= 0 else None


def _subset(split: Split | None, index: int) -> str | None:
    number = int(split.subsets[index]) if split else UNASSIGNED
    return SUBSETS[number] if number >= 0 else None


def _duplicates(contents: Contents) -> int:
    """Number of groups of accepted images that show exactly the same pixels."""
    pixels = np.ascontiguousarray(contents.pixels[contents.accepted]).view("S32").reshape(-1)
    return sum(count > 1 for count in Counter(pixels.tolist()).values())


def _sizes(sizes: NDArray[np.int32]) -> dict[str, list[int]]:
    if not len(sizes):
        return {}
    return {
        name: [int(sizes[:, axis].min()), int(np.median(sizes[:, axis])), int(sizes[:, axis].max())]
        for axis, name in enumerate(("width", "height"))
    }
