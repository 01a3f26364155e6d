"""Parquet with the images' bytes inside, as Hugging Face lays it out: one file, or a folder of shards.

    image    a column struct<bytes, path>, or of bytes, called image, img, ... (the first such column)
    label    label, labels, fine_label, coarse_label, class, target (the first of these): a string, or a number whose
             name stands in the schema's `huggingface` metadata; -1 and null = no label
    subset   from the file's name (train-00000-of-00002.parquet, test.parquet), else from its folder's name

Row groups are read on demand and the last two kept, so that memory does not grow with the file.
"""

from __future__ import annotations

import json
import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headway.data.classes import check_classes, class_order, numbered
from headway.data.dataset import TRAIN, UNASSIGNED, UNLABELLED, Dataset
from headway.data.folders import SUBSET_OF
from headway.data.images import BadImage
from headway.data.wording import counted, listed, shown
from headway.errors import Refused, refuse_all

IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "png", "bytes")
LABEL_NAMES = ("label", "labels", "fine_label", "coarse_label", "class", "target", "category")
_SUBSET = re.compile(r"(train|test|validation|valid|val)(?:[-_.].*)?", re.IGNORECASE)
_KEPT_GROUPS = 2


@dataclass(frozen=True)
class _Shard:
    """One file: where its images and labels stand."""

    path: Path
    name: str
    subset: int | None
    image: str
    label: str | None
    rows: int
    groups: tuple[int, ...]  # rows of each row group
    names: tuple[str, ...] | None  # of the classes, where the metadata has them
    columns: tuple[str, ...]


class ParquetSource:
    """Rows of several files, numbered through. `read` may be called from several threads."""

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._groups = [(shard, i) for shard in shards for i in range(len(shard.groups))]
        self._starts = [0, *accumulate(rows for shard in shards for rows in shard.groups)]
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, index: int) -> bytes:
        """The encoded image in row `index`. Raises BadImage."""
        group = bisect_right(self._starts, index) - 1
        row = index - self._starts[group]
        content = self._column(group)[row].as_py()
        if content is None:
            shard, _ = self._groups[group]
            raise BadImage(f"{shard.name}/{self._row_in_file(group) + row}", "no bytes in its row")
        return bytes(content)

    def _row_in_file(self, group: int) -> int:
        shard, position = self._groups[group]
        return sum(shard.groups[:position])

    def _column(self, group: int) -> Any:
        with self._lock:
            if group in self._kept:
                self._kept.move_to_end(group)
                return self._kept[group]
            shard, position = self._groups[group]
            try:
                with pq.ParquetFile(shard.path) as file:
                    column = file.read_row_group(position, columns=[shard.image], use_threads=False).column(0)
            except (pa.ArrowException, OSError) as error:
                raise BadImage(f"{shard.name}/{self._row_in_file(group)}", "its row group cannot be read") from error
            merged = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            self._kept[group] = merged.field("bytes") if pa.types.is_struct(merged.type) else merged
            while len(self._kept) > _KEPT_GROUPS:
                self._kept.popitem(last=False)
            return self._kept[group]


def find_shards(folder: Path) -> list[Path]:
    """The Parquet files with images in `folder`, its `data` folder or its split folders, sorted."""
    places = [folder]
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower() in {"data", "default", *SUBSET_OF} and entry.is_dir():
                    places.append(folder / entry.name)
        files = [path for place in places for path in place.glob("*.parquet") if not path.name.startswith(".")]
    except PermissionError:
        return []  # the walk over the images tells which folder cannot be read
    return [path for path in sorted(files) if path.is_file() and holds_images(path)]


def holds_images(path: Path) -> bool:
    """Whether a Parquet file has a column of encoded images. Raises Refused where it is damaged."""
    return _image_column(schema_of(path)) is not None


def read_shards(path: Path, shown_path: str, files: Sequence[Path]) -> Dataset:
    """The dataset in the Parquet files `files` at `path` (a folder, or the one file). Raises Refused."""
    unique = len({file.stem for file in files}) == len(files)
    shards = [_shard(file, file.stem if unique else f"{file.parent.name}/{file.stem}") for file in files]
    notes: list[str] = []
    if any(shard.subset is not None for shard in shards):
        left = [shard.name for shard in shards if shard.subset is None]
        if left:
            notes.append(f"{listed(left)} left out: no split in the name")
        shards = [shard for shard in shards if shard.subset is not None]
    _refuse_no_label(shown_path, shards)
    texts = [label for shard in shards for label in _labels(shard)]
    classes = class_order(label for label in texts if label is not None)
    labels = numbered(texts, classes)
    given = np.concatenate(
        [np.full(shard.rows, UNASSIGNED if shard.subset is None else shard.subset, np.int8) for shard in shards]
    )
    given[labels < 0] = UNLABELLED
    for shard in shards:
        columns = f"images in {shard.image}, labels in {shard.label}" if shard.label else f"images in {shard.image}"
        notes.append(f"{shown(shard.name)}.parquet: {counted(shard.rows, 'row')}, {columns}")
    notes += check_classes(shown_path, classes, labels, given)
    unnamed = sorted({name for shard in shards for name in shard.names or ()} - set(classes))
    if unnamed:
        notes.append(f"{listed(unnamed)}: named in the metadata, but without images")
    names = [f"{shard.name}/{row}" for shard in shards for row in range(shard.rows)]
    source = ParquetSource(shards)
    return Dataset(path.resolve().name, "Parquet", names, labels, given, None, classes, source, {}, tuple(notes))


def schema_of(path: Path) -> Any:
    """The Arrow schema of a Parquet file. Raises Refused where it is damaged."""
    try:
        return pq.read_schema(path)
    except PermissionError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Refused(f"{shown(str(path))} is not a readable Parquet file (cut or damaged): fetch it again") from error


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Small columns, whole, as Python values. Raises Refused where the file is damaged."""
    try:
        table = pq.read_table(path, columns=list(columns), use_threads=False)
    except PermissionError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Refused(f"{shown(str(path))} is damaged: fetch it again") from error
    return {name: table.column(name).to_pylist() for name in columns}


def _image_column(schema: Any) -> str | None:
    fits = []
    for column in schema:
        if pa.types.is_struct(column.type):
            fits += [column.name] if column.type.get_field_index("bytes") >= 0 else []
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            fits += [column.name] if column.name.lower() in IMAGE_NAMES else []
    return min(fits, key=lambda name: IMAGE_NAMES.index(name) if name in IMAGE_NAMES else 99, default=None)


def _shard(path: Path, name: str) -> _Shard:
    schema = schema_of(path)
    metadata = pq.read_metadata(path)
    label = next((name for name in LABEL_NAMES if name in schema.names), None)
    match = _SUBSET.fullmatch(path.stem)
    subset = SUBSET_OF[match[1].lower()] if match else SUBSET_OF.get(path.parent.name.lower())
    image = _image_column(schema)
    if image is None:
        raise Refused(
            f"{shown(str(path))} has no column of images (struct<bytes, path>): columns {', '.join(schema.names)}"
        )
    if pa.types.is_struct(schema.field(image).type):
        image += ".bytes"
    names = _class_names(schema, label)
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    columns = tuple(schema.names)
    return _Shard(path, name, subset, image, label, metadata.num_rows, groups, names, columns)


def _class_names(schema: Any, label: str | None) -> tuple[str, ...] | None:
    """The names of the classes in Hugging Face's metadata: {"info": {"features": {label: {"names": [...]}}}}."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names)


def _labels(shard: _Shard) -> list[str | None]:
    """The class name of each row (the number itself where no name is known); None = no label."""
    if shard.label is None:
        return [None] * shard.rows
    values = read_columns(shard.path, [shard.label])[shard.label]
    file = f"{shown(shard.name)}.parquet"
    strange = next((value for value in values if not isinstance(value, str | int | None)), None)
    if strange is not None:
        raise Refused(f"{file}: the column {shard.label} holds {strange!r}, expected names or whole numbers")
    names = shard.names
    if names is None or any(isinstance(value, str) for value in values):
        return [None if value is None or value in ("", -1) else str(value) for value in values]
    beyond = next((value for value in values if isinstance(value, int) and value >= len(names)), None)
    if beyond is not None:
        raise Refused(f"{file}: label {beyond}, but its metadata names {len(names)} classes (0 to {len(names) - 1})")
    return [
        value if isinstance(value, str) or value is None else names[value] if value >= 0 else None for value in values
    ]


def _refuse_no_label(shown_path: str, shards: Sequence[_Shard]) -> None:
    learnt = [shard for shard in shards if shard.subset in (None, TRAIN)] or shards
    refuse_all(
        [
            f"{shown_path}: {shown(shard.name)}.parquet has no column of labels, expected one of "
            f"{', '.join(LABEL_NAMES)} (it has {', '.join(shown(name) for name in shard.columns)})"
            for shard in learnt
            if shard.label is None
        ]
    )
