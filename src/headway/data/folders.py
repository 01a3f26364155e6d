"""Folders of images: a folder per class, split folders, or file names that start with the class.

    classes/cats/1.jpg              a folder per class; deeper folders belong to their class
    split/train/cats/1.jpg          split folders: train, val or valid or validation, test, in any case; any may lack
    flat/cat.0.jpg                  every name is a class, then a number: cat.0, cat_001, cat-1, cat (1), cat1
    split/train/cat.0.jpg           both

A folder `train` of images beside other folders of images is a class of that name.

A class in val or test that train lacks is refused: it could only ever be wrong. A class that val or test lacks is
noted. Classes are matched by name and never renumbered. `test` with images but without class folders is unlabelled,
unless every name in it starts with a class of train; so is `test` with a single folder that is no class of train.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headway.data.classes import check_classes, class_order
from headway.data.dataset import SUBSETS, TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Dataset
from headway.data.images import read_file
from headway.data.names import Names
from headway.data.walk import Found, below, count_by_top
from headway.data.wording import counted, joined, listed, shown
from headway.errors import Refused, refuse_all

SUBSET_OF = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
_NUMBERED = re.compile(r"(?P<label>.*?[^\W\d_].*?)(?:[\s._-]+\(?|\(|(?<=[^\W\d_]))\d+\)?", re.DOTALL)


@dataclass(frozen=True)
class FolderSource:
    """Files below a folder. Only the names are kept in memory."""

    root: str
    names: Sequence[str]

    def read(self, index: int) -> bytes:
        """The bytes of file `index`. Raises BadImage."""
        name = self.names[index]
        return read_file(name if name.startswith("/") else f"{self.root}/{name}", name)


@dataclass(frozen=True)
class _Part:
    """The images of one subset: `codes` has the place in `classes` of each path, -1 for no label."""

    subset: int
    paths: list[str]
    codes: array[int]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stray: int = 0


def read_folder(path: Path, shown_path: str, found: Found) -> Dataset:
    """The dataset in the folder `path`, of which `found` tells the images. Raises Refused."""
    refuse_all(
        [f"no permission to look into {joined(shown_path, name)}: allow reading it" for name in found.unreadable]
    )
    counts = count_by_top(found.paths)
    aliases = [name for name in tops(found) if name.lower() in SUBSET_OF]
    others = [name for name in tops(found) if name not in aliases and counts.get(name)]
    notes: list[str] = []
    ignored = dict(found.ignored)
    if others and aliases and all(_is_class(found, name) for name in aliases):
        notes.append(f"{listed(aliases, '/')} taken as a class, like the folders beside it")
        aliases = []
    if any(SUBSET_OF[name.lower()] == TRAIN for name in aliases) or (aliases and not others):
        parts = _split_parts(shown_path, found, aliases)
        beside = sum(counts[name] for name in others) + counts.get("", 0)
        if beside:
            ignored["images outside the split folders"] = beside
            what = listed(others, "/") if others else counted(beside, "image")
            notes.append(f"{what} beside the split folders left out")
    elif aliases:
        raise Refused(
            f"{shown_path} has {listed(aliases, '/')} beside {listed(others, '/')}: put the class folders into "
            f"{joined(shown_path, 'train/')}, or take {listed(aliases, '/')} out"
        )
    else:
        parts = [_part("", UNASSIGNED, shown_path, found)]
    stray = sum(part.stray for part in parts)
    if stray:
        ignored["images outside class folders"] = stray
        notes.append(f"{counted(stray, 'image')} outside class folders left out")
    if found.outside:
        notes.append(f"{counted(found.outside, 'link')} out of the folder followed")
    return _assembled(path, shown_path, parts, ignored, notes)


def _is_class(found: Found, name: str) -> bool:
    """Whether the folder `train` is a class, such as the vehicle: its images lie in no folders, and no two classes can
    be read from their names. `test` and `val` are never taken so: beside class folders they more often wait for labels.
    """
    prefix = f"{name}/"
    paths = below(found.paths, prefix)
    labels = {class_of_name(path) for path in paths}
    flat = all(path.find("/", len(prefix)) < 0 for path in paths)
    return SUBSET_OF[name.lower()] == TRAIN and bool(paths) and flat and (None in labels or len(labels) == 1)


def tops(found: Found) -> list[str]:
    """The folders directly below, sorted."""
    return sorted({folder.partition("/")[0] for folder in found.folders} - {""})


def class_of_name(path: str) -> str | None:
    """The class that a file name starts with: `cat.0.jpg`, `cat_001.png`, `cat (3).jpg`, `cat7.jpg`; else None."""
    name = path.rpartition("/")[2]
    match = _NUMBERED.fullmatch(name.rpartition(".")[0] or name)
    return match["label"] if match else None


def _split_parts(shown_path: str, found: Found, aliases: list[str]) -> list[_Part]:
    by_subset: dict[int, list[str]] = {}
    for name in aliases:
        by_subset.setdefault(SUBSET_OF[name.lower()], []).append(name)
    refuse_all(
        [
            f"{shown_path} has {listed(names, '/')}, and each would be the {SUBSETS[subset]} images: keep one"
            for subset, names in sorted(by_subset.items())
            if len(names) > 1
        ]
    )
    parts: list[_Part] = []
    problems: list[str] = []
    for subset in (TRAIN, VAL, TEST):
        if subset in by_subset:
            known = parts[0].classes if parts and parts[0].subset == TRAIN else None
            try:
                parts.append(_part(by_subset[subset][0], subset, shown_path, found, known))
            except Refused as refusal:  # told together with what is wrong in the other folders
                problems.append(str(refusal))
    refuse_all(problems)
    return parts


def _part(folder: str, subset: int, shown_path: str, found: Found, known: tuple[str, ...] | None = None) -> _Part:
    """Read one subset by looking: class folders, or names that start with the class, or (test only) no labels."""
    prefix = f"{folder}/" if folder else ""
    paths = below(found.paths, prefix)
    where = joined(shown_path, prefix) if folder else shown_path
    inner = sorted({name[len(prefix) :].partition("/")[0] for name in found.folders if name.startswith(prefix)} - {""})
    deep = [path for path in paths if path.find("/", len(prefix)) > 0]
    if deep or (inner and not paths):
        stray = len(paths) - len(deep)
        if subset == TEST and known and len(inner) == 1 and inner[0] not in known:
            note = f"{shown(prefix + inner[0])}/ is no class of train: its images have no labels"
            return _Part(UNLABELLED, deep, _no_codes(deep), notes=(note,), stray=stray)
        index = {name: i for i, name in enumerate(inner)}
        codes = array("i", (index[path[len(prefix) : path.find("/", len(prefix))]] for path in deep))
        _refuse_empty(where, inner, set(codes))
        return _Part(subset, deep, codes, tuple(inner), stray=stray)
    if not paths:
        raise Refused(f"no images in {where}: expected a folder per class, as in {joined(where, 'cats/1.jpg')}")
    if subset == TEST and not _named_after(paths, known):
        note = f"{shown(folder)}/ has {counted(len(paths), 'image')} without labels: they get predictions"
        return _Part(UNLABELLED, paths, _no_codes(paths), notes=(note,))
    classes, codes = _classes_of_names(paths, where, set(known or ()))
    return _Part(subset, paths, codes, classes)


def _no_codes(paths: list[str]) -> array[int]:
    return array("i", [-1]) * len(paths)


def _refuse_empty(where: str, inner: list[str], filled: set[int]) -> None:
    refuse_all(
        [
            f"{joined(where, name)}/ is an empty class: put images into it, or take the folder away"
            for code, name in enumerate(inner)
            if code not in filled
        ]
    )


def _named_after(paths: list[str], known: tuple[str, ...] | None) -> bool:
    """Whether every name starts with a class of train; without a train folder, whether the names give classes."""
    labels = {class_of_name(path) for path in paths}
    if None in labels:
        return False
    return labels <= set(known) if known is not None else 1 < len(labels) <= len(paths) // 2


def _classes_of_names(paths: list[str], where: str, known: set[str]) -> tuple[tuple[str, ...], array[int]]:
    index: dict[str | None, int] = {}
    codes = array("i", (index.setdefault(class_of_name(path), len(index)) for path in paths))
    expected = f"Expected a folder per class, as in {joined(where, 'cats/1.jpg')}, or names like cat.0.jpg"
    what = f"{where} has {counted(len(paths), 'image')} in no class folder, and"
    if None in index:
        first = paths[codes.index(index[None])]
        share = "no name" if len(index) == 1 else f"not every name (first: {shown(_last(first))})"
        raise Refused(f"{what} {share} starts with a class and ends with a number. {expected}")
    classes = tuple(name for name in index if name is not None)
    if 2 * len(classes) > len(paths) and not known.issuperset(classes):
        raise Refused(f"{what} their names start with {len(classes):,} different words. {expected}")
    return classes, codes


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _assembled(path: Path, shown_path: str, parts: list[_Part], ignored: dict[str, int], notes: list[str]) -> Dataset:
    parts = [part for part in parts if part.paths]
    parts.sort(key=lambda part: part.paths[0])  # folders do not interleave, so that the names stay sorted
    names = [name for part in parts for name in part.paths]
    classes = class_order(name for part in parts for name in part.classes)
    index = {name: i for i, name in enumerate(classes)}
    tables = [np.array([*(index[name] for name in part.classes), -1], np.int32) for part in parts]
    labels = np.concatenate([table[np.array(part.codes)] for table, part in zip(tables, parts, strict=True)])
    given = np.concatenate([np.full(len(part.paths), part.subset, np.int8) for part in parts])
    missing = check_classes(shown_path, classes, labels, given, _hint(shown_path, names, classes))
    told = [*(note for part in parts for note in part.notes), *missing, *notes]
    if any(part.subset != UNASSIGNED for part in parts):
        kind = "split folders"
    else:
        kind = "a folder per class" if "/" in names[0] else "names that start with the class"
    compact = Names.of(names)
    source = FolderSource(os.fspath(path), compact)
    return Dataset(path.resolve().name, kind, compact, labels, given, None, classes, source, ignored, tuple(told))


def _hint(shown_path: str, names: list[str], classes: tuple[str, ...]) -> str:
    """Where one folder holds all others (an unpacked archive), that it may be the one that is meant."""
    if len(classes) != 1:
        return ""
    inner = {name.split("/")[1] for name in names if name.count("/") > 1 and name.startswith(f"{classes[0]}/")}
    return f". Did you mean {joined(shown_path, classes[0])}/ ?" if len(inner) > 1 else ""
