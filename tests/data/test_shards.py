"""Datasets in tar archives: labels beside the images or from folders, subsets from names, and the same images as
in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Dataset
from headway.data.images import BadImage
from headway.data.sources import load_dataset
from headway.errors import Refused
from headway.features.reading import content_digest
from tests import make


def samples(labels: list[str | None], start: int = 0) -> Iterator[tuple[str, bytes]]:
    """Members of a shard: a small image for each label, and the label beside it."""
    for i, label in enumerate(labels, start):
        yield f"{i:05d}.png", make.png(0, i, (8, 8))
        if label is not None:
            yield f"{i:05d}.cls", label.encode()


def told(dataset: Dataset) -> dict[str, str | None]:
    return {
        name: None if label < 0 else dataset.classes[label]
        for name, label in zip(dataset.names, dataset.labels.tolist(), strict=True)
    }


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as raised:
        load_dataset(path)
    return str(raised.value)


def test_folder_of_shards(tmp_path: Path) -> None:
    make.tar(tmp_path / "s" / "shard-000000.tar", samples(["cat", "dog"]))
    make.tar(tmp_path / "s" / "shard-000001.tar", samples(["dog", "cat"]))
    dataset = load_dataset(tmp_path / "s")
    assert (dataset.name, dataset.kind, dataset.classes) == ("s", "tar shards", ("cat", "dog"))
    assert told(dataset) == {
        "shard-000000/00000.png": "cat",
        "shard-000000/00001.png": "dog",
        "shard-000001/00000.png": "dog",
        "shard-000001/00001.png": "cat",
    }
    assert set(dataset.given.tolist()) == {UNASSIGNED}
    assert dataset.notes == ("2 archives, labels beside the images",)
    assert [dataset.source.read(i) for i in range(4)] == [make.png(0, i, (8, 8)) for i in (0, 1, 0, 1)]


@pytest.mark.parametrize("name", ["classes.txt", "classnames.txt"])
def test_numbers_named_in_a_list(tmp_path: Path, name: str) -> None:
    make.tar(tmp_path / "a.tar", samples(["0", "2", "2"]))
    make.write(tmp_path / name, b"pug\nowl\ncat\n")
    for path in (tmp_path, tmp_path / "a.tar"):
        assert list(told(load_dataset(path)).values()) == ["pug", "cat", "cat"]


def test_numbers_without_a_list_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    make.tar(tmp_path / "a.tar", samples(["10", "9", "10"]))
    assert load_dataset(tmp_path / "a.tar").classes == ("9", "10")


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train-000.tar", "val-000.tar", "test-000.tar"),
        ("train/0.tar", "valid/0.tar", "test/0.tar"),
        ("imagenet-train-0.tar", "imagenet-validation-0.tar", "imagenet_test.0.tar"),
    ],
)
def test_subsets(tmp_path: Path, train: str, val: str, test: str) -> None:
    make.tar(tmp_path / train, samples(["a", "b"]))
    make.tar(tmp_path / val, samples(["a", "b"], 10))
    make.tar(tmp_path / test, samples([None, None, None], 20))
    make.write(tmp_path / "classes.txt", b"a\nb\n")
    dataset = load_dataset(tmp_path)
    counts = {subset: int((dataset.given == subset).sum()) for subset in (TRAIN, VAL, TEST, UNLABELLED)}
    assert counts == {TRAIN: 2, VAL: 2, TEST: 0, UNLABELLED: 3}
    assert len(set(dataset.names)) == 7
    assert "3 images without a label: they get predictions" in dataset.notes


def test_classes_from_folders(tmp_path: Path) -> None:
    members = [("stray.png", b"3"), ("photos/cats/1.png", b"1"), ("photos/dogs/old/2.png", b"2"), ("readme.txt", b"")]
    make.tar(tmp_path / "photos.tar", members)
    dataset = load_dataset(tmp_path / "photos.tar")
    assert told(dataset) == {"photos/photos/cats/1.png": "cats", "photos/photos/dogs/old/2.png": "dogs"}
    assert dataset.ignored == {"images outside class folders": 1, "other files": 1}
    assert dataset.notes == ("1 archive, labels from the folders in them", "1 image outside class folders left out")
    assert [dataset.source.read(i) for i in range(2)] == [b"1", b"2"]


def test_split_folders_in_an_archive(tmp_path: Path) -> None:
    members = [(f"{split}/{name}/1.png", b"x") for split in ("train", "val", "test") for name in ("a", "b")]
    dataset = load_dataset(make.tar(tmp_path / "all.tar", members))
    assert dataset.classes == ("a", "b")
    assert dataset.given.tolist() == [TRAIN, TRAIN, VAL, VAL, TEST, TEST]


def test_split_names_and_class_folders(tmp_path: Path) -> None:
    make.tar(tmp_path / "train-0.tar", [("a/1.png", b"x"), ("b/1.png", b"x")])
    make.tar(tmp_path / "test-0.tar", [("1.png", b"x"), ("2.png", b"x")])
    dataset = load_dataset(tmp_path)
    assert list(told(dataset).values()) == [None, None, "a", "b"]
    assert dataset.given.tolist() == [UNLABELLED, UNLABELLED, TRAIN, TRAIN]


def test_patterns(tmp_path: Path) -> None:
    for i in range(12):
        make.tar(tmp_path / f"shard-{i:03d}.tar", samples(["a", "b"]))
    assert len(load_dataset(tmp_path / "shard-{000..009}.tar")) == 20
    assert len(load_dataset(tmp_path / "shard-01*.tar")) == 4
    assert load_dataset(tmp_path / "shard-{003,005}.tar").name == tmp_path.name
    path = tmp_path / "shard-{010..013}.tar"
    assert refusal(path) == (
        f"{path}: 2 of its 4 files are not there, first {tmp_path}/shard-012.tar. "
        "Fetch them, or take them out of the pattern"
    )
    assert refusal(tmp_path / "x-*.tar") == f"{tmp_path}/x-*.tar stands for no file that exists"
    make.write(tmp_path / "shard-000.txt", b"")
    path = tmp_path / "shard-000.*"
    assert refusal(path) == f"{path} stands for 2 files: expected all .tar, or all .parquet"


def test_images_beside_archives_are_the_data(tmp_path: Path) -> None:
    make.class_folders(tmp_path, {"cats": 2, "dogs": 2}, size=(8, 8))
    make.tar(tmp_path / "backup.tar", samples(["a", "b"]))
    dataset = load_dataset(tmp_path)
    assert (len(dataset), dataset.kind) == (4, "a folder per class")
    assert dataset.notes == ("1 archive beside the images not read (to use it, give its path)",)


def test_members_passed_over_and_an_end_without_its_mark_are_told(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", [("/1.png", b""), *samples(["a", "b"])])
    path.write_bytes(path.read_bytes().rstrip(b"\0").ljust(8 * 512 + 512, b"\0")[: 10 * 512])
    dataset = load_dataset(path)
    assert dataset.notes == (
        "1 archive, labels beside the images",
        "passed over: /1.png (an absolute name)",
        "a: without the mark of an archive's end, perhaps cut short",
    )


def test_refused(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", samples(["0", "7", "bird"]))
    make.write(tmp_path / "classes.txt", b"cat\ndog\n")
    tail = "is none of the 2 in the list of classes: mend it, or take the list away"
    assert refusal(path) == (
        f"2 problems:\n  {path}: 00001.png: label 7 {tail}\n  {path}: 00002.png: label bird {tail}"
    )
    make.write(tmp_path / "classes.txt", b"cat\ncat\n")
    assert refusal(path) == f"{tmp_path}/classes.txt: cat stands in it twice"
    (tmp_path / "classes.txt").unlink()
    make.tar(path, samples([None, None]))
    assert refusal(path) == (
        f"{path} has no labelled images: expected 0001.cls or 0001.json beside 0001.jpg in its archives, or a folder "
        "per class in them, as in cats/0001.jpg"
    )
    make.tar(path, [("notes.txt", b"x")])
    assert refusal(tmp_path) == (
        f"no images in {tmp_path}/ (ignored: other files 1): expected archives with members such as 0001.jpg"
    )
    make.tar(path, samples(["a", "a"]))
    assert refusal(path) == f"{path} has one class only (a): a classifier needs two or more"


def test_read__what_happened_to_the_archive_since(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", samples(["a", "b"]))
    dataset = load_dataset(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadImage) as raised:
        dataset.source.read(1)
    assert str(raised.value) == "a/00001.png: its archive cannot be read (the file is shorter than it was)"
    path.unlink()
    with pytest.raises(BadImage) as raised:
        dataset.source.read(0)
    assert str(raised.value) == "a/00000.png: its archive is gone"


def test_round_trip__the_images_of_a_folder(tmp_path: Path) -> None:
    """Folder → shards of both kinds: the same contents under the same labels, in the same subsets."""
    counts = {"train": {"cats": 5, "dogs": 4}, "val": {"cats": 2, "dogs": 2}, "test": {"cats": 1, "dogs": 3}}
    root = make.split_folders(tmp_path / "folder", counts, size=(16, 12))
    rng = np.random.default_rng(0)
    files = sorted(root.rglob("*.jpg"))
    for split in counts:
        mine = [path for path in files if path.parts[-3] == split]
        beside = []
        for i, place in enumerate(rng.permutation(len(mine))):
            beside += [(f"{i}.jpg", mine[place].read_bytes()), (f"{i}.cls", mine[place].parts[-2].encode())]
        make.tar(tmp_path / "beside" / f"{split}-0.tar", beside)
    for start in range(0, len(files), 7):
        members = [(path.relative_to(tmp_path).as_posix(), path.read_bytes()) for path in files[start : start + 7]]
        make.tar(tmp_path / "trees" / f"part-{start:03d}.tar", members)

    def seen(path: Path) -> set[tuple[bytes, str, int]]:
        dataset = load_dataset(path)
        return {
            (content_digest(dataset.source.read(i)), dataset.classes[dataset.labels[i]], int(dataset.given[i]))
            for i in range(len(dataset))
        }

    assert seen(root) == seen(tmp_path / "beside") == seen(tmp_path / "trees")
