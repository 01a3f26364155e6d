"""Annotations as COCO writes them: JSON with images, annotations and categories, the images in folders beside it.

    annotations/instances_train.json   images in train/, images/train/ or images/ (COCO's own: train2017)
    train/_annotations.coco.json       images beside it (Roboflow)
    annotations.json, coco.json        images beside it, or in images/

headway learns one class of an image: an image whose annotations all name one category has that class, one without
annotations has no label, one of several categories is left out and counted. Outlines and key points are let go while
the file is read. Beside COCO's own keys an image may have `split` (train, val, test) and `group`.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headway.data.classes import check_classes, class_order, numbered
from headway.data.dataset import UNASSIGNED, UNLABELLED, Dataset
from headway.data.folders import SUBSET_OF, FolderSource
from headway.data.names import Names
from headway.data.wording import counted, joined, listed, shown
from headway.errors import Refused, refuse_all

ROBOFLOW = "_annotations.coco.json"
_ALONE = ("annotations.json", "coco.json")
_WORD = re.compile(r"(?:^|[-_.])(train|validation|valid|val|test)\d*(?=[-_.]|$)", re.IGNORECASE)
_TRIED = 20  # images that are looked for, to find the folder they lie in
_KEYS = ("images", "annotations", "categories")


class Pictured(NamedTuple):
    """One image of a file: its number there, its name, what the file says of its size, subset and group."""

    id: int | str
    name: str
    size: tuple[Any, Any]
    split: str
    group: str


class Marked(NamedTuple):
    """One annotation: which image, which category, and where: left, top, width, height in pixels."""

    image: int | str
    category: int | str
    box: Any
    crowd: bool


@dataclass(frozen=True)
class Annotations:
    """One file. `place` is the folder that its images lie in; `subset` what its name tells, UNASSIGNED = nothing."""

    shown_path: str
    place: str
    subset: int
    images: Sequence[Pictured]
    marks: Sequence[Marked]
    categories: dict[int | str, str]


# Finding ----------------------------------------------------------------------------------------------------------


def find_annotations(folder: Path, alone: bool = True) -> list[Path]:
    """The files of annotations in `folder`, sorted; empty where there are none.

    alone  whether a name that others give to other things too counts (annotations.json)
    """
    with os.scandir(folder) as entries:
        inner = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    split = [folder / name / ROBOFLOW for name in inner if name.lower() in SUBSET_OF]
    standard = sorted((folder / "annotations").glob("instances*.json")) if "annotations" in inner else []
    weak = [folder / name for name in _ALONE] if alone else []
    for paths in (split, [folder / ROBOFLOW], standard, sorted(folder.glob("instances*.json")), weak):
        found = [path for path in paths if path.is_file()]
        if found:
            return found
    return []


def subset_of(path: Path) -> int:
    """The subset that the name of a file tells, or the folder of one that Roboflow wrote; UNASSIGNED = neither."""
    if path.name == ROBOFLOW:
        return SUBSET_OF.get(path.parent.name.lower(), UNASSIGNED)
    words = {SUBSET_OF[word.lower()] for word in _WORD.findall(path.stem)}
    return words.pop() if len(words) == 1 else UNASSIGNED


def _places(path: Path) -> list[Path]:
    """Where the images of a file may lie, the likeliest first."""
    here, above = path.parent, path.parent.parent
    word = path.stem.removeprefix("instances").strip("_-")
    places = [here, here / "images"]
    places += [base / word for base in (here, here / "images") if word]
    if here.name == "annotations":
        places += [base / word for base in (above, above / "images") if word]
        places += [above / "images", above]
    return places


def _place(path: Path, shown_path: str, images: Sequence[Pictured]) -> str:
    places = _places(path)
    for place in places:
        if any(os.path.lexists(place / image.name) for image in images[:_TRIED]):
            return os.fspath(place)
    looked = listed([f"{place}/" for place in places])
    raise Refused(
        f"{shown_path}: its {counted(len(images), 'image')} (first {shown(images[0].name)}) lie in none of the folders "
        f"that were looked into ({looked}): put them beside the file, or into images/ there"
    )


# Reading ----------------------------------------------------------------------------------------------------------


def read_annotations(path: Path, shown_path: str) -> Annotations:
    """What one file says, and where its images lie. Raises Refused."""
    told = _parsed(path, shown_path)
    images, marks = list(told["images"]), list(told["annotations"])
    if not all(isinstance(image, Pictured) for image in images):
        raise Refused(f"{shown_path}: an image without id or file_name: each needs both")
    if not all(isinstance(mark, Marked) for mark in marks):
        raise Refused(f"{shown_path}: an annotation without image_id or category_id: each needs both")
    if not images:
        raise Refused(f"{shown_path} names no images")
    categories = _categories(told["categories"], shown_path)
    _refuse_strangers(shown_path, images, marks, categories)
    return Annotations(shown_path, _place(path, shown_path, images), subset_of(path), images, marks, categories)


def _parsed(path: Path, shown_path: str) -> dict[str, Any]:
    """The file, slim: of a large one outlines are nearly everything, and they are let go as they are read."""
    try:
        told = json.loads(path.read_bytes().decode("utf-8-sig"), object_hook=_slim)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{shown_path} is no readable JSON ({str(error)[:80]}): fetch or write it again") from error
    missing = [key for key in _KEYS if not (isinstance(told, dict) and isinstance(told.get(key), list))]
    if missing:
        keys = ", ".join(shown(str(key)) for key in list(told)[:8]) if isinstance(told, dict) else "no object"
        raise Refused(
            f"{shown_path} is none of COCO's files: expected lists of images, annotations, categories (it has {keys})"
        )
    assert isinstance(told, dict)
    return told


def _slim(value: dict[str, Any]) -> Any:
    if _is_id(value.get("image_id")) and _is_id(value.get("category_id")):
        return Marked(value["image_id"], value["category_id"], value.get("bbox"), bool(value.get("iscrowd")))
    name = value.get("file_name")
    if isinstance(name, str) and name and _is_id(value.get("id")):
        size = (value.get("width"), value.get("height"))
        return Pictured(value["id"], name, size, _word(value.get("split")), _word(value.get("group")))
    return value


def _is_id(value: object) -> bool:
    return isinstance(value, int | str)


def _word(value: object) -> str:
    return "" if value is None else str(value).strip()


def _categories(told: Sequence[Any], shown_path: str) -> dict[int | str, str]:
    found: dict[int | str, str] = {}
    for value in told:
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str | int) or name == "" or not _is_id(value.get("id")):
            raise Refused(f"{shown_path}: a category without id or name: each needs both")
        if value["id"] in found:
            raise Refused(f"{shown_path}: two categories have the id {value['id']!r}: give each its own")
        found[value["id"]] = str(name)
    return found


def _refuse_strangers(
    shown_path: str, images: Sequence[Pictured], marks: Sequence[Marked], categories: dict[int | str, str]
) -> None:
    problems = []
    known = {image.id for image in images}
    if len(known) < len(images):
        twice = next(id for id, count in Counter(image.id for image in images).items() if count > 1)
        problems.append(f"{shown_path}: two images have the id {twice!r}: give each its own")
    lost = [mark.image for mark in marks if mark.image not in known]
    if lost:
        problems.append(f"{shown_path}: {counted(len(lost), 'annotation')} of unknown images, first id {lost[0]!r}")
    none = [mark.category for mark in marks if mark.category not in categories]
    if none:
        problems.append(f"{shown_path}: {counted(len(none), 'annotation')} of unknown categories, first id {none[0]!r}")
    odd = [image for image in images if image.split and image.split.lower() not in SUBSET_OF]
    problems += [
        f"{shown_path}: {shown(image.name)}: split '{shown(image.split)}', expected train, val, test or nothing"
        for image in odd[:5]
    ]
    refuse_all(problems)


def open_all(paths: Sequence[Path], shown_paths: Sequence[str]) -> tuple[list[Annotations], list[str]]:
    """Every file, and what is said of them. Where names of some tell a subset, those that tell none are left out."""
    files = [read_annotations(path, name) for path, name in zip(paths, shown_paths, strict=True)]
    named = [file for file in files if file.subset != UNASSIGNED]
    if len(files) == 1 or not named or len(named) == len(files):
        return files, []
    left = [file.shown_path for file in files if file.subset == UNASSIGNED]
    return named, [f"{listed(left)} left out: no split in the name"]


def given_of(files: Sequence[Annotations], file: Annotations, image: Pictured) -> int:
    """The subset of an image: its own word, else that of its file. A file alone tells no subset."""
    if image.split:
        return SUBSET_OF[image.split.lower()]
    return file.subset if len(files) > 1 else UNASSIGNED


def read_coco(paths: Sequence[Path], root: Path, shown_path: str) -> Dataset:
    """The dataset that files of annotations tell, called as `root`. Raises Refused."""
    files, notes = open_all(paths, [_shown(path, root, shown_path) for path in paths])
    names: list[str] = []
    words: list[str | None] = []
    groups: list[str] = []
    given = array("b")
    several = 0
    base = files[0].place if len(files) == 1 else os.fspath(root)
    for file in files:
        for image, found in _labelled(file):
            if len(found) > 1:
                several += 1
                continue
            names.append(name_of(base, file, image))
            words.append(next(iter(found), None))
            groups.append(image.group)
            given.append(given_of(files, file, image) if found else UNLABELLED)
    _refuse_left(shown_path, names, several)
    classes = class_order(word for word in words if word is not None)
    labels, subsets = numbered(words, classes), np.frombuffer(given, np.int8).copy()
    notes.insert(0, f"{counted(len(files), 'file')} of annotations, one category an image")
    if several:
        notes.append(
            f"{counted(several, 'image')} of several categories left out (headway convert --crop makes an image of "
            "each box)"
        )
    if unlabelled := int((labels < 0).sum()):
        notes.append(f"{counted(unlabelled, 'image')} without annotations: they get predictions")
    notes += check_classes(shown_path, classes, labels, subsets)
    members = numbered([group or None for group in groups], sorted(set(groups) - {""})) if any(groups) else None
    compact = Names.of(names)
    ignored = {"images of several categories": several} if several else {}
    source = FolderSource(base, compact)
    name = root.resolve().name
    return Dataset(name, "COCO annotations", compact, labels, subsets, members, classes, source, ignored, tuple(notes))


def _labelled(file: Annotations) -> Iterator[tuple[Pictured, set[str]]]:
    """Each image with the names of the categories that it shows."""
    found: dict[int | str, set[str]] = {}
    for mark in file.marks:
        found.setdefault(mark.image, set()).add(file.categories[mark.category])
    none: set[str] = set()
    return ((image, found.get(image.id, none)) for image in file.images)


def name_of(base: str, file: Annotations, image: Pictured) -> str:
    """The name of an image, relative to `base` where its folder lies in it."""
    if image.name.startswith("/"):
        return image.name
    way = os.path.relpath(file.place, base)
    if way == ".":
        return image.name
    return f"{way}/{image.name}" if not way.startswith("..") else f"{os.path.abspath(file.place)}/{image.name}"  # noqa: PTH100


def _shown(path: Path, root: Path, shown_path: str) -> str:
    return shown_path if path == root else joined(shown_path, os.path.relpath(path, root))


def _refuse_left(shown_path: str, names: Sequence[str], several: int) -> None:
    if not names:
        raise Refused(
            f"{shown_path}: all {counted(several, 'image')} show several categories, and headway tells one class of an "
            "image. headway convert --crop makes an image of each box"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Refused(f"{shown_path}: {listed(twice)} named twice: name each image once")
