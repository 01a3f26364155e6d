"""Hugging Face's imagefolder with metadata, held against the library that defines it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make
from tests.data.test_hugging_face import load_apart
from tests.ecosystem.hubbing import environment

ROWS = [("a.png", "cat"), ("b.png", "dog"), ("deep/c.png", "cat")]


def images(folder: Path, rows: Any = ROWS, seed: int = 0) -> None:
    for number, (name, _) in enumerate(rows):
        make.write(folder / name, make.png(number, seed))


def as_csv(path: Path, rows: Any = ROWS, label: str = "label") -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["file_name", "note", label], *([name, "x", word] for name, word in rows)])


def as_jsonl(path: Path, rows: Any = ROWS, label: str = "label") -> None:
    path.write_text("".join(json.dumps({"file_name": name, label: word}) + "\n\n" for name, word in rows))


def as_parquet(path: Path, rows: Any = ROWS, label: str = "label") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"file_name": [name for name, _ in rows], "w": [1.0] * len(rows), label: [word for _, word in rows]}
    pq.write_table(pa.table(columns), path)


WRITERS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


@pytest.mark.parametrize("kind", WRITERS)
def test_imagefolder__one_file_beside_the_images(kind: str, tmp_path: Path) -> None:
    images(tmp_path)
    WRITERS[kind](tmp_path / f"metadata.{kind}")
    found = load_dataset(tmp_path)
    assert found.classes == ("cat", "dog")
    assert list(found.names) == [name for name, _ in ROWS]
    assert found.labels.tolist() == [0, 1, 0]
    assert set(found.given.tolist()) == {UNASSIGNED}
    assert found.notes == (f"{tmp_path}/metadata.{kind}: file_name and label of 3 rows",)
    assert [found.source.read(i) for i in range(3)] == [make.png(0), make.png(1), make.png(2)]


@pytest.mark.parametrize("kind", WRITERS)
def test_imagefolder__a_file_in_each_split(kind: str, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        images(tmp_path / split, seed=seed)
        WRITERS[kind](tmp_path / split / f"metadata.{kind}", label="category")
    found = load_dataset(f"{tmp_path}/")
    order = ["test", "train"]
    assert list(found.names) == [f"{split}/{name}" for split in order for name, _ in ROWS]
    assert found.given.tolist() == [TEST] * 3 + [TRAIN] * 3
    assert found.labels.tolist() == [0, 1, 0] * 2
    assert found.source.read(3) == make.png(0, 0)


def test_imagefolder__numbers_and_rows_without_a_label(tmp_path: Path) -> None:
    rows = [("a.png", 10), ("b.png", 2), ("c.png", None), ("d.png", -1)]
    images(tmp_path, rows)
    as_jsonl(tmp_path / "metadata.jsonl", rows)
    found = load_dataset(tmp_path)
    assert found.classes == ("2", "10")
    assert found.labels.tolist() == [1, 0, -1, -1]
    assert found.given.tolist() == [UNASSIGNED] * 2 + [UNLABELLED] * 2


def test_imagefolder__metadata_without_labels_leaves_the_folders(tmp_path: Path) -> None:
    make.class_folders(tmp_path, {"x": 2, "y": 2})
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "x/0000.jpg", "text": "a"}\n')
    assert load_dataset(tmp_path).classes == ("x", "y")


def test_imagefolder__class_folders_are_believed_before_a_list_beside_them(tmp_path: Path) -> None:
    make.class_folders(tmp_path, {"x": 2, "y": 2})
    as_jsonl(tmp_path / "metadata.jsonl", [("x/0000.jpg", "p"), ("y/0000.jpg", "q")])
    assert load_dataset(tmp_path).classes == ("x", "y")


def test_imagefolder__every_bad_row_is_told(tmp_path: Path) -> None:
    images(tmp_path)
    lines: list[Any] = [{"file_name": "a.png", "label": ["cat"]}, {"label": "x"}, *({"file_name": "b.png"},) * 7]
    first = {"file_name": "q.png", "label": "cat"}
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [first, *lines]))
    with pytest.raises(Refused) as caught:
        load_dataset(tmp_path)
    file = f"{tmp_path}/metadata.jsonl"
    assert str(caught.value) == (
        "6 problems:\n"
        f"  {file}, row 2: its label is a list, expected a name or number\n"
        f"  {file}, row 3: no file_name\n"
        f"  {file}, row 5: b.png stands in row 4 already\n"
        f"  {file}, row 6: b.png stands in row 4 already\n"
        f"  {file}, row 7: b.png stands in row 4 already\n"
        f"  {file}: 3 more rows like this"
    )
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "label": "x"}\n[1]\n')
    with pytest.raises(Refused) as caught:
        load_dataset(tmp_path)
    assert str(caught.value) == f"{file}, row 2: not readable (expected an object)"


@pytest.mark.slow
def test_imagefolder__the_library_reads_the_same(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for seed, split in enumerate(("train", "test")):
        images(photos / split, seed=seed)
        as_jsonl(photos / split / "metadata.jsonl")
    theirs = load_apart(f"hf:{photos}", environment("http://127.0.0.1:9", tmp_path / "home"))
    ours = load_dataset(photos)
    words = [ours.classes[label] for label in ours.labels]
    assert (theirs[1], sorted(theirs[2]), sorted(theirs[3])) == (6, sorted(words), sorted(ours.given.tolist()))
