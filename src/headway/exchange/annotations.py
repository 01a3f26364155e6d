"""Write COCO's annotations: annotations/instances_train.json, its images in train/. Each image is one box."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from headway.exchange.writing import SUBSET_FOLDERS, Item, Layout, write_image
from headway.files import new_text


class CocoWriter:
    """One file of annotations a subset. Records wait in two files of their own, so memory does not grow."""

    def __init__(self, out: Path, layout: Layout, opened: ExitStack) -> None:
        self._out, self._layout, self._opened = out, layout, opened
        self._parts: dict[str, tuple[IO[str], IO[str]]] = {}
        self._counts = {"images": 0, "annotations": 0}

    def add(self, item: Item) -> None:
        """Write one image, and its records."""
        word = SUBSET_FOLDERS.get(self._layout.subset(item), "")
        path = write_image(self._out / (word or "images"), item)
        images, annotations = self._part(word)
        width, height = item.size
        number = self._next("images")
        record: dict[str, Any] = {"id": number, "file_name": path.name, "width": width, "height": height}
        if item.group >= 0:
            record["group"] = f"g{item.group}"
        _append(images, record)
        if item.label >= 0:
            box = [0, 0, width, height]
            _append(
                annotations,
                {
                    "id": self._next("annotations"),
                    "image_id": number,
                    "category_id": item.label + 1,  # COCO counts from 1
                    "bbox": box,
                    "area": width * height,
                    "iscrowd": 0,
                },
            )

    def finish(self) -> None:
        """Put each file together: its images, its annotations, the categories."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self._layout.classes, 1)]
        for word, parts in self._parts.items():
            name = f"instances_{word}.json" if word else "instances.json"
            with new_text(self._out / "annotations" / name) as stream:
                stream.write('{"images": [')
                _move(parts[0], stream)
                stream.write('\n],\n"annotations": [')
                _move(parts[1], stream)
                stream.write('\n],\n"categories": ' + json.dumps(categories) + "}\n")

    def _part(self, word: str) -> tuple[IO[str], IO[str]]:
        if word not in self._parts:
            folder = self._out / "annotations"
            folder.mkdir(exist_ok=True)
            images, annotations = (
                self._opened.enter_context(new_text(folder / f"{word or 'all'}.{what}.part"))
                for what in ("images", "annotations")
            )
            self._parts[word] = (images, annotations)
        return self._parts[word]

    def _next(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]


def _append(stream: IO[str], record: dict[str, Any]) -> None:
    stream.write((",\n" if stream.tell() else "\n") + json.dumps(record))


def _move(part: IO[str], whole: IO[str]) -> None:
    part.seek(0)
    shutil.copyfileobj(part, whole)
    part.close()
    Path(part.name).unlink()
