"""The order of the classes, and what must hold of them, for every kind of source."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import SUBSETS, TEST, TRAIN, UNASSIGNED, VAL
from headway.data.wording import counted, listed, shown
from headway.errors import Refused, refuse_all

LABEL_NAMES = ("label", "labels", "fine_label", "coarse_label", "class", "target", "category")  # of a table's column


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Every name once: by value where all are whole numbers (2 before 10), else in the order of their characters."""
    found = set(names)
    if found and all(name.isascii() and name.isdecimal() for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def numbered(labels: Sequence[str | None], classes: Sequence[str]) -> NDArray[np.int32]:
    """(N,) the index of each label in `classes`, -1 for None."""
    index: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    index[None] = -1
    return np.fromiter((index[label] for label in labels), np.int32, len(labels))


def check_classes(
    where: str, classes: Sequence[str], labels: NDArray[np.int32], given: NDArray[np.int8], hint: str = ""
) -> tuple[str, ...]:
    """Refuse one class, and classes in val or test that train lacks; note those that val or test lack, and twins.

    hint  what to say instead of "a classifier needs two or more"
    """
    if not (labels >= 0).any():
        raise Refused(f"{where} has no labelled images: expected a folder per class, or a CSV with path and label")
    problems = []
    present = {s: np.bincount(labels[(given == s) & (labels >= 0)], minlength=len(classes)) for s in (TRAIN, VAL, TEST)}
    learnt = present[TRAIN] + np.bincount(labels[(given == UNASSIGNED) & (labels >= 0)], minlength=len(classes))
    for subset in (VAL, TEST):
        for label in np.flatnonzero((present[subset] > 0) & (learnt == 0)).tolist() if learnt.any() else ():
            problems.append(
                f"{where}: the class {shown(classes[label])} ({counted(int(present[subset][label]), 'image')}) is in "
                f"{SUBSETS[subset]} but not in train: add it to train, or take it out of {SUBSETS[subset]}"
            )
    if len(classes) == 1:
        problems.append(f"{where} has one class only ({shown(classes[0])}){hint or ': a classifier needs two or more'}")
    refuse_all(problems)
    missing = {
        s: [classes[i] for i in np.flatnonzero(present[s] == 0).tolist()] for s in (VAL, TEST) if present[s].any()
    }
    alike = [f"the classes {listed(names)} differ by letter case or Unicode form only" for names in _alike(classes)]
    absent = [f"{SUBSETS[s]} has no images of {listed(names)}" for s, names in missing.items() if names]
    return (*absent, *alike)


def _alike(classes: Sequence[str]) -> list[list[str]]:
    """Names that a reader would take for one: they stay different classes, as their bytes are."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]
