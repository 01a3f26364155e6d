"""Write tar shards as WebDataset lays them out: 000000017.jpg and 000000017.cls, and classes.txt beside them."""

from __future__ import annotations

import io
import tarfile
from contextlib import ExitStack
from pathlib import Path

from headway.data.shards import CLASS_FILES
from headway.exchange.writing import SUBSET_FOLDERS, Item, Layout
from headway.files import new_text

_MOST_BYTES = 1 << 30  # of a shard
_MOST_IMAGES = 10_000


class ShardWriter:
    """`train-000000.tar` and so on; a .cls holds the number of the class, line 1 of classes.txt being class 0."""

    def __init__(self, out: Path, layout: Layout, opened: ExitStack) -> None:
        self._out, self._layout, self._opened = out, layout, opened
        self._counts: dict[str, int] = {}
        self._word = ""
        self._archive: tarfile.TarFile | None = None
        self._images = self._bytes = self._key = 0

    def add(self, item: Item) -> None:
        """Write one image and its label behind it."""
        word = SUBSET_FOLDERS.get(self._layout.subset(item), "data")
        full = self._images >= _MOST_IMAGES or self._bytes >= _MOST_BYTES
        if self._archive is None or word != self._word or full:
            self._end()
            number = self._counts[word] = self._counts.get(word, -1) + 1
            self._word = word
            path = self._out / f"{word}-{number:06d}.tar"
            self._archive = self._opened.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT))  # noqa: SIM115
        key = f"{self._key:09d}"
        _put(self._archive, key + item.ending, item.content)
        if item.label >= 0:
            _put(self._archive, f"{key}.cls", str(item.label).encode())
        self._key += 1
        self._images += 1
        self._bytes += len(item.content)

    def finish(self) -> None:
        """End the last shard and write the names of the classes."""
        self._end()
        names = self._opened.enter_context(new_text(self._out / CLASS_FILES[0]))
        names.writelines(f"{name}\n" for name in self._layout.classes)

    def _end(self) -> None:
        if self._archive is not None:
            self._archive.close()
        self._archive, self._images, self._bytes = None, 0, 0


def fits(name: str) -> bool:
    """Whether a class's name can stand in a line of classes.txt."""
    return name.splitlines() == [name] and name.strip() == name


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """The same images make the same archive: no time, no owner."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))
