"""Write a list of images that `manifests` reads back: path, label and, where the data brings them, split and group.

Its last column, the sha256 of each file when it was listed, says too that the list is ours and may be written anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import SUBSETS, TEST, UNASSIGNED, Contents, Dataset
from headway.data.folders import FolderSource
from headway.data.manifests import MARK
from headway.data.wording import shown
from headway.errors import refuse_all
from headway.files import write_csv


def check_list(path: Path, dataset: Dataset, data: Path | str) -> None:
    """Raise Refused, with every reason, where a list of `dataset` (read from `data`) cannot be written to `path`."""
    name, problems = shown(str(path)), []
    if path.suffix.lower() != ".csv":
        problems.append(f"--write {name}: expected a name that ends in .csv")
    if not isinstance(dataset.source, FolderSource):
        problems.append(
            f"--write {name}: a list names image files, and {shown(dataset.name)} is {dataset.kind}. Leave out --write"
        )
    elif Path(data).is_dir() and _within(path, Path(data)):
        problems.append(f"--write {name} lies in {shown(str(data))}, which is never written to. Choose another place")
    if path.is_dir():
        problems.append(f"--write {name} is a folder: expected the name of a file")
    elif not path.absolute().parent.is_dir():
        problems.append(f"--write {name}: there is no folder {shown(str(path.parent))}. Make it first")
    elif os.path.lexists(path) and (_same(path, Path(data)) or not is_ours(path)):
        problems.append(f"--write {name} exists and was not written by headway audit. Choose another name")
    for label in dataset.classes:
        if label != label.strip():
            problems.append(
                f"--write: the class '{shown(label)}' begins or ends with a space, which a list cannot keep"
            )
    refuse_all(problems)


def is_ours(path: Path) -> bool:
    """Whether the file at `path` begins as lists begin that are written here."""
    try:
        with path.open("rb") as stream:
            header = stream.readline(1 << 12)
    except OSError:
        return False
    return header.startswith(b"path,label,") and header.rstrip(b"\r\n").endswith(b"," + MARK.encode())


def write_list(path: Path, dataset: Dataset, contents: Contents, keep: NDArray[np.bool_]) -> None:
    """Write the samples where `keep` (N,) is true, whole or not at all. Subsets and groups are those of the data."""
    assert isinstance(dataset.source, FolderSource)  # `check_list` refused anything else
    split = bool(((dataset.given >= 0) & (dataset.given <= TEST)).any())
    columns = ["path", "label", *(["split"] if split else []), *([] if dataset.groups is None else ["group"]), MARK]
    start = _prefix(Path(dataset.source.root), path)
    write_csv(path, columns, _rows(dataset, contents, np.flatnonzero(keep), start, split))


def _rows(
    dataset: Dataset, contents: Contents, indices: NDArray[np.intp], start: str, split: bool
) -> Iterator[Sequence[object]]:
    for index in indices.tolist():
        name, label, given = dataset.names[index], int(dataset.labels[index]), int(dataset.given[index])
        cells: list[object] = [name if name.startswith("/") else f"{start}/{name}"]
        cells.append(dataset.classes[label] if label >= 0 else "")
        if split:
            cells.append(SUBSETS[given] if UNASSIGNED < given <= TEST else "")
        if dataset.groups is not None:
            group = int(dataset.groups[index])
            cells.append(f"g{group}" if group >= 0 else "")
        cells.append(contents.digests[index].tobytes().hex())
        yield cells


def _prefix(root: Path, path: Path) -> str:
    """The way from the list's folder to the images' one. Links are followed: `..` leads out of where they end."""
    way = os.path.relpath(os.path.realpath(root), os.path.realpath(path.absolute().parent))
    return way if way.startswith(".") else f"./{way}"  # never what a spreadsheet would run


def _within(path: Path, folder: Path) -> bool:
    place, root = os.path.realpath(path.absolute().parent), os.path.realpath(folder)
    return place == root or place.startswith(root.rstrip("/") + "/")


def _same(path: Path, data: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(data)
