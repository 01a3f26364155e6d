"""Lists of images: CSV and Parquet with path, label, split, group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make
from tests.bad_inputs import good

ROWS = [
    ("cats/0000.jpg", "cat", "train", "p1"),
    ("cats/0001.jpg", "cat", "Validation", "p2"),
    ("dogs/0000.jpg", "dog", "train", "p1"),
    ("dogs/0001.jpg", "dog", "", ""),
    ("dogs/0002.jpg", "", "test", "p3"),
    ("dogs/0003.jpg", "dog", "test", "p2"),
]


def csv_of(separator: str = ",", mark: bytes = b"") -> bytes:
    lines = [separator.join(row) for row in [("Path", "LABEL", "split", "group"), *ROWS]]
    return mark + "\r\n".join(lines).encode()


@pytest.mark.parametrize("form", ["comma", "semicolon", "tab", "byte order mark", "parquet"])
def test_read_manifest(tmp_path: Path, form: str) -> None:
    good(tmp_path)
    path = tmp_path / "list.csv"
    if form == "parquet":
        path = tmp_path / "list.parquet"
        columns = zip(*ROWS, strict=True)
        pq.write_table(pa.table(dict(zip(("path", "label", "split", "group"), map(list, columns), strict=True))), path)
    else:
        separator = {"semicolon": ";", "tab": "\t"}.get(form, ",")
        make.write(path, csv_of(separator, b"\xef\xbb\xbf" if form == "byte order mark" else b""))
    dataset = load_dataset(path)
    assert list(dataset.names) == [row[0] for row in ROWS]
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 1, 1, -1, 1]
    assert dataset.given.tolist() == [TRAIN, VAL, TRAIN, UNASSIGNED, UNLABELLED, TEST]
    assert dataset.groups is not None
    assert dataset.groups.tolist() == [0, 1, 0, -1, 2, 1]
    assert (dataset.name, dataset.kind) == (path.name, "a list")
    assert dataset.notes[1:] == (
        "1 row without a label: they get predictions",
        "val has no images of dog",
        "test has no images of cat",
    )
    assert dataset.source.read(2) == (tmp_path / "dogs" / "0000.jpg").read_bytes()


def test_read_manifest__absolute_paths_and_numbers(tmp_path: Path) -> None:
    root = good(tmp_path / "elsewhere", 2)
    files = sorted(root.rglob("*.jpg"))
    text = "file_name,class\n" + "".join(f"{file},{11 - 2 * i}\n" for i, file in enumerate(files))
    dataset = load_dataset(make.write(tmp_path / "here" / "list.csv", text.encode()))
    assert dataset.classes == ("5", "7", "9", "11")
    assert dataset.labels.tolist() == [3, 2, 1, 0]
    assert dataset.groups is None
    assert dataset.source.read(3) == files[3].read_bytes()


def test_read_manifest__quotes_line_ends_and_blank_lines(tmp_path: Path) -> None:
    good(tmp_path / "a, b", 1)
    text = 'path,label\n"a, b/cats/0000.jpg","big\ncat"\n\n"a, b/dogs/0000.jpg",dog\n"a, b/dogs/0000.jpg",dog\n'
    path = make.write(tmp_path / "list.csv", text.encode())
    with pytest.raises(Refused) as raised:
        load_dataset(path)
    assert str(raised.value) == (f"{path}, line 6: a, b/dogs/0000.jpg stands in line 5 already: name each image once")


def test_read_manifest__many_bad_rows(tmp_path: Path) -> None:
    text = "path,label,split\n" + "".join(f"{i}.jpg,a,elsewhere\n" for i in range(9))
    path = make.write(tmp_path / "list.csv", text.encode())
    with pytest.raises(Refused) as raised:
        load_dataset(path)
    lines = [f"  {path}, line {i}: split 'elsewhere', expected train, val, test or nothing" for i in range(2, 7)]
    assert str(raised.value) == "\n".join(["6 problems:", *lines, f"  {path}: 4 more lines like this"])


def test_read_manifest__some_files_lack(tmp_path: Path) -> None:
    """One missing file is no reason to refuse the list: the decode pass names it."""
    good(tmp_path)
    path = make.write(tmp_path / "list.csv", b"path,label\ngone.jpg,cat\ndogs/0000.jpg,dog\n")
    assert len(load_dataset(path)) == 2


def test_read_manifest__same_labels_as_folders(tmp_path: Path) -> None:
    root = good(tmp_path / "photos")
    folders = load_dataset(root)
    rows = [
        f"photos/{name},{folders.classes[label]}" for name, label in zip(folders.names, folders.labels, strict=True)
    ]
    listed = load_dataset(make.write(tmp_path / "list.csv", "\n".join(["path,label", *rows]).encode()))
    assert np.array_equal(listed.labels, folders.labels)
    assert listed.classes == folders.classes
