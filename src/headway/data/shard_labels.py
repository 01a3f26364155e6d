"""What the images in tar archives are: labels that stand beside them, or the folders that they lie in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headway.data.archives import TarIndex
from headway.data.dataset import TEST, UNASSIGNED
from headway.data.folders import SUBSET_OF
from headway.data.members import Shard
from headway.data.names import Names
from headway.data.wording import shown
from headway.errors import refuse_all

_TOLD = 5  # problems that are told one by one


@dataclass(frozen=True)
class Part:
    """What the images of one archive are.

    names    the class that each code stands for;  codes (N,) int32, -1 = no label
    subsets  (N,) int8;  keep (N,) bool, False = left out
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    subsets: NDArray[np.int8]
    keep: NDArray[np.bool_]

    def used(self) -> Iterable[str]:
        """The classes that have an image."""
        return (self.names[code] for code in np.unique(self.codes[self.keep]).tolist() if code >= 0)

    def labels(self, number: Mapping[str, int]) -> NDArray[np.int32]:
        """The label of each image that is kept, by the classes' numbers; -1 = none."""
        table = np.array([*(number.get(name, -1) for name in self.names), -1], np.int32)
        return table[self.codes[self.keep]]


def kept(index: TarIndex, part: Part) -> TarIndex:
    """The index without what is left out."""
    if part.keep.all():
        return index
    where = np.flatnonzero(part.keep)
    names = Names.of(index.names[i] for i in where.tolist())
    return replace(index, names=names, offsets=index.offsets[where], sizes=index.sizes[where])


def _subset(shard: Shard, n: int) -> NDArray[np.int8]:
    return np.full(n, UNASSIGNED if shard.subset is None else shard.subset, np.int8)


def labels_beside(shards: Sequence[Shard], indices: Sequence[TarIndex], words: Sequence[str] | None) -> list[Part]:
    """Labels that stand beside the images; an image without one has none."""
    problems: list[str] = []
    parts = []
    for shard, index in zip(shards, indices, strict=True):
        names = [_name(text, words) for text, _ in index.texts]
        problems += [
            f"{shard.blob.name}: {shown(member)}: label {shown(text)} is none of the {len(words or ()):,} in the list "
            "of classes: mend it, or take the list away"
            for name, (text, member) in zip(names, index.texts, strict=True)
            if name is None
        ]
        # -1 and nothing at all mean the same: no label.
        without = [code for code, (text, _) in enumerate(index.texts) if text == "-1"]
        codes = np.where(np.isin(index.labels, without), np.int32(-1), index.labels)
        told = tuple(name or "" for name in names)
        parts.append(Part(told, codes, _subset(shard, len(index)), np.ones(len(index), bool)))
    if len(problems) > _TOLD:
        problems = [*problems[:_TOLD], f"{len(problems) - _TOLD:,} more labels like this"]
    refuse_all(problems)
    return parts


def _name(text: str, words: Sequence[str] | None) -> str | None:
    """The class that a label means; None where the list of classes does not have it."""
    if words is None or text == "-1":
        return text
    if text.isascii() and text.isdecimal():
        return words[int(text)] if int(text) < len(words) else None
    return text if text in words else None


def labels_by_folder(shards: Sequence[Shard], indices: Sequence[TarIndex]) -> list[Part]:
    """The folders in the archives are the classes; below train, val and test where all lie in such folders."""
    common = _common({path for index in indices for path in index.paths if path})
    tails = {path: path.split("/")[common:] for index in indices for path in index.paths if path}
    split = (
        all(shard.subset is None for shard in shards)
        and bool(tails)
        and all(len(tail) > 1 and tail[0].lower() in SUBSET_OF for tail in tails.values())
    )
    parts = []
    for shard, index in zip(shards, indices, strict=True):
        classes: dict[str, int] = {}
        code, subset = np.full(len(index.paths), -1, np.int32), _subset(shard, len(index.paths))
        for place, path in enumerate(index.paths):
            if path:
                tail = tails[path]
                code[place] = classes.setdefault(tail[1 if split else 0], len(classes))
                if split:
                    subset[place] = SUBSET_OF[tail[0].lower()]
        codes, subsets = code[index.folders], subset[index.folders]
        keep = (codes >= 0) | (subsets == TEST)
        # An archive without folders is no stray image: the refusal tells what is missing.
        parts.append(Part(tuple(classes), codes, subsets, keep if tails else np.ones(len(index), bool)))
    return parts


def _common(paths: set[str]) -> int:
    """How many folders stand before all others: photos/ in photos/cats/ and photos/dogs/."""
    split = [path.split("/") for path in sorted(paths)]
    depth = 0
    while split and all(len(parts) > depth + 1 and parts[depth] == split[0][depth] for parts in split):
        depth += 1
    return depth
