"""COCO's annotations as a data set: where files and images lie, one class an image, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Dataset
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make

CATEGORIES = [{"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat", "supercategory": "animal"}]


def annotated(
    file: Path,
    images: Mapping[str, Sequence[int]],
    folder: Path | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """A file of annotations: `images[name]` are the categories of its boxes. `more[stem]`: further keys of an image."""
    folder = folder or file.parent
    told: dict[str, Any] = {"info": {"year": 2026}, "licenses": [], "images": [], "annotations": []}
    for number, (name, found) in enumerate(images.items(), 100):
        if not name.startswith("gone"):
            make.write(folder / name, make.jpeg(found[0] if found else 0, number))
        keys = (more or {}).get(Path(name).stem, {})
        told["images"].append({"id": number, "file_name": name, "width": 64, "height": 48, **keys})
        for category in found:
            outline = [[1.5, 2.5, 3.5, 4.5, 5.5, 6.5]]
            box = {"bbox": [2, 3, 30.5, 20], "segmentation": outline, "area": 610.0, "iscrowd": 0}
            told["annotations"].append(
                {"id": len(told["annotations"]), "image_id": number, "category_id": category, **box}
            )
    make.write(file, json.dumps({**told, "categories": CATEGORIES}).encode())
    return file


def table(dataset: Dataset) -> dict[str, tuple[str | None, int]]:
    return {
        name: (dataset.classes[label] if label >= 0 else None, given)
        for name, label, given in zip(dataset.names, dataset.labels.tolist(), dataset.given.tolist(), strict=True)
    }


def test_coco__one_file(tmp_path: Path) -> None:
    file = annotated(tmp_path / "a.json", {"1.jpg": [7], "2.jpg": [3, 3], "3.jpg": [3, 7], "4.jpg": []})

    found = load_dataset(file)

    assert table(found) == {
        "1.jpg": ("dog", UNASSIGNED), "2.jpg": ("cat", UNASSIGNED), "4.jpg": (None, UNLABELLED),
    }  # fmt: skip
    assert found.source.read(1) == make.jpeg(3, 101)
    assert (found.name, found.kind, dict(found.ignored)) == (
        "a.json", "COCO annotations", {"images of several categories": 1},
    )  # fmt: skip
    assert found.notes == (
        "1 file of annotations, one category an image",
        "1 image of several categories left out (headway convert --crop makes an image of each box)",
        "1 image without annotations: they get predictions",
    )


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("a/annotations.json", "a"),
        ("a/coco.json", "a/images"),
        ("a/_annotations.coco.json", "a"),
        ("a/instances_2026.json", "a"),
        ("a/annotations/instances.json", "a/images"),
        ("a/annotations/instances_train2017.json", "a/train2017"),
        ("a/annotations/instances_train2017.json", "a/images/train2017"),
        ("a/annotations/instances_x.json", "a"),
    ],
)
def test_coco__a_folder(tmp_path: Path, file: str, images: str) -> None:
    annotated(tmp_path / file, {"1.jpg": [7], "2.jpg": [3]}, tmp_path / images)

    expected = {"1.jpg": ("dog", UNASSIGNED), "2.jpg": ("cat", UNASSIGNED)}
    for place in ("a", file):
        found = load_dataset(tmp_path / place)
        assert {name.rpartition("/")[2]: row for name, row in table(found).items()} == expected
        assert found.source.read(1) == make.jpeg(3, 101)


def test_coco__a_file_a_subset(tmp_path: Path) -> None:
    for year in ("train2017", "val2017"):
        annotated(tmp_path / f"annotations/instances_{year}.json", {"1.jpg": [7], "2.jpg": [3]}, tmp_path / year)
    make.write(tmp_path / "annotations/captions_train2017.json", b'{"images": []}')

    assert table(load_dataset(tmp_path)) == {
        "train2017/1.jpg": ("dog", TRAIN), "train2017/2.jpg": ("cat", TRAIN),
        "val2017/1.jpg": ("dog", VAL), "val2017/2.jpg": ("cat", VAL),
    }  # fmt: skip


def test_coco__as_roboflow_exports(tmp_path: Path) -> None:
    for subset in ("train", "valid", "test"):
        annotated(tmp_path / subset / "_annotations.coco.json", {f"{subset}1.jpg": [7], f"{subset}2.jpg": [3]})

    assert table(load_dataset(tmp_path)) == {
        "test/test1.jpg": ("dog", TEST), "test/test2.jpg": ("cat", TEST),
        "train/train1.jpg": ("dog", TRAIN), "train/train2.jpg": ("cat", TRAIN),
        "valid/valid1.jpg": ("dog", VAL), "valid/valid2.jpg": ("cat", VAL),
    }  # fmt: skip


def test_coco__split_and_group_of_an_image(tmp_path: Path) -> None:
    keys: dict[str, dict[str, Any]] = {
        "1": {"split": "train", "group": 5},
        "2": {"split": "Test", "group": 5},
        "3": {"split": "train"},
    }
    file = annotated(tmp_path / "a.json", {"1.jpg": [7], "2.jpg": [3], "3.jpg": [3]}, more=keys)

    found = load_dataset(file)

    assert found.given.tolist() == [TRAIN, TEST, TRAIN]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, -1]


def test_coco__class_folders_go_before_a_file_of_any_name(tmp_path: Path) -> None:
    make.class_folders(tmp_path, {"cats": 2, "dogs": 2})
    annotated(tmp_path / "annotations.json", {"cats/0000.jpg": [7], "dogs/0000.jpg": [3]})

    assert load_dataset(tmp_path).kind == "a folder per class"


def changed(tmp_path: Path, **keys: Any) -> Path:
    file = annotated(tmp_path / "a.json", {"1.jpg": [7], "2.jpg": [3]})
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **keys}))
    return file


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"images": []}, "names no images"),
        ({"categories": None}, ": {lists}"),
        ({"images": [{"id": 1}]}, ": an image without id or file_name: each needs both"),
        ({"annotations": [{"image_id": 1}]}, ": an annotation without image_id or category_id: each needs both"),
        ({"categories": [{"id": 7}]}, ": a category without id or name: each needs both"),
        ({"categories": [*CATEGORIES, *CATEGORIES]}, ": two categories have the id 7: give each its own"),
        (
            {"annotations": [{"image_id": 9, "category_id": 7}, {"image_id": 100, "category_id": "x"}]},
            "2 problems",
        ),
        (
            {"images": [{"id": 100, "file_name": "1.jpg"}, {"id": 101, "file_name": "1.jpg"}]},
            ": 1.jpg named twice: name each image once",
        ),
        (
            {"images": [{"id": 100, "file_name": "1.jpg", "split": "dev"}, {"id": 101, "file_name": "2.jpg"}]},
            ": 1.jpg: split 'dev', expected train, val, test or nothing",
        ),
    ],
)
def test_coco__what_is_wrong(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    file = changed(tmp_path, **keys)
    whole = {
        "names no images": f"{file} names no images",
        ": {lists}": f"{file} is none of COCO's files: expected lists of images, annotations, categories "
        "(it has info, licenses, images, annotations, categories)",
        "2 problems": f"2 problems:\n  {file}: 1 annotation of unknown images, first id 9\n"
        f"  {file}: 1 annotation of unknown categories, first id 'x'",
    }

    with pytest.raises(Refused) as refusal:
        load_dataset(file)

    assert str(refusal.value) == whole.get(said, f"{file}{said}")


def test_coco__no_json(tmp_path: Path) -> None:
    file = make.write(tmp_path / "a.json", b'{"images": [')

    with pytest.raises(Refused) as refusal:
        load_dataset(file)

    assert str(refusal.value) == (
        f"{file} is no readable JSON (Expecting value: line 1 column 13 (char 12)): fetch or write it again"
    )


def test_coco__images_are_nowhere(tmp_path: Path) -> None:
    file = annotated(tmp_path / "a.json", {"gone1.jpg": [7], "gone2.jpg": [3]})

    with pytest.raises(Refused) as refusal:
        load_dataset(file)

    assert str(refusal.value) == (
        f"{file}: its 2 images (first gone1.jpg) lie in none of the folders that were looked into ({tmp_path}/, "
        f"{tmp_path}/images/, {tmp_path}/a/ and {tmp_path}/images/a/): put them beside the file, or into images/ there"
    )


def test_coco__several_categories_everywhere(tmp_path: Path) -> None:
    file = annotated(tmp_path / "a.json", {"1.jpg": [7, 3], "2.jpg": [3, 7]})

    with pytest.raises(Refused) as refusal:
        load_dataset(file)

    assert str(refusal.value) == (
        f"{file}: all 2 images show several categories, and headway tells one class of an image. "
        "headway convert --crop makes an image of each box"
    )
