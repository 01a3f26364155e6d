"""A list of images: CSV or Parquet with the columns path, label and, where wanted, split and group.

Paths are relative to the list's own folder (or absolute). An empty label means no label; an empty split means that
headway decides; an empty group means a group of its own. Commas, semicolons and tabs separate; UTF-8.
"""

from __future__ import annotations

import csv
import io
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from headway.data.classes import check_classes, class_order, numbered
from headway.data.dataset import UNASSIGNED, UNLABELLED, Dataset, Source
from headway.data.folders import SUBSET_OF, FolderSource
from headway.data.names import Names
from headway.data.wording import counted, shown
from headway.errors import Refused, refuse_all
from headway.files import restored

_COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "subset", "set"),
    "group": ("group", "group_id"),
}
MARK = "audited_sha256"  # the last column of a list that headway wrote (`listing`)
_TOLD = 5  # problems of one kind that are told one by one


@dataclass(frozen=True)
class _Table:
    """The columns as lists of text, and the line of the file in which each row ends."""

    paths: list[str]
    labels: list[str]
    splits: list[str] | None
    groups: list[str] | None
    lines: Sequence[int]


def find_manifest(folder: Path) -> Path | None:
    """The one list in `folder` that has a path and a label column, or None."""
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith((".csv", ".tsv", ".parquet"))
            and not entry.name.startswith(".")
            and entry.is_file()
        )
    found = [folder / name for name in names if is_manifest(folder / name)]
    return found[0] if len(found) == 1 else None


def is_manifest(path: Path) -> bool:
    """Whether the file's header has a path and a label column."""
    try:
        columns = _columns_of(_header(path))
    except (OSError, csv.Error, ValueError):
        return False
    return "path" in columns and "label" in columns


def read_manifest(path: Path, shown_path: str) -> Dataset:
    """The dataset that the list at `path` names. Raises Refused."""
    columns = _needed(_header(path), shown_path)
    parquet = path.suffix.lower() == ".parquet" or _starts_with(path, b"PAR1")
    table = _read_parquet(path, columns) if parquet else _read_csv(_opened(path), columns, path.name)
    return _read(table, columns, path.name, shown_path, lambda names: files_below(path.parent, names, shown_path))


def files_below(root: Path, names: Sequence[str], shown_path: str) -> FolderSource:
    """The files `names`, relative to `root`. Raises Refused where none of them exists."""
    folder = os.fspath(root)
    if not any(os.path.lexists(name if name.startswith("/") else f"{folder}/{name}") for name in names):
        raise Refused(
            f"{shown_path}: none of its {counted(len(names), 'path')} exists, first {shown(names[0])}: "
            f"paths are read relative to the folder of the list"
        )
    return FolderSource(folder, names)


def read_text(content: bytes, name: str, shown_path: str, source: Callable[[Sequence[str]], Source]) -> Dataset:
    """The dataset that a CSV names whose bytes are at hand. source: makes the reader of its paths. Raises Refused."""
    stream = io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")
    line = stream.readline(1 << 16)
    stream.seek(0)
    columns = _needed(next(csv.reader([line], delimiter=_delimiter(line)), []), shown_path)
    return _read(_read_csv(stream, columns, name), columns, name, shown_path, source)


def _needed(header: Sequence[str], shown_path: str) -> Mapping[str, str]:
    """The columns by our words. Raises Refused where one lacks that must be there."""
    columns = _columns_of(header)
    for needed in ("path", "label"):
        if needed not in columns:
            raise Refused(
                f"{shown_path} has no column {needed}: expected path,label and, where wanted, split and group "
                f"(it has {', '.join(shown(name) for name in header) or 'none'})"
            )
    return columns


def _read(
    table: _Table,
    columns: Mapping[str, str],
    name: str,
    shown_path: str,
    source: Callable[[Sequence[str]], Source],
) -> Dataset:
    if not table.paths:
        raise Refused(f"{shown_path} names no images: it has a header and no rows")
    _refuse_rows(shown_path, table)
    classes = class_order(label for label in table.labels if label)
    labels = numbered([label or None for label in table.labels], classes)
    given = np.full(len(labels), UNASSIGNED, np.int8)
    if table.splits is not None:
        words = {**SUBSET_OF, "": UNASSIGNED}
        given = np.fromiter((words[split.lower()] for split in table.splits), np.int8, len(labels))
    given[labels < 0] = UNLABELLED
    notes = [f"{columns['path']} and {columns['label']} of {counted(len(labels), 'row')}"]
    unlabelled = int((labels < 0).sum())
    if unlabelled:
        notes.append(f"{counted(unlabelled, 'row')} without a label: they get predictions")
    notes += check_classes(shown_path, classes, labels, given)
    names = Names.of(table.paths)
    groups = _groups(table.groups)
    return Dataset(name, "a list", names, labels, given, groups, classes, source(names), {}, tuple(notes))


def _opened(path: Path) -> TextIO:
    return path.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(start)) == start


def _header(path: Path) -> list[str]:
    if _starts_with(path, b"PAR1"):
        from headway.data.parquet import schema_of

        return [str(name) for name in schema_of(path).names]
    with _opened(path) as stream:
        line = stream.readline(1 << 16)
    return next(csv.reader([line], delimiter=_delimiter(line)), [])


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _columns_of(header: Sequence[str]) -> Mapping[str, str]:
    """Our word for a column → the file's; the first of the accepted names counts."""
    by_small = {name.strip().lower(): name for name in reversed(header)}
    columns = {}
    for ours, accepted in _COLUMNS.items():
        theirs = next((by_small[name] for name in accepted if name in by_small), None)
        if theirs is not None:
            columns[ours] = theirs
    return columns


def _read_csv(text: TextIO, columns: Mapping[str, str], name: str) -> _Table:
    wanted = [columns[ours] for ours in _COLUMNS if ours in columns]
    lists: dict[str, list[str]] = {name: [] for name in wanted}
    lines, once = array("q"), dict[str, str]()
    try:
        with text as stream:
            start = stream.readline(1 << 16)
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=_delimiter(start))
            ours = MARK in (reader.fieldnames or ())
            for row in reader:
                if any(value for value in row.values() if isinstance(value, str)):
                    lines.append(reader.line_num)
                    for column in wanted:
                        value = restored(row[column] or "") if ours else row[column] or ""
                        # Labels, splits and groups repeat: one text for all rows that say the same.
                        lists[column].append(value if column == columns["path"] else once.setdefault(value, value))
    except csv.Error as error:
        raise Refused(f"{shown(name)} is not a readable CSV ({error})") from error
    return _table(columns, lists, lines)


def _read_parquet(path: Path, columns: Mapping[str, str]) -> _Table:
    from headway.data.parquet import read_columns

    wanted = [columns[ours] for ours in _COLUMNS if ours in columns]
    table = read_columns(path, wanted)
    texts = {
        name: ["" if value is None else str(value) for value in values.to_pylist()] for name, values in table.items()
    }
    return _table(columns, texts, range(1, len(texts[columns["path"]]) + 1))


def _table(columns: Mapping[str, str], lists: Mapping[str, list[str]], lines: Sequence[int]) -> _Table:
    def stripped(ours: str) -> list[str] | None:
        if ours not in columns:
            return None
        once: dict[str, str] = {}
        return [once.setdefault(value, value) for value in map(str.strip, lists[columns[ours]])]

    return _Table(lists[columns["path"]], stripped("label") or [], stripped("split"), stripped("group"), lines)


def _refuse_rows(shown_path: str, table: _Table) -> None:
    """Every row that cannot be used, the first few of each kind by their line."""
    problems = []
    for kind in (_empty_paths(table), _repeated_paths(table), _unknown_splits(table)):
        told = list(kind)
        problems += [f"{shown_path}, line {table.lines[row]}: {text}" for row, text in told[:_TOLD]]
        if len(told) > _TOLD:
            problems.append(f"{shown_path}: {len(told) - _TOLD:,} more lines like this")
    refuse_all(problems)


def _empty_paths(table: _Table) -> Iterator[tuple[int, str]]:
    return ((row, "no path") for row, path in enumerate(table.paths) if not path)


def _repeated_paths(table: _Table) -> Iterator[tuple[int, str]]:
    first: dict[str, int] = {}
    for row, path in enumerate(table.paths):
        before = first.setdefault(path, row)
        if path and before != row:
            yield row, f"{shown(path)} stands in line {table.lines[before]} already: name each image once"


def _unknown_splits(table: _Table) -> Iterator[tuple[int, str]]:
    for row, split in enumerate(table.splits or ()):
        if split and split.lower() not in SUBSET_OF:
            yield row, f"split '{shown(split)}', expected train, val, test or nothing"


def _groups(groups: list[str] | None) -> NDArray[np.int32] | None:
    if groups is None or not any(groups):
        return None
    return numbered([group or None for group in groups], sorted({group for group in groups if group}))
