"""Hugging Face's `imagefolder` with metadata: a metadata.csv, .jsonl or .parquet beside the images, or one a split.

    photos/metadata.jsonl                       {"file_name": "1.jpg", "label": "cat"} a line
    photos/train/metadata.csv, photos/test/...  paths relative to the file's own folder

Files without a label column say nothing here: the folders tell the classes then.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headway.data.classes import LABEL_NAMES, check_classes, class_order, numbered
from headway.data.dataset import UNASSIGNED, UNLABELLED, Dataset
from headway.data.folders import SUBSET_OF
from headway.data.manifests import files_below
from headway.data.names import Names
from headway.data.wording import counted, listed, shown
from headway.errors import Refused, refuse_all

PATHS = ("file_name", "image_file_name")
_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TOLD = 5  # lines that are told one by one


@dataclass(frozen=True)
class Metadata:
    """One file of metadata.

    folder  of its split, relative to the whole; "" for the whole itself
    subset  what its split is, or UNASSIGNED
    """

    path: Path
    folder: str
    subset: int
    file_name: str
    label: str


def find_metadata(place: Path) -> list[Metadata]:
    """The files of metadata with paths and labels in `place`: those of its split folders, else its own one, else []."""
    with os.scandir(place) as entries:
        splits = sorted(entry.name for entry in entries if entry.name.lower() in SUBSET_OF and entry.is_dir())
    found = [_look(place / name, name, SUBSET_OF[name.lower()]) for name in splits]
    split = [metadata for metadata in found if metadata is not None]
    own = None if split else _look(place, "", UNASSIGNED)
    return split or ([own] if own is not None else [])


def read_metadata(place: Path, shown_path: str, found: Sequence[Metadata]) -> Dataset:
    """The dataset that the files of metadata name. Raises Refused."""
    names: list[str] = []
    labels: list[str | None] = []
    given: list[int] = []
    notes, problems = [], []
    for metadata in found:
        where = f"{shown_path}{shown(os.path.relpath(metadata.path, place))}"
        rows, wrong = _checked(metadata, where)
        problems += wrong
        names += [f"{metadata.folder}/{name}" if metadata.folder else name for name, _ in rows]
        labels += [label for _, label in rows]
        given += [metadata.subset] * len(rows)
        notes.append(f"{where}: {metadata.file_name} and {metadata.label} of {counted(len(rows), 'row')}")
    refuse_all(problems)
    if not names:
        raise Refused(f"{listed([str(item.path) for item in found])}: no rows that name an image")
    classes = class_order(label for label in labels if label is not None)
    codes, subsets = numbered(labels, classes), np.array(given, np.int8)
    subsets[codes < 0] = UNLABELLED
    notes += check_classes(shown_path, classes, codes, subsets)
    packed = Names.of(names)
    source = files_below(place, packed, shown_path)
    name = place.resolve().name
    return Dataset(name, "images with metadata", packed, codes, subsets, None, classes, source, {}, tuple(notes))


def _look(folder: Path, name: str, subset: int) -> Metadata | None:
    for file in _FILES:
        path = folder / file
        if not path.is_file():
            continue
        columns = _columns(path)
        file_name = next((column for column in PATHS if column in columns), None)
        label = next((column for column in LABEL_NAMES if column in columns), None)
        if file_name is not None and label is not None:
            return Metadata(path, name, subset, file_name, label)
    return None


def _columns(path: Path) -> Sequence[str]:
    if path.suffix == ".parquet":
        from headway.data.parquet import schema_of

        return [str(name) for name in schema_of(path).names]
    try:
        first = next(_rows(path), {})
    except (OSError, ValueError, csv.Error):
        return ()  # the folders tell the classes
    return list(first)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows as they stand; one that is no JSON object raises ValueError."""
    if path.suffix == ".parquet":
        from headway.data.parquet import read_columns, schema_of

        table = read_columns(path, [name for name in schema_of(path).names if name in (*PATHS, *LABEL_NAMES)])
        columns = {name: values.to_pylist() for name, values in table.items()}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))
        return
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
        if path.suffix == ".csv":
            yield from csv.DictReader(stream)
            return
        for line in stream:
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("expected an object")
                yield row


def _checked(metadata: Metadata, where: str) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Path and label of each row, and what is wrong with the others."""
    rows: list[tuple[str, str | None]] = []
    wrong: list[str] = []
    first: dict[str, int] = {}
    number = 0
    try:
        for number, row in enumerate(_rows(metadata.path), 1):
            name, label = row.get(metadata.file_name), row.get(metadata.label)
            if not isinstance(name, str) or not name:
                wrong.append(f"{where}, row {number}: no {metadata.file_name}")
            elif name in first:
                wrong.append(f"{where}, row {number}: {shown(name)} stands in row {first[name]} already")
            elif not (label is None or isinstance(label, str | int)):
                kind = type(label).__name__
                wrong.append(f"{where}, row {number}: its {metadata.label} is a {kind}, expected a name or number")
            else:
                first[name] = number
                rows.append((name, None if label in (None, "", -1) else str(label)))
    except (ValueError, csv.Error) as error:
        raise Refused(f"{where}, row {number + 1}: not readable ({error})") from error
    more = [f"{where}: {len(wrong) - _TOLD:,} more rows like this"] if len(wrong) > _TOLD else []
    return rows, [*wrong[:_TOLD], *more]
