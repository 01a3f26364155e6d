"""Parquet with the images' bytes inside, as Hugging Face lays it out: one file, or a folder of shards.

    image    a column struct<bytes, path>, or of bytes, called image, img, ... (the first such column)
    label    label, labels, fine_label, coarse_label, class, target (the first of these): a string, or a number whose
             name stands in the schema's `huggingface` metadata; -1 and null = no label
    subset   from the file's name (train-00000-of-00002.parquet, test.parquet), else from its folder's name

Row groups are read on demand, and the last ones kept, up to 64 MB of them or three: memory does not grow with the file.
"""

from __future__ import annotations

import json
import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headway.data import arrow
from headway.data.classes import LABEL_NAMES, check_classes, class_order
from headway.data.dataset import TRAIN, UNASSIGNED, UNLABELLED, Dataset
from headway.data.folders import SUBSET_OF
from headway.data.images import BadImage
from headway.data.names import Joined
from headway.data.storage import Blob, BlobReader, RemoteBlob
from headway.data.wording import counted, listed, shown
from headway.errors import Refused, refuse_all

IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "png", "bytes")
_SUBSET = re.compile(r"(train|test|validation|valid|val)(?:[-_.].*)?", re.IGNORECASE)
_KEPT_GROUPS = 2  # at least, however large
_KEPT_BYTES = 64 << 20
_LARGE_GROUP = 1 << 30  # bytes of images that are worth a word
_BLOCK = 1 << 20  # of an object on another machine; a column is fetched as a whole


@dataclass(frozen=True)
class _Shard:
    """One file: where its images and labels stand."""

    place: Path | Blob
    name: str
    subset: int | None
    image: str
    label: str | None
    rows: int
    groups: tuple[int, ...]  # rows of each row group
    names: tuple[str, ...] | None  # of the classes, where the metadata has them
    columns: tuple[str, ...]
    largest: int  # bytes of images in the largest row group


class ParquetSource:
    """Rows of several files, numbered through. `read` may be called from several threads: each row group is read by one
    of them, others that want it wait for that one only.
    """

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._groups = [(shard, i) for shard in shards for i in range(len(shard.groups))]
        self._starts = [0, *accumulate(rows for shard in shards for rows in shard.groups)]
        self._kept: OrderedDict[int, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._last: tuple[int, int, int, Any] = (0, 0, 0, None)

    def read(self, index: int) -> bytes:
        """The encoded image in row `index`. Raises BadImage."""
        first, stop, group, column = self._last  # most rows follow their neighbours: no lock, no search
        if not first <= index < stop:
            group = bisect_right(self._starts, index) - 1
            first, stop, column = self._starts[group], self._starts[group + 1], self._column(group)
            self._last = first, stop, group, column
        content = column[index - first].as_py()
        if content is None:
            shard, _ = self._groups[group]
            raise BadImage(f"{shard.name}/{self._row_in_file(group) + index - first}", "no bytes in its row")
        return bytes(content)

    def _row_in_file(self, group: int) -> int:
        shard, position = self._groups[group]
        return sum(shard.groups[:position])

    def _column(self, group: int) -> Any:
        with self._lock:
            future = self._kept.get(group)
            mine = future is None
            if future is None:
                future = self._kept[group] = Future()
            self._kept.move_to_end(group)
        if mine:
            try:
                future.set_result(self._load(group))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(group, None)
                future.set_exception(error)
            else:
                self._let_go()
        return future.result()

    def _load(self, group: int) -> Any:
        shard, position = self._groups[group]
        try:
            with pq.ParquetFile(_opened(shard.place), pre_buffer=isinstance(shard.place, RemoteBlob)) as file:
                column = file.read_row_group(position, columns=[shard.image], use_threads=False).column(0)
        except (pa.ArrowException, OSError) as error:
            raise BadImage(f"{shard.name}/{self._row_in_file(group)}", "its row group cannot be read") from error
        merged = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        return merged.field("bytes") if pa.types.is_struct(merged.type) else merged

    def _let_go(self) -> None:
        """Drop what was used longest ago, as long as there is too much."""
        with self._lock:
            sizes = [group.result().nbytes if group.done() else 0 for group in self._kept.values()]
            total = sum(sizes)
            for size in sizes:
                if total <= _KEPT_BYTES or len(self._kept) <= _KEPT_GROUPS:
                    return
                self._kept.popitem(last=False)
                total -= size


class FarParquetSource(ParquetSource):
    """The same on another machine."""

    def fetch(self, indices: Sequence[int]) -> list[bytes | BadImage]:
        """What `read` gives or raises for each of the samples."""
        contents: list[bytes | BadImage] = []
        for index in indices:
            try:
                contents.append(self.read(index))
            except BadImage as error:
                contents.append(error)
        return contents


def _opened(place: Path | Blob) -> Any:
    """What pyarrow reads."""
    return place if isinstance(place, Path) else BlobReader(place, _BLOCK)


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


def read_shards(name: str, shown_path: str, files: Sequence[Path] | Sequence[RemoteBlob]) -> Dataset:
    """The dataset in the Parquet files `files`, called `name`. Raises Refused."""
    places = [(file, PurePath(file.name) if isinstance(file, RemoteBlob) else file) for file in files]
    unique = len({path.stem for _, path in places}) == len(places)
    shards = [_shard(file, path, path.stem if unique else f"{path.parent.name}/{path.stem}") for file, path in places]
    notes: list[str] = []
    if any(shard.subset is not None for shard in shards):
        left = [shard.name for shard in shards if shard.subset is None]
        if left:
            notes.append(f"{listed(left)} left out: no split in the name")
        shards = [shard for shard in shards if shard.subset is not None]
    _refuse_no_label(shown_path, shards)
    found = [_labels(shard) for shard in shards]
    classes = class_order(word for codes, words in found for word in _used(codes, words))
    number = {word: i for i, word in enumerate(classes)}
    tables = [np.array([*(number.get(word, -1) for word in words), -1], np.int32) for _, words in found]
    labels = np.concatenate([table[codes] for table, (codes, _) in zip(tables, found, strict=True)])
    given = np.concatenate(
        [np.full(shard.rows, UNASSIGNED if shard.subset is None else shard.subset, np.int8) for shard in shards]
    )
    given[labels < 0] = UNLABELLED
    notes += [note for shard in shards for note in _told(shard)]
    notes += check_classes(shown_path, classes, labels, given)
    unnamed = sorted({name for shard in shards for name in shard.names or ()} - set(classes))
    if unnamed:
        notes.append(f"{listed(unnamed)}: named in the metadata, but without images")
    names = Joined([(shard.name, shard.rows) for shard in shards])
    source = (FarParquetSource if isinstance(shards[0].place, RemoteBlob) else ParquetSource)(shards)
    return Dataset(name, "Parquet", names, labels, given, None, classes, source, {}, tuple(notes), in_order=True)


def _told(shard: _Shard) -> Iterator[str]:
    columns = f"images in {shard.image}, labels in {shard.label}" if shard.label else f"images in {shard.image}"
    yield f"{shown(shard.name)}.parquet: {counted(shard.rows, 'row')}, {columns}"
    if shard.largest >= _LARGE_GROUP:
        yield (
            f"{shown(shard.name)}.parquet: row groups of up to {shard.largest / (1 << 30):.1f} GB, and two are kept in "
            "memory (rows are read group by group: write it with smaller ones)"
        )


def schema_of(place: Path | Blob) -> Any:
    """The Arrow schema of a Parquet file. Raises Refused where it is damaged."""
    try:
        return pq.read_schema(_opened(place))
    except PermissionError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Refused(f"{_shown(place)} is not a readable Parquet file (cut or damaged): fetch it again") from error


def read_columns(place: Path | Blob, columns: Sequence[str]) -> dict[str, Any]:
    """Small columns, whole, as Arrow has them. Raises Refused where the file is damaged."""
    try:
        table = arrow.read_columns(_opened(place), columns, use_threads=False)
    except PermissionError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Refused(f"{_shown(place)} is damaged: fetch it again") from error
    return {name: table.column(name) for name in columns}


def _shown(place: Path | Blob) -> str:
    return shown(str(place)) if isinstance(place, Path) else place.name


def _image_column(schema: Any) -> str | None:
    fits = []
    for column in schema:
        if pa.types.is_struct(column.type):
            fits += [column.name] if column.type.get_field_index("bytes") >= 0 else []
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            fits += [column.name] if column.name.lower() in IMAGE_NAMES else []
    return min(fits, key=lambda name: IMAGE_NAMES.index(name) if name in IMAGE_NAMES else 99, default=None)


def _shard(place: Path | Blob, path: PurePath, name: str) -> _Shard:
    schema = schema_of(place)
    metadata = pq.read_metadata(_opened(place))
    label = next((name for name in LABEL_NAMES if name in schema.names), None)
    match = _SUBSET.fullmatch(path.stem)
    subset = SUBSET_OF[match[1].lower()] if match else SUBSET_OF.get(path.parent.name.lower())
    image = _image_column(schema)
    if image is None:
        raise Refused(
            f"{_shown(place)} has no column of images (struct<bytes, path>): columns {', '.join(schema.names)}"
        )
    if pa.types.is_struct(schema.field(image).type):
        image += ".bytes"
    names = _class_names(schema, label)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    rows = tuple(group.num_rows for group in groups)
    largest = max((_bytes_of(group, image) for group in groups), default=0)
    return _Shard(place, name, subset, image, label, metadata.num_rows, rows, names, tuple(schema.names), largest)


def _bytes_of(group: Any, column: str) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(found.total_uncompressed_size for found in columns if found.path_in_schema == column)


def _class_names(schema: Any, label: str | None) -> tuple[str, ...] | None:
    """The names of the classes in Hugging Face's metadata: {"info": {"features": {label: {"names": [...]}}}}."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names)


def _labels(shard: _Shard) -> tuple[NDArray[np.int32], list[str]]:
    """(N,) the code of each row's class, -1 = no label; and the class that each code stands for.

    Numbers are classes of that name, where the metadata knows no other.
    """
    if shard.label is None:
        return np.full(shard.rows, -1, np.int32), []
    column = read_columns(shard.place, [shard.label])[shard.label]
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    values = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    words = _words(shard, values)
    codes = np.zeros(0, np.int32)
    if column.num_chunks:
        codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy().astype(np.int32) for chunk in column.chunks])
    none = [code for code, word in enumerate(words) if word is None]
    return np.where(np.isin(codes, none), np.int32(-1), codes), [word or "" for word in words]


def _words(shard: _Shard, values: Sequence[Any]) -> list[str | None]:
    """The class that each distinct value of the label column means; None = no label."""
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
    return [names[value] if isinstance(value, int) and value >= 0 else None for value in values]


def _used(codes: NDArray[np.int32], words: Sequence[str]) -> Iterator[str]:
    """The classes that have a row."""
    return (words[code] for code in np.unique(codes).tolist() if code >= 0)


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
