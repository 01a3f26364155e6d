"""Parquet with the images' bytes inside, in Hugging Face's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL
from headway.data.images import BadImage
from headway.data.parquet import ParquetSource
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ("dog", "cat", "owl")  # not sorted: the order in the file is not the order of the classes


def shard(
    path: Path,
    labels: Sequence[object],
    *,
    names: Sequence[str] | None = NAMES,
    column: str = "label",
    start: int = 0,
    **more: Any,
) -> list[bytes]:
    """Write one file with distinct images; returns their bytes."""
    contents = [make.png(0, start + i, (8, 8)) for i in range(len(labels))]
    images = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    table = pa.table({"img": pa.array(images, IMAGE), column: pa.array(labels), **more})
    if names is not None:
        features = {"img": {"_type": "Image"}, column: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return contents


def test_folder_of_shards(tmp_path: Path) -> None:
    first = shard(tmp_path / "c" / "train-00000-of-00002.parquet", [0, 1, 1])
    second = shard(tmp_path / "c" / "train-00001-of-00002.parquet", [0, 2], start=10)
    last = shard(tmp_path / "c" / "test.parquet", [2, 0], start=20)
    dataset = load_dataset(tmp_path / "c")
    assert (dataset.name, dataset.kind, dataset.classes) == ("c", "Parquet", ("cat", "dog", "owl"))
    assert list(dataset.names) == [
        "test/0", "test/1", "train-00000-of-00002/0", "train-00000-of-00002/1", "train-00000-of-00002/2",
        "train-00001-of-00002/0", "train-00001-of-00002/1",
    ]  # fmt: skip
    assert dataset.labels.tolist() == [2, 1, 1, 0, 0, 1, 2]
    assert dataset.given.tolist() == [TEST, TEST, TRAIN, TRAIN, TRAIN, TRAIN, TRAIN]
    assert [dataset.source.read(i) for i in range(7)] == last + first + second
    assert dataset.notes == (
        "test.parquet: 2 rows, images in img.bytes, labels in label",
        "train-00000-of-00002.parquet: 3 rows, images in img.bytes, labels in label",
        "train-00001-of-00002.parquet: 2 rows, images in img.bytes, labels in label",
        "test has no images of cat",
    )


@pytest.mark.parametrize("place", ["data", ".", "default"])
def test_where_shards_lie(tmp_path: Path, place: str) -> None:
    shard(tmp_path / place / "train.parquet", [0, 1, 2])
    shard(tmp_path / place / "validation-0.parquet", [0, 1], start=9)
    assert sorted(set(load_dataset(tmp_path).given)) == [TRAIN, VAL]


def test_shards_in_split_folders(tmp_path: Path) -> None:
    shard(tmp_path / "train" / "0000.parquet", [0, 1, 2])
    shard(tmp_path / "test" / "0000.parquet", [0, 1], start=9)
    dataset = load_dataset(tmp_path)
    assert sorted(set(dataset.given)) == [TRAIN, TEST]
    assert len(set(dataset.names)) == 5


def test_one_file(tmp_path: Path) -> None:
    contents = shard(tmp_path / "train.parquet", [0, 1, 2])
    dataset = load_dataset(tmp_path / "train.parquet")
    assert dataset.source.read(2) == contents[2]
    assert (dataset.name, set(dataset.given)) == ("train.parquet", {TRAIN})
    shard(tmp_path / "photos.parquet", [0, 1, 2])
    assert set(load_dataset(tmp_path / "photos.parquet").given) == {UNASSIGNED}


def test_labels__fine_before_coarse(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", [0, 1, 2], column="fine_label", coarse_label=pa.array([0, 0, 0]))
    assert load_dataset(tmp_path).classes == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("labels", "names", "classes", "expected"),
    [
        (["b", "a", None, "b"], None, ("a", "b"), [1, 0, -1, 1]),
        ([10, 9, -1, 9], None, ("9", "10"), [1, 0, -1, 0]),
        ([2, -1, None, 0], NAMES, ("dog", "owl"), [1, -1, -1, 0]),
    ],
)
def test_labels__kinds(
    tmp_path: Path, labels: list[object], names: Sequence[str] | None, classes: tuple[str, ...], expected: list[int]
) -> None:
    shard(tmp_path / "x.parquet", labels, names=names)
    dataset = load_dataset(tmp_path / "x.parquet")
    assert (dataset.classes, dataset.labels.tolist()) == (classes, expected)
    assert [subset == UNLABELLED for subset in dataset.given] == [label < 0 for label in expected]


def test_labels__a_test_file_without(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", [0, 1, 2])
    shard(tmp_path / "test.parquet", [0, 1], column="id", names=None)
    dataset = load_dataset(tmp_path)
    assert dataset.given.tolist() == [UNLABELLED, UNLABELLED, TRAIN, TRAIN, TRAIN]


def test_bytes_columns_and_lists_beside(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"one", b"two"]), "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "train.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "statistics.parquet")
    dataset = load_dataset(tmp_path)
    assert [dataset.source.read(i) for i in range(2)] == [b"one", b"two"]


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as raised:
        load_dataset(path)
    return str(raised.value)


def test_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    shard(path, [0, 3])
    assert refusal(path) == "train.parquet: label 3, but its metadata names 3 classes (0 to 2)"
    shard(path, [0.5, 0.1])
    assert refusal(path) == "train.parquet: the column label holds 0.5, expected names or whole numbers"
    shard(path, [0, 1], column="mood")
    assert refusal(path) == (
        f"{path}: train.parquet has no column of labels, expected one of label, labels, fine_label, coarse_label, "
        "class, target, category (it has img, mood)"
    )
    shard(path, [1, 1])
    assert refusal(path) == f"{path} has one class only (cat): a classifier needs two or more"
    shard(path, [])
    assert refusal(path) == (
        f"{path} has no labelled images: expected a folder per class, or a CSV with path and label"
    )
    path.write_bytes(b"PAR1" + bytes(99))
    assert refusal(path) == f"{path} is not a readable Parquet file (cut or damaged): fetch it again"
    assert refusal(tmp_path) == f"{path} is not a readable Parquet file (cut or damaged): fetch it again"


def test_read__damage_and_gaps(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": None}] * 2
    table = pa.table({"image": pa.array(images, IMAGE), "label": ["a", "b"] * 2})
    path = tmp_path / "train.parquet"
    pq.write_table(table, path, row_group_size=2, compression="none")
    dataset = load_dataset(path)
    assert dataset.source.read(1) == b"x"
    with pytest.raises(BadImage) as raised:
        dataset.source.read(2)
    assert str(raised.value) == "train/2: no bytes in its row"
    fresh = load_dataset(path)
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)
    path.write_bytes(bytes(content))
    with pytest.raises(BadImage) as raised:
        fresh.source.read(0)
    assert str(raised.value) == "train/0: its row group cannot be read"


def test_read__threads_and_bounded_memory(tmp_path: Path) -> None:
    contents = shard(tmp_path / "train.parquet", [0, 1] * 40)
    dataset = load_dataset(tmp_path)
    order = np.random.default_rng(0).integers(0, 80, 800).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(dataset.source.read, order)) == [contents[i] for i in order]
    assert isinstance(dataset.source, ParquetSource)


def test_read__keeps_no_more_row_groups_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = shard(tmp_path / "train.parquet", [0, 1] * 40)
    monkeypatch.setattr("headway.data.parquet._KEPT_BYTES", 5 * 2 * len(contents[0]))
    dataset = load_dataset(tmp_path)
    assert [dataset.source.read(i) for i in range(80)] == contents
    assert isinstance(dataset.source, ParquetSource)
    kept = [group.result().nbytes for group in dataset.source._kept.values()]
    assert 2 < len(kept) < 10
    assert sum(kept) <= 5 * 2 * len(contents[0])
