"""load_dataset on folders: class folders, split folders, names; what is understood, and what is noted."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Dataset
from headway.data.folders import class_of_name
from headway.data.sources import load_dataset
from tests import make
from tests.bad_inputs import good


def told(dataset: Dataset) -> dict[str, tuple[str | None, int]]:
    """name → class and subset."""
    return {
        name: (None if label < 0 else dataset.classes[label], int(subset))
        for name, label, subset in zip(dataset.names, dataset.labels, dataset.given, strict=True)
    }


def test_class_folders(tmp_path: Path) -> None:
    root = good(tmp_path / "photos", 2)
    make.write(root / "cats" / "young" / "kitten.jpg", make.jpeg())
    make.write(root / "stray.jpg", make.jpeg())
    dataset = load_dataset(root)
    assert told(dataset) == {
        "cats/0000.jpg": ("cats", UNASSIGNED),
        "cats/0001.jpg": ("cats", UNASSIGNED),
        "cats/young/kitten.jpg": ("cats", UNASSIGNED),
        "dogs/0000.jpg": ("dogs", UNASSIGNED),
        "dogs/0001.jpg": ("dogs", UNASSIGNED),
    }
    assert (dataset.name, dataset.kind, dataset.groups) == ("photos", "a folder per class", None)
    assert dataset.ignored == {"images outside class folders": 1}
    assert dataset.notes == ("1 image outside class folders left out",)
    assert dataset.source.read(2) == make.jpeg()
    assert dataset.labels.dtype == np.int32
    assert dataset.given.dtype == np.int8


@pytest.mark.parametrize("typed", ["photos", "photos/", "./photos", "../{}/photos"])
def test_paths__as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    good(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset(typed.format(tmp_path.name))
    assert dataset.name == "photos"
    assert dataset.source.read(0) == (tmp_path / "photos" / "cats" / "0000.jpg").read_bytes()


def test_paths__here_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    assert load_dataset(".").name == "photos"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_dataset("~/photos").name == "photos"


def test_class_order__numbers_by_value(tmp_path: Path) -> None:
    make.class_folders(tmp_path, {"10": 1, "9": 1, "0": 1}, size=(8, 8))
    assert load_dataset(tmp_path).classes == ("0", "9", "10")


def test_classes__that_look_alike_are_told(tmp_path: Path) -> None:
    names = ("cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "Dogs", "dogs", "owls")
    dataset = load_dataset(make.class_folders(tmp_path, dict.fromkeys(names, 1), size=(8, 8)))
    assert len(dataset.classes) == 5
    assert dataset.notes == (
        "the classes Dogs and dogs differ by letter case or Unicode form only",
        f"the classes {names[0]} and {names[1]} differ by letter case or Unicode form only",
    )


SPLIT_NAMES = ("train", "Train", "TRAIN"), ("val", "valid", "Validation", None), ("test", "Test", None)


@pytest.mark.parametrize("names", list(itertools.product(*SPLIT_NAMES)))
def test_split_folders__any_of_them(tmp_path: Path, names: tuple[str | None, ...]) -> None:
    counts = {name: {"cats": 2, "dogs": 1} for name in names if name}
    dataset = load_dataset(make.split_folders(tmp_path, counts, size=(8, 8)))
    assert dataset.kind == "split folders"
    expected = [(name, subset) for name, subset in zip(names, (TRAIN, VAL, TEST), strict=True) if name]
    for name, subset in expected:
        mine = [i for i, path in enumerate(dataset.names) if path.startswith(f"{name}/")]
        assert set(dataset.given[mine]) == {subset}
    assert len(dataset) == 3 * len(expected)
    assert list(dataset.names) == sorted(dataset.names)


@pytest.mark.parametrize("shared", [set(c) for n in range(1, 6) for c in itertools.combinations("abcde", n)])
def test_split_folders__classes_matched_by_name(tmp_path: Path, shared: set[str]) -> None:
    """For every subset of five classes in val: the label is the name's place in train."""
    make.split_folders(tmp_path, {"train": dict.fromkeys("abcde", 1), "val": dict.fromkeys(shared, 1)}, size=(8, 8))
    dataset = load_dataset(tmp_path)
    assert dataset.classes == tuple("abcde")
    assert told(dataset) == {
        **{f"train/{name}/0000.jpg": (name, TRAIN) for name in "abcde"},
        **{f"val/{name}/0000.jpg": (name, VAL) for name in shared},
    }
    missing = sorted(set("abcde") - shared)
    words = " and ".join([", ".join(missing[:-1]), missing[-1]] if len(missing) > 1 else missing)
    assert dataset.notes == ((f"val has no images of {words}",) if missing else ())


def test_split_folders__unlabelled_test(tmp_path: Path) -> None:
    root = make.split_folders(tmp_path / "pets", {"train": {"cats": 2, "dogs": 2}}, size=(8, 8))
    for i in range(3):
        make.write(root / "test" / f"{i}.jpg", make.jpeg(0, i))
    dataset = load_dataset(root)
    assert [told(dataset)[f"test/{i}.jpg"] for i in range(3)] == [(None, UNLABELLED)] * 3
    assert dataset.notes == ("test/ has 3 images without labels: they get predictions",)


def test_split_folders__unlabelled_test_in_a_folder_of_its_own(tmp_path: Path) -> None:
    root = make.split_folders(tmp_path, {"train": {"cats": 2, "dogs": 2}, "test": {"unknown": 2}}, size=(8, 8))
    dataset = load_dataset(root)
    assert told(dataset)["test/unknown/0001.jpg"] == (None, UNLABELLED)
    assert dataset.notes == ("test/unknown/ is no class of train: its images have no labels",)


def test_split_folders__names_start_with_the_class(tmp_path: Path) -> None:
    for i in range(3):
        for kind, name in enumerate(("cat", "dog")):
            make.write(tmp_path / "train" / f"{name}.{i}.jpg", make.jpeg(kind, i, (8, 8)))
    make.write(tmp_path / "test" / "1.jpg", make.jpeg(0, 7, (8, 8)))
    dataset = load_dataset(tmp_path)
    assert told(dataset)["train/dog.1.jpg"] == ("dog", TRAIN)
    assert told(dataset)["test/1.jpg"] == (None, UNLABELLED)
    make.write(tmp_path / "test" / "1.jpg", b"").rename(tmp_path / "test" / "cat.9.jpg")
    assert told(load_dataset(tmp_path))["test/cat.9.jpg"] == ("cat", TEST)


def test_split_folders__test_only(tmp_path: Path) -> None:
    dataset = load_dataset(make.split_folders(tmp_path, {"test": {"cats": 2, "dogs": 1}}, size=(8, 8)))
    assert set(dataset.given) == {TEST}
    assert dataset.classes == ("cats", "dogs")


def test_split_folders__what_lies_beside(tmp_path: Path) -> None:
    root = make.split_folders(tmp_path, {"train": {"cats": 2, "dogs": 2}, "extra": {"owls": 3}}, size=(8, 8))
    make.write(root / "logo.png", make.png())
    make.write(root / "train" / "stray.png", make.png())
    dataset = load_dataset(root)
    assert len(dataset) == 4
    assert dataset.ignored == {"images outside the split folders": 4, "images outside class folders": 1}
    assert dataset.notes == (
        "extra/ beside the split folders left out",
        "1 image outside class folders left out",
    )


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cat.0.jpg", "cat"),
        ("cat_001.png", "cat"),
        ("cat-12.jpg", "cat"),
        ("cat (3).jpg", "cat"),
        ("cat(3).jpg", "cat"),
        ("cat12.jpg", "cat"),
        ("cat 7", "cat"),
        ("train/american_bulldog_118.jpg", "american_bulldog"),
        ("B52_7.jpg", "B52"),
        ("Straße.1.jpg", "Straße"),
        ("cat.jpg", None),
        ("12.jpg", None),
        ("2021-01-03.jpg", None),
        ("cat.0.small.jpg", None),
    ],
)
def test_class_of_name(name: str, label: str | None) -> None:
    assert class_of_name(name) == label


def test_flat_folder(tmp_path: Path) -> None:
    for kind, name in enumerate(("cat", "dog")):
        for i in range(3):
            make.write(tmp_path / f"{name}.{i}.jpg", make.jpeg(kind, i, (8, 8)))
    dataset = load_dataset(tmp_path)
    assert dataset.kind == "names that start with the class"
    assert told(dataset)["dog.2.jpg"] == ("dog", UNASSIGNED)


def test_list_beside_unsorted_images(tmp_path: Path) -> None:
    for i in range(4):
        make.write(tmp_path / "images" / f"{i}.jpg", make.jpeg(0, i, (8, 8)))
    make.write(
        tmp_path / "labels.csv", b"path,label\n" + b"".join(b"images/%d.jpg,c%d\n" % (i, i % 2) for i in range(4))
    )
    dataset = load_dataset(tmp_path)
    assert dataset.kind == "a list"
    assert told(dataset)["images/3.jpg"] == ("c1", UNASSIGNED)


def test_list_beside_class_folders(tmp_path: Path) -> None:
    root = good(tmp_path)
    make.write(root / "labels.csv", b"path,label\ncats/0000.jpg,a\ndogs/0000.jpg,b\n")
    dataset = load_dataset(root)
    assert dataset.classes == ("cats", "dogs")
    assert dataset.notes == ("labels.csv not read: the folders tell the classes (to use it, give its path)",)


def test_folders__a_class_with_the_name_of_a_subset(tmp_path: Path) -> None:
    """CIFAR-100 has trains among its classes."""
    for subset in ("train", "test"):
        make.class_folders(tmp_path / subset, {"apple": 2, "train": 2})

    dataset = load_dataset(tmp_path)

    assert dataset.classes == ("apple", "train")
    assert len(dataset) == 8


@pytest.mark.parametrize("names", [("1.jpg", "2.jpg"), ("train.0.jpg", "train.1.jpg"), ("a.jpg", "b.jpg")])
def test_folders__a_class_called_train(tmp_path: Path, names: tuple[str, str]) -> None:
    """The vehicle, beside others: CIFAR-100 as folders has it."""
    root = good(tmp_path / "photos", 2)
    for name in names:
        make.write(root / "train" / name, make.jpeg())
    dataset = load_dataset(root)
    assert dataset.classes == ("cats", "dogs", "train")
    assert set(dataset.given.tolist()) == {UNASSIGNED}
    assert dataset.kind == "a folder per class"
    assert dataset.notes == ("train/ taken as a class, like the folders beside it",)


def test_folders__train_with_named_images_stays_a_subset(tmp_path: Path) -> None:
    root = good(tmp_path / "photos", 2)
    for number, name in enumerate(("cat", "dog") * 2):
        make.write(root / "train" / f"{name}.{number}.jpg", make.jpeg())
    dataset = load_dataset(root)
    assert dataset.classes == ("cat", "dog")
    assert set(dataset.given.tolist()) == {TRAIN}
    assert dataset.notes == ("cats/ and dogs/ beside the split folders left out",)
