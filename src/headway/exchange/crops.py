"""An image of each box of COCO's annotations: a data set whose samples are cut out when they are read."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.data.classes import check_classes, class_order, numbered
from headway.data.coco import Annotations, find_annotations, given_of, name_of, open_all
from headway.data.dataset import Dataset
from headway.data.images import BadImage, decode, read_file
from headway.data.names import Names
from headway.data.storage import is_remote
from headway.data.walk import extension
from headway.data.wording import counted, joined, shown
from headway.errors import Refused

_KEPT = 8  # decoded images; the boxes of one image follow each other


class CropSource:
    """Boxes of images below `root`. `read` may be called from several threads.

    names   N names of crops, for messages
    images  the file of each image, relative to `root`;  sizes  (M, 2) int32 as annotated, 0 = not told
    where   (N,) int32, the image of each crop
    boxes   (N, 4) float64: left, top, width, height in pixels of the upright image
    """

    def __init__(
        self,
        root: str,
        names: Sequence[str],
        images: Sequence[str],
        sizes: NDArray[np.int32],
        where: NDArray[np.int32],
        boxes: NDArray[np.float64],
    ) -> None:
        self._root, self._names, self._images, self._sizes = root, names, images, sizes
        self._where, self._boxes = where, boxes
        self._whole = lru_cache(_KEPT)(self._decoded)

    def read(self, index: int) -> NDArray[np.uint8]:
        """The pixels in box `index`, (H, W, 3). Raises BadImage where the image or its box cannot be used."""
        name = self._names[index]
        try:
            image = self._whole(int(self._where[index]))
        except BadImage as error:
            raise BadImage(name, error.reason) from error
        left, top, width, height = self._boxes[index].tolist()
        box = (
            max(0, floor(left)),
            max(0, floor(top)),
            min(image.width, ceil(left + width)),
            min(image.height, ceil(top + height)),
        )
        if not (width > 0 and height > 0 and box[0] < box[2] and box[1] < box[3]):
            raise BadImage(name, f"its box ({left:g}, {top:g}, {width:g}, {height:g}) has no part in the image")
        return np.asarray(image.crop(box), dtype=np.uint8)  # (H, W, 3)

    def _decoded(self, place: int) -> Image.Image:
        name = self._images[place]
        decoded = decode(read_file(name if name.startswith("/") else f"{self._root}/{name}", name), name)
        told = tuple(self._sizes[place].tolist())
        if 0 not in told and told != decoded.size:
            # Boxes of an image that was turned, or scaled, since lie elsewhere.
            size, found = f"{told[0]} x {told[1]}", f"{decoded.size[0]} x {decoded.size[1]}"
            raise BadImage(name, f"annotated as {size} pixels, shown upright it has {found}")
        return decoded.image


def load_crops(path: str) -> Dataset:
    """A sample of each box in the annotations at `path`, a file or a folder. Crops of one image are a group.

    Crowds (`iscrowd`) are left out and counted. Raises Refused.
    """
    place, typed = Path(path).expanduser(), shown(path)
    if is_remote(path) or not place.exists():
        raise Refused(f"{typed} does not exist: --crop needs COCO's annotations, a .json file or a folder with one")
    found = [place] if place.is_file() else find_annotations(place)
    if not found:
        raise Refused(f"{typed} has no annotations: --crop needs COCO's, as {joined(typed, 'annotations.json')}")
    shown_paths = [typed if file == place else joined(typed, os.path.relpath(file, place)) for file in found]
    files, notes = open_all(found, shown_paths)
    return _cropped(files, place, typed, notes)


def _cropped(files: Sequence[Annotations], root: Path, shown_path: str, notes: Sequence[str]) -> Dataset:
    base = files[0].place if len(files) == 1 else os.fspath(root)
    images: list[str] = []
    sizes: list[tuple[int, int]] = []
    names: list[str] = []
    words: list[str] = []
    boxes: list[tuple[float, ...]] = []
    where, given, crowds = array("i"), array("b"), 0
    for file in files:
        places = {image.id: len(images) + i for i, image in enumerate(file.images)}
        subsets = {image.id: given_of(files, file, image) for image in file.images}
        images += [name_of(base, file, image) for image in file.images]
        sizes += [_size(image.size) for image in file.images]
        numbers: dict[int | str, int] = {}
        # The boxes of an image one after the other, however the file has them: it is decoded once.
        for mark in sorted(file.marks, key=lambda mark: places[mark.image]):
            if mark.crowd:
                crowds += 1
                continue
            number = numbers[mark.image] = numbers.get(mark.image, 0) + 1
            name = images[places[mark.image]]
            end = extension(name)
            names.append(f"{name[: -len(end)] if end else name}-box{number}.png")
            words.append(file.categories[mark.category])
            boxes.append(_box(mark.box, f"{file.shown_path}: {shown(name)}"))
            where.append(places[mark.image])
            given.append(subsets[mark.image])
    if not names:
        raise Refused(f"{shown_path} has no boxes: --crop makes an image of each")
    classes = class_order(words)
    labels, subset = numbered(words, classes), np.frombuffer(given, np.int8).copy()
    told = [f"{len(names):,} boxes in {counted(len(images), 'image')}", *notes]
    told += check_classes(shown_path, classes, labels, subset)
    groups = np.frombuffer(where, np.int32).copy()
    compact = Names.of(names)
    source = CropSource(base, compact, images, np.array(sizes, np.int32).reshape(-1, 2), groups, np.array(boxes))
    ignored = {"crowds": crowds} if crowds else {}
    return Dataset(
        root.resolve().name, "boxes of COCO", compact, labels, subset, groups, classes, source, ignored, tuple(told)
    )


def _size(size: tuple[object, object]) -> tuple[int, int]:
    width, height = size
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _box(box: object, where: str) -> tuple[float, ...]:
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)):
        raise Refused(f"{where}: the box {shown(repr(box)[:60])}, expected [left, top, width, height]")
    return tuple(float(side) for side in box)
