"""Write images below images/ and one list of them, labels.csv, which `data.manifests` reads."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from headway.data.dataset import SUBSETS, TEST
from headway.data.manifests import MARK
from headway.deployment.outputs import folder_name
from headway.exchange.writing import Item, Layout, write_image
from headway.files import csv_line, digest_bytes, new_text

NAME = "labels.csv"


class ListWriter:
    """`labels.csv` with path, label and, where the data has them, split and group; the sha256 of each file last."""

    def __init__(self, out: Path, layout: Layout, opened: ExitStack) -> None:
        self._out, self._layout = out, layout
        self._folders = [folder_name(name) for name in layout.classes]
        self._stream = opened.enter_context(new_text(out / NAME))
        more = [*(["split"] if layout.split else []), *(["group"] if layout.groups else [])]
        self._stream.write(csv_line(["path", "label", *more, MARK]))

    def add(self, item: Item) -> None:
        """Write one image, and its line."""
        known = item.label >= 0
        # One folder below images/ would be enough; one a class is easier on whoever looks.
        path = write_image(self._out / "images" / (self._folders[item.label] if known else "unlabelled"), item)
        cells = [path.relative_to(self._out).as_posix(), self._layout.classes[item.label] if known else ""]
        if self._layout.split:
            cells.append(SUBSETS[item.given] if 0 <= item.given <= TEST else "")
        if self._layout.groups:
            cells.append(f"g{item.group}" if item.group >= 0 else "")
        self._stream.write(csv_line([*cells, digest_bytes(item.content)]))

    def finish(self) -> None:
        """Nothing is held back."""
