"""The list without suspects: read back it is the same data, and nothing else is ever written over."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from headway.data.dataset import Contents, Dataset
from headway.data.listing import check_list, is_ours, write_list
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make


def seen(dataset: Dataset) -> Contents:
    """Contents of which only the digests matter here."""
    n = len(dataset)
    digests = np.random.default_rng(0).integers(0, 256, (n, 32)).astype(np.uint8)
    return Contents(np.ones(n, bool), {}, digests, digests, np.zeros((n, 2), np.int32))


def back(dataset: Dataset, path: Path, keep: np.ndarray) -> Dataset:
    write_list(path, dataset, seen(dataset), keep)
    return load_dataset(path)


def samples(dataset: Dataset, keep: np.ndarray | None = None) -> set[tuple[bytes, str, int]]:
    """What a reader makes of each sample: its bytes, its class, its subset."""
    return {
        (
            bytes(dataset.source.read(index)),
            dataset.classes[dataset.labels[index]] if dataset.labels[index] >= 0 else "",
            int(dataset.given[index]),
        )
        for index in range(len(dataset))
        if keep is None or keep[index]
    }


@pytest.mark.parametrize("place", ["clean.csv", "lists/clean.csv", "photos-2/deep/clean.csv"])
def test_list__reads_back_as_the_same_data(tmp_path: Path, place: str) -> None:
    photos = make.split_folders(tmp_path / "photos", {"train": {"a": 4, "b": 4}, "test": {"a": 2, "b": 3}})
    dataset, path = load_dataset(photos), tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = np.ones(len(dataset), bool)
    keep[[1, 7]] = False

    again = back(dataset, path, keep)

    assert samples(again) == samples(dataset, keep)
    assert again.classes == dataset.classes
    assert len(again) == len(dataset) - 2


def test_list__hostile_names_and_classes(tmp_path: Path) -> None:
    names = ["=cmd()|'x'!A1", "-1", "+2", "@x", "'quoted'", 'a,b"c', "line\nend", "حيوان", "<script>"]
    for kind, name in enumerate(names):
        for number in range(2):
            make.write(tmp_path / "photos" / name / f"=1+{number}, 'x'.png", make.png(kind, number))
    make.write(tmp_path / "photos" / names[0] / os.fsdecode(b"caf\xe9.png"), make.png(0, 9))
    dataset = load_dataset(tmp_path / "photos")

    again = back(dataset, tmp_path / "clean.csv", np.ones(len(dataset), bool))

    assert samples(again) == samples(dataset)
    assert {name.split("/")[:2] == [".", "photos"] for name in again.names} == {True}
    lines = (tmp_path / "clean.csv").read_bytes().split(b"\n")
    cells = [cell.lstrip(b'"') for line in lines for cell in line.split(b",")]
    assert not any(cell.startswith((b"=", b"+", b"-", b"@")) for cell in cells)


def test_list__of_a_list_keeps_groups_subsets_and_unlabelled(tmp_path: Path) -> None:
    make.class_folders(tmp_path / "x", {"a": 3, "b": 3})
    rows = [
        "path,label,split,group",
        *(f"x/a/000{n}.jpg,a,{'train' if n else 'test'},{'same' if n < 2 else ''}" for n in range(3)),
        *(f"{tmp_path}/x/b/000{n}.jpg,b,,{'other' if n else ''}" for n in range(2)),
        "x/b/0002.jpg,,,",
    ]
    make.write(tmp_path / "all.csv", "\n".join(rows).encode())
    dataset = load_dataset(tmp_path / "all.csv")
    (tmp_path / "out").mkdir()

    again = back(dataset, tmp_path / "out" / "clean.csv", np.ones(len(dataset), bool))

    assert samples(again) == samples(dataset)
    assert again.groups is not None
    assert dataset.groups is not None
    same = [int((again.groups == group).sum()) for group in np.unique(again.groups[again.groups >= 0])]
    assert sorted(same) == [1, 2]


def test_list__is_told_from_others(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"a": 2, "b": 2})
    dataset = load_dataset(photos)
    write_list(tmp_path / "ours.csv", dataset, seen(dataset), np.ones(4, bool))
    make.write(tmp_path / "other.csv", b"path,label\nx.png,a\n")

    assert is_ours(tmp_path / "ours.csv")
    assert not is_ours(tmp_path / "other.csv")
    assert not is_ours(tmp_path / "none.csv")
    check_list(tmp_path / "ours.csv", dataset, photos)
    check_list(tmp_path / "new.csv", dataset, photos)


def test_check_list__every_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make.class_folders(tmp_path / "photos", {"a": 2, "b ": 2})
    make.write(tmp_path / "other.csv", b"path,label\nx.png,a\n")
    (tmp_path / "folder.csv").mkdir()
    dataset = load_dataset("photos")

    def told(path: str) -> str:
        with pytest.raises(Refused) as refusal:
            check_list(Path(path), dataset, Path("photos"))
        return str(refusal.value)

    space = "--write: the class 'b ' begins or ends with a space, which a list cannot keep"
    exists = "--write other.csv exists and was not written by headway audit. Choose another name"
    assert told("other.csv") == f"2 problems:\n  {exists}\n  {space}"
    assert told("photos/x.csv").splitlines()[1] == (
        "  --write photos/x.csv lies in photos, which is never written to. Choose another place"
    )
    assert told("x.txt").splitlines()[1] == "  --write x.txt: expected a name that ends in .csv"
    assert told("folder.csv").splitlines()[1] == "  --write folder.csv is a folder: expected the name of a file"
    assert told("no/x.csv").splitlines()[1] == "  --write no/x.csv: there is no folder no. Make it first"


def test_check_list__images_inside_a_file(tmp_path: Path) -> None:
    make.tar(tmp_path / "t.tar", [(f"{label}/{n}.png", make.png(n, 1)) for label in "ab" for n in range(3)])
    dataset = load_dataset(tmp_path / "t.tar")

    with pytest.raises(Refused) as refusal:
        check_list(tmp_path / "clean.csv", dataset, tmp_path / "t.tar")

    assert str(refusal.value).endswith(
        f"clean.csv: a list names image files, and {dataset.name} is {dataset.kind}. Leave out --write"
    )


def test_check_list__the_list_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"a": 2, "b": 2})
    dataset = load_dataset(photos)
    write_list(tmp_path / "ours.csv", dataset, seen(dataset), np.ones(4, bool))

    with pytest.raises(Refused, match="exists and was not written by headway audit"):
        check_list(tmp_path / "ours.csv", load_dataset(tmp_path / "ours.csv"), tmp_path / "ours.csv")
