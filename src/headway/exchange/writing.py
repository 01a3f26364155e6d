"""What every writer of a data set gets and shares: one image at a time, how the whole is laid out, names of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL
from headway.data.walk import extension
from headway.deployment.outputs import folder_name
from headway.errors import HeadwayError

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_MOST_STEM = 150  # bytes; with an ending and a number a name stays within the 255 of file systems


@dataclass(frozen=True)
class Item:
    """One image that can be read.

    number   its place in the data set
    name     as the data set calls it;  ending  of its file's name, with the dot, as its content is
    content  the bytes of its file;  size  width and height, upright, in pixels
    label    index into the classes, -1 = none;  given  the subset that the data brings;  group  -1 = of its own
    """

    number: int
    name: str
    ending: str
    content: bytes
    size: tuple[int, int]
    label: int
    given: int
    group: int


@dataclass(frozen=True)
class Layout:
    """What the whole data set is like.

    split  whether subsets are told: where some are, an image without one trains
    """

    classes: tuple[str, ...]
    split: bool
    groups: bool

    def subset(self, item: Item) -> int:
        """The subset whose part an image is written into; UNASSIGNED where none is told. Without a label: test."""
        if not self.split:
            return UNASSIGNED
        return {UNASSIGNED: TRAIN, UNLABELLED: TEST}.get(item.given, item.given)


class Writer(Protocol):
    """Writes one kind of data set into a folder that is new and empty. `add` comes in the order of the subsets.

    What it opens it gives to an ExitStack of its caller, so that all is closed however the writing ends.
    """

    def add(self, item: Item) -> None:
        """Write one image, or hold it back a little."""
        ...

    def finish(self) -> None:
        """Write what was held back. Not called where anything failed."""
        ...


def ending_of(name: str, form: str) -> str:
    """The ending that a file of this content gets: its own where it says the same, in small letters."""
    known = _ENDINGS.get(form, (".png",))
    own = extension(name)
    return own if own in known else known[0]


def stem_of(name: str) -> str:
    """The last part of a sample's name, without ending, fit for any file system."""
    last = name.rpartition("/")[2]
    own = extension(last)
    stem = last[: -len(own)] if own and any(own in endings for endings in _ENDINGS.values()) else last
    kept = folder_name(stem)
    return kept.encode()[:_MOST_STEM].decode("utf-8", "ignore")  # a number tells two of one beginning apart


def write_image(folder: Path, item: Item) -> Path:
    """Write the image into `folder`, under its own name where that is free, else with its number behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = stem_of(item.name)
    for name in (stem, f"{stem}-{item.number}", f"{stem}-{item.number}-again"):
        path = folder / (name + item.ending)
        try:
            with path.open("xb") as stream:
                stream.write(item.content)
        except FileExistsError:
            continue
        return path
    raise HeadwayError(f"{item.name}: its names in {folder} are taken")


SUBSET_FOLDERS = {TRAIN: "train", VAL: "val", TEST: "test"}
