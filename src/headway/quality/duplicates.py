"""Images that stand several times: the same pixels, or the same picture scaled, re-encoded, cropped or mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import SUBSETS, TEST, TRAIN, VAL, Contents, Dataset, Split
from headway.data.equals import numbered, shared
from headway.quality.matching import find_matches

MOST_GROUPS = 1000  # of one list in a JSON file: a report of 5,000,000 images must still open
MOST_NAMES = 100  # of one group there
# Copies come in small groups. Pictures that are alike by nature (digits, icons) or frames of a film hang together in
# large ones: of 1,796 digits 1,384 stand in groups, a grouped one in a group of 112 on average; of 348 blood cells 6,
# in pairs; of the 60,000 of CIFAR-100 about 3,000, in groups of 3.3.
ALIKE_SHARE, ALIKE_SIZE = 0.1, 8

Group = tuple[int, ...]


@dataclass(frozen=True)
class Duplicates:
    """Groups of sample indices, each ascending; no sample stands in two groups of one kind.

    exact       the same pixels;  same_bytes  of each exact group, whether the files are the same too
    near        the same picture in at least two forms, exact copies of each of them included; None = nobody looked
    why         why nobody looked; else ""
    """

    exact: tuple[Group, ...]
    same_bytes: tuple[bool, ...]
    near: tuple[Group, ...] | None = None
    why: str = ""

    def to_json(self, dataset: Dataset, split: Split | None) -> dict[str, Any]:
        """The keys `duplicates` and `leaks` of audit.json as plain JSON values. Lists are bounded, counts are full."""
        subsets = split.subsets if split else dataset.given
        same = dict(zip(self.exact, self.same_bytes, strict=True))
        exact_leaks, near_leaks = (_crossing_or_none(groups, subsets) for groups in (self.exact, self.near))
        parts = {"duplicates": (self.exact, self.near), "leaks": (exact_leaks, near_leaks)}
        return {
            key: {
                "exact_groups": [
                    {**_told(group, dataset, subsets), "same_bytes": same[group]}
                    for group in (exact or ())[:MOST_GROUPS]
                ],
                "exact_count": len(exact or ()),
                "near_groups": None if near is None else [_told(g, dataset, subsets) for g in near[:MOST_GROUPS]],
                "near_count": None if near is None else len(near),
                "not_looked": self.why,
            }
            for key, (exact, near) in parts.items()
        }


def find_duplicates(
    contents: Contents,
    descriptors: NDArray[np.uint8] | None = None,
    described: NDArray[np.intp] | None = None,
    *,
    threads: int = 1,
    why: str = "",
) -> Duplicates:
    """Group the accepted samples that show the same picture.

    descriptors  (n, BYTES) uint8 of the samples `described` (n,), see `data.descriptors`; None = only exact groups,
                 and `why` says why
    """
    exact = _exact_groups(contents)
    same_bytes = tuple(len(np.unique(contents.digests[list(group)], axis=0)) == 1 for group in exact)
    if descriptors is None or described is None:
        return Duplicates(exact, same_bytes, None, why)
    representative = np.arange(len(contents.accepted))  # (N,) the first sample with the same pixels
    for group in exact:
        representative[list(group)] = group[0]
    first = np.flatnonzero(representative[described] == described)
    pairs = described[first[find_matches(descriptors[first], threads)]]  # (P, 2)
    near = group_pairs(pairs, len(representative))
    copies = {group[0]: group for group in exact}
    whole = tuple(sorted(tuple(sorted(m for one in group for m in copies.get(one, (one,)))) for group in near))
    if too_alike([len(group) for group in near], len(first)):
        grouped = sum(len(group) for group in whole)
        return Duplicates(exact, same_bytes, None, _ALIKE.format(grouped=grouped, n=int(contents.accepted.sum())))
    return Duplicates(exact, same_bytes, whole)


_ALIKE = (
    "near copies cannot be told here: {grouped:,} of {n:,} images look like copies of others, in large groups, as "
    "pictures do that are alike by nature (digits, icons), and frames of a film. Frames of one film belong in one set: "
    "give them a group"
)


def too_alike(sizes: Sequence[int], n: int) -> bool:
    """Whether near groups of these sizes, among `n` pictures, are so many and so large that they tell no copies."""
    grouped = sum(sizes)
    return grouped > ALIKE_SHARE * n and sum(size**2 for size in sizes) > ALIKE_SIZE * grouped


def group_pairs(pairs: NDArray[np.intp], n: int) -> tuple[Group, ...]:
    """Connected components with more than one member of the graph on 0 ... n-1 whose edges are `pairs` (P, 2)."""
    lowest = np.arange(n)
    while len(pairs):
        before = lowest
        ends = np.minimum(lowest[pairs[:, 0]], lowest[pairs[:, 1]])
        lowest = lowest.copy()
        for side in (0, 1):
            np.minimum.at(lowest, before[pairs[:, side]], ends)  # the root too, so that whole trees move
            np.minimum.at(lowest, pairs[:, side], ends)
        lowest = lowest[lowest]
        if np.array_equal(lowest, before):
            break
    return tuple(tuple(part.tolist()) for part in shared(lowest))


def crossing(groups: Sequence[Group], subsets: NDArray[np.int8]) -> tuple[Group, ...]:
    """The groups with images in more than one of train, val and test. subsets (N,) int8."""
    return tuple(group for group in groups if len({int(subsets[index]) for index in group} & {TRAIN, VAL, TEST}) > 1)


def _crossing_or_none(groups: Sequence[Group] | None, subsets: NDArray[np.int8]) -> tuple[Group, ...] | None:
    return None if groups is None else crossing(groups, subsets)


def _exact_groups(contents: Contents) -> tuple[Group, ...]:
    where = np.flatnonzero(contents.accepted)
    return tuple(sorted(tuple(where[group].tolist()) for group in shared(numbered(contents.pixels[where]))))


def _told(group: Group, dataset: Dataset, subsets: NDArray[np.int8]) -> dict[str, Any]:
    shown = group[:MOST_NAMES]
    labels = [int(dataset.labels[index]) for index in shown]
    numbers = [int(subsets[index]) for index in shown]
    return {
        "names": [dataset.names[index] for index in shown],
        "labels": [dataset.classes[label] if label >= 0 else None for label in labels],
        "subsets": [SUBSETS[number] if number >= 0 else None for number in numbers],
        "n": len(group),
    }
