"""Write a folder per class, below train, val and test where subsets are told; with a table for Hugging Face."""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from headway.data.folders import SUBSET_OF
from headway.deployment.outputs import folder_name
from headway.exchange.writing import SUBSET_FOLDERS, Item, Layout, write_image
from headway.files import new_text


def needs_split(classes: tuple[str, ...], unlabelled: bool) -> bool:
    """Whether the images go below train/ though no subset is told: a class called train or test would be taken for one,
    and images without a label have a place in test/ only.
    """
    return unlabelled or any(name.lower() in SUBSET_OF for name in classes)


class FolderWriter:
    """`train/cats/1.jpg`, or `cats/1.jpg`. Images without a label lie in a folder of test/ that is no class.

    tables  also write metadata.csv (file_name, label) into each subset's folder, as `datasets` reads them
    """

    def __init__(self, out: Path, layout: Layout, opened: ExitStack, tables: bool = False) -> None:
        self._out, self._layout, self._opened, self._tables = out, layout, opened, tables
        self._folders = [folder_name(name) for name in layout.classes]
        self._unlabelled = "unlabelled"
        while self._unlabelled in layout.classes:
            self._unlabelled += "_"
        self._streams: dict[Path, IO[str]] = {}

    def add(self, item: Item) -> None:
        """Write one image."""
        subset = self._layout.subset(item)
        top = self._out / SUBSET_FOLDERS.get(subset, "")
        path = write_image(top / (self._folders[item.label] if item.label >= 0 else self._unlabelled), item)
        if self._tables:
            label = self._layout.classes[item.label] if item.label >= 0 else ""
            csv.writer(self._table(top), lineterminator="\n").writerow([path.relative_to(top).as_posix(), label])

    def finish(self) -> None:
        """Nothing is held back."""

    def _table(self, folder: Path) -> IO[str]:
        if folder not in self._streams:
            stream = self._opened.enter_context(new_text(folder / "metadata.csv"))
            stream.write("file_name,label\n")
            self._streams[folder] = stream
        return self._streams[folder]
