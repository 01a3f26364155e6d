"""An image of each box: the pixels in it, as Pillow cuts them out; boxes that cannot be used are set aside."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headway.data.dataset import Dataset
from headway.data.images import BadImage
from headway.data.sources import load_dataset
from headway.errors import Refused
from headway.events import drain
from headway.exchange.conversion import Target, convert, convert_from
from headway.exchange.crops import load_crops
from tests import make

SIZE = (64, 48)


def boxed(file: Path, images: dict[str, list[dict[str, Any]]], **keys: Any) -> Path:
    """Annotations of `images[name]`, a dictionary a box; the image is `make.png(0, its place)` unless it is there."""
    told: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    for number, (name, boxes) in enumerate(images.items()):
        if not (file.parent / name).exists():
            make.write(file.parent / name, make.png(0, number, SIZE))
        told["images"].append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1], **keys})
        told["annotations"] += [{"image_id": number, **box} for box in boxes]
    return make.write(file, json.dumps(told).encode())


def pixels(dataset: Dataset, place: int) -> np.ndarray[Any, Any]:
    content = dataset.source.read(place)
    assert isinstance(content, np.ndarray)
    return content


def test_crops__are_what_lies_in_the_boxes(tmp_path: Path) -> None:
    boxes = [
        {"bbox": [3, 4, 20, 10], "category_id": 1},
        {"bbox": [10.5, 7.25, 5, 6], "category_id": 0},  # every pixel that it touches
        {"bbox": [50, 40, 100, 100], "category_id": 0},  # out of the image: what is in it
        {"bbox": [0, 0, 64, 48], "category_id": 1, "iscrowd": 1},
    ]
    found = load_crops(str(boxed(tmp_path / "a.json", {"x/1.png": boxes, "2.png": boxes[:1]})))

    whole = np.asarray(Image.open(io.BytesIO(make.png(0, 0, SIZE))))
    cuts = [whole[4:14, 3:23], whole[7:14, 10:16], whole[40:48, 50:64]]
    assert [np.array_equal(pixels(found, place), cut) for place, cut in enumerate(cuts)] == [True, True, True]
    assert list(found.names) == ["x/1-box1.png", "x/1-box2.png", "x/1-box3.png", "2-box1.png"]
    assert [found.classes[label] for label in found.labels.tolist()] == ["b", "a", "a", "b"]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 0, 1]
    assert (found.notes, dict(found.ignored)) == (("4 boxes in 2 images",), {"crowds": 1})


def test_crops__boxes_that_cannot_be_used_are_set_aside(tmp_path: Path) -> None:
    good = {"bbox": [0, 0, 9, 9], "category_id": 0}
    make.write(tmp_path / "broken.png", b"no image")
    make.write(tmp_path / "turned.png", make.rotated(6, 0, 5, SIZE))
    make.write(tmp_path / "scaled.png", make.png(0, 0, (32, 24)))
    file = boxed(
        tmp_path / "a.json",
        {
            "1.png": [good, {"bbox": [70, 0, 9, 9], "category_id": 0}, {"bbox": [5, 5, 0, 3], "category_id": 1}],
            "broken.png": [good],
            "scaled.png": [good],
            "turned.png": [{**good, "category_id": 1}],
        },
    )
    found = load_crops(str(file))

    result = drain(convert(found, Target("csv", tmp_path / "out")))

    assert result["set_aside"] == [
        {"name": "1-box2.png", "reason": "its box (70, 0, 9, 9) has no part in the image"},
        {"name": "1-box3.png", "reason": "its box (5, 5, 0, 3) has no part in the image"},
        {"name": "broken-box1.png", "reason": result["set_aside"][2]["reason"]},
        {"name": "scaled-box1.png", "reason": "annotated as 64 x 48 pixels, shown upright it has 32 x 24"},
    ]
    assert len(load_dataset(tmp_path / "out")) == 2
    with pytest.raises(BadImage):
        found.source.read(1)


def test_crops__a_folder_with_subsets(tmp_path: Path) -> None:
    both = [{"bbox": [0, 0, 9, 9], "category_id": 0}, {"bbox": [9, 9, 9, 9], "category_id": 1}]
    for subset in ("train", "valid"):
        boxed(tmp_path / "set" / subset / "_annotations.coco.json", {f"{subset}.png": both})

    drain(convert_from(str(tmp_path / "set"), Target("folders", tmp_path / "out"), crop=True))

    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert names == [
        "train/a/train-box1.png", "train/b/train-box2.png", "val/a/valid-box1.png", "val/b/valid-box2.png",
    ]  # fmt: skip


def test_crops__what_is_refused(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(Refused) as refusal:
            load_crops(str(path))
        return str(refusal.value)

    none, photos = tmp_path / "none.json", make.class_folders(tmp_path / "photos", {"a": 1, "b": 1})
    file = boxed(tmp_path / "a.json", {"1.png": [{"bbox": [1, 2], "category_id": 0}]})
    empty = boxed(tmp_path / "e.json", {"1.png": []})

    assert said(none) == f"{none} does not exist: --crop needs COCO's annotations, a .json file or a folder with one"
    assert said(photos) == f"{photos} has no annotations: --crop needs COCO's, as {photos}/annotations.json"
    assert said(file) == f"{file}: 1.png: the box [1, 2], expected [left, top, width, height]"
    assert said(empty) == f"{empty} has no boxes: --crop makes an image of each"
