"""Decide by looking what lies at a path, and read it as a Dataset.

a folder   CIFAR's batches (data.cifar); Parquet with images (data.parquet); class folders, split folders or names
           that start with the class (data.folders); a list beside images that no folder sorts (data.manifests)
a file     Parquet with images, a CSV or Parquet list, a CIFAR archive
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from headway.data import headers
from headway.data.dataset import Dataset
from headway.data.folders import SUBSET_OF, read_folder, tops
from headway.data.images import Found, find_images
from headway.data.walk import count_by_top
from headway.data.wording import shown
from headway.errors import Refused, nearest

_EXPECTED = "expected a folder of images, a CSV or Parquet file, or a CIFAR archive"


def load_dataset(path: str | os.PathLike[str]) -> Dataset:
    """What lies at `path`; no image is opened yet. Raises Refused, which tells everything that is wrong."""
    given = os.fspath(path)
    place = Path(given).expanduser()
    typed = shown(given)
    try:
        mode = place.stat().st_mode
        if stat.S_ISDIR(mode):
            return _read_folder(place, f"{typed.rstrip('/')}/")
        if not stat.S_ISREG(mode):
            raise Refused(f"{typed} is a pipe or device: {_EXPECTED}")
        return _read_file(place, typed)
    except FileNotFoundError as error:
        raise Refused(_missing(given, place)) from error
    except PermissionError as error:
        raise Refused(f"no permission to read {typed}: allow reading it") from error
    except (OSError, ValueError) as error:  # a name too long, a ring of links, a zero byte in the name
        raise Refused(f"{typed} cannot be read ({getattr(error, 'strerror', None) or 'bad name'})") from error


def _read_folder(place: Path, shown_path: str) -> Dataset:
    from headway.data import cifar

    batches = cifar.find_cifar(place)
    if batches is not None:
        return cifar.read_cifar(batches, shown_path)
    if _has_parquet(place):  # only then is pyarrow needed
        from headway.data import parquet

        shards = parquet.find_shards(place)
        if shards:
            return parquet.read_shards(place, shown_path, shards)
    found = find_images(place)
    manifest = None if found.unreadable else _manifest(place)
    if manifest is None:
        _refuse_nothing(shown_path, found)
        return read_folder(place, shown_path, found)
    if _sorted_by_folders(found):
        dataset = read_folder(place, shown_path, found)
        unread = f"{shown(manifest.name)} not read: the folders tell the classes (to use it, give its path)"
        return _with_note(dataset, unread)
    from headway.data import manifests

    return manifests.read_manifest(manifest, shown_path + shown(manifest.name))


def _read_file(place: Path, typed: str) -> Dataset:
    from headway.data import cifar, manifests

    with place.open("rb") as stream:
        start = stream.read(4096)
    if start.startswith(b"PAR1"):
        from headway.data import parquet

        if parquet.holds_images(place):
            return parquet.read_shards(place, typed, [place])
        return manifests.read_manifest(place, typed)
    if not start:
        raise Refused(f"{typed} is empty: {_EXPECTED}")
    kind = headers.sniff(start)
    if kind is not None:
        raise Refused(f"{typed} is one image: {_EXPECTED}")
    if cifar.is_archive(place):
        return cifar.read_cifar(place, typed)
    if start.startswith(b"PK\x03\x04"):
        raise Refused(f"{typed} is a ZIP archive: unpack it and give its folder")
    if b"\0" in start or not (b"," in start or b";" in start or b"\t" in start):
        raise Refused(f"{typed} is none that headway knows: {_EXPECTED}")
    return manifests.read_manifest(place, typed)


def _has_parquet(place: Path) -> bool:
    names = os.listdir(place)  # noqa: PTH208 (names only)
    # The list is whole before it grows: a class of the name "train" would lead here again and again.
    for folder in [place / name for name in names if name.lower() in {"data", "default", *SUBSET_OF}]:
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):  # else the walk tells
            names += os.listdir(folder)  # noqa: PTH208
    return any(name.lower().endswith(".parquet") for name in names)


def _manifest(place: Path) -> Path | None:
    from headway.data import manifests

    return manifests.find_manifest(place)


def _sorted_by_folders(found: Found) -> bool:
    """Two class folders or more, or a train folder."""
    counts = count_by_top(found.paths)
    return len(set(counts) - {""}) > 1 or any(SUBSET_OF.get(name.lower()) == 0 for name in tops(found))


def _with_note(dataset: Dataset, note: str) -> Dataset:
    from dataclasses import replace

    return replace(dataset, notes=(*dataset.notes, note))


def _refuse_nothing(shown_path: str, found: Found) -> None:
    if not found.paths and len(found.folders) == 1 and not found.unreadable:
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in found.ignored.items())
        seen = f" (ignored: {kinds})" if kinds else ""
        raise Refused(f"no images in {shown_path}{seen}: expected a folder per class, as in {shown_path}cats/1.jpg")


def _missing(given: str, place: Path) -> str:
    typed = shown(given)
    if os.path.islink(place):  # noqa: PTH114
        return f"{typed} is a link that leads nowhere: {_EXPECTED}"
    try:
        with os.scandir(place.parent) as entries:
            names = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
    except OSError:
        names = {}
    head = given.rstrip("/").rpartition("/")
    for name in nearest(place.name, names, 1):
        return f"{typed} does not exist. Did you mean {shown(head[0] + head[1] + name)}{'/' if names[name] else ''} ?"
    return f"{typed} does not exist: {_EXPECTED}"
