"""Decide by looking what lies at a path, and read it as a Dataset.

a folder   CIFAR's batches (data.cifar); Parquet with images (data.parquet); class folders, split folders or names
           that start with the class (data.folders); a list beside images that no folder sorts (data.manifests),
           or metadata as Hugging Face's imagefolder has it (data.imagefolder);
           tar archives and no images beside them (data.shards); COCO's annotations (data.coco)
a file     Parquet with images, a CSV or Parquet list, a CIFAR archive, a tar archive of images, COCO's annotations
a pattern  shard-{000..009}.tar, train-*.tar, train-*.parquet
s3://...   archives, Parquet or a list on another machine (data.remote)
hf:...     a dataset of Hugging Face's library `datasets`, by folder or name (data.hugging_face)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from headway.data import headers, hugging_face, shards
from headway.data.dataset import Dataset
from headway.data.folders import SUBSET_OF, read_folder, tops
from headway.data.images import Found, find_images
from headway.data.storage import expand_braces, is_remote
from headway.data.walk import count_by_top
from headway.data.wording import absent, counted, joined, shown
from headway.errors import Refused, nearest

_EXPECTED = "expected a folder of images, a CSV or Parquet file, or an archive (.tar, or CIFAR's)"


def load_dataset(path: str | os.PathLike[str]) -> Dataset:
    """What lies at `path`; no image is opened yet. Raises Refused, which tells everything that is wrong."""
    given = os.fspath(path)
    if hugging_face.is_named(given):
        return hugging_face.read_named(given)
    if is_remote(given):
        from headway.data.remote import read_remote

        return read_remote(given)
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
        if any(mark in given for mark in "{*["):
            return _read_pattern(place, typed)
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

        files = parquet.find_shards(place)
        if files:
            return parquet.read_shards(place.resolve().name, shown_path, files)
    if hugging_face.is_saved(place):
        return hugging_face.read_named(f"{hugging_face.PREFIX}{place}")
    found = find_images(place)
    tars = shards.find_tars(place) if "other files" in found.ignored else []
    if len(tars) == 1 and tars[0].suffix != ".tar" and not found.paths:
        return _read_file(tars[0], joined(shown_path, tars[0].name))
    if tars and not found.paths and not found.unreadable:
        return _read_tars(tars, [joined(shown_path, str(path.relative_to(place))) for path in tars], place, shown_path)
    if "other files" in found.ignored and not found.unreadable:
        from headway.data import coco

        annotations = coco.find_annotations(place, alone=not _sorted_by_folders(found))
        if annotations:
            return coco.read_coco(annotations, place, shown_path)
    dataset = _read_images(place, shown_path, found)
    if tars:
        unread = f"{counted(len(tars), 'archive')} beside the images not read (to use it, give its path)"
        return _with_note(dataset, unread)
    return dataset


def _read_images(place: Path, shown_path: str, found: Found) -> Dataset:
    from headway.data import imagefolder

    metadata = [] if found.unreadable else imagefolder.find_metadata(place)
    if metadata and (metadata[0].folder or not _sorted_by_folders(found)):
        return imagefolder.read_metadata(place, shown_path, metadata)
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
            return parquet.read_shards(place.resolve().name, typed, [place])
        return manifests.read_manifest(place, typed)
    if not start:
        raise Refused(f"{typed} is empty: {_EXPECTED}")
    kind = headers.sniff(start)
    if kind is not None:
        raise Refused(f"{typed} is one image: {_EXPECTED}")
    if start[257:262] == b"ustar" or (place.suffix.lower() == ".tar" and not cifar.is_archive(place)):
        try:
            return _read_tars([place], [typed], place, typed)
        except shards.NoImages:
            if not cifar.holds_batches(place):
                raise
    if cifar.is_archive(place):
        return cifar.read_cifar(place, typed)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and place.suffix.lower() == ".json":
        from headway.data import coco

        return coco.read_coco([place], place, typed)
    if start.startswith(b"PK\x03\x04"):
        raise Refused(f"{typed} is a ZIP archive: unpack it and give its folder")
    if b"\0" in start or not (b"," in start or b";" in start or b"\t" in start):
        raise Refused(f"{typed} is none that headway knows: {_EXPECTED}")
    return manifests.read_manifest(place, typed)


def _read_tars(paths: Sequence[Path], shown_paths: Sequence[str], place: Path, shown_path: str) -> Dataset:
    """The archives at `paths`. The names of their classes lie in the folder `place`, or beside them."""
    words = shards.local_words(dict.fromkeys([place, *(path.parent for path in paths)]))
    found = shards.local_shards(paths, shown_paths)
    return shards.read_shards(place.resolve().name, shown_path, found, words)


def _read_pattern(place: Path, typed: str) -> Dataset:
    """The files that a pattern stands for: all of them tar archives, or all of them Parquet."""
    names = expand_braces(os.fspath(place))
    paths = [Path(found) for name in names for found in (sorted(glob(name)) if has_magic(name) else [name])]  # noqa: PTH207
    missing = [path for path in paths if not path.is_file()]
    if not paths or len(missing) == len(paths):
        raise Refused(f"{typed} stands for no file that exists")
    if missing:
        gone = f"{absent(len(missing), len(paths))}, first {shown(str(missing[0]))}"
        raise Refused(f"{typed}: {gone}. Fetch them, or take them out of the pattern")
    folder = paths[0].parent
    if all(path.suffix == ".tar" for path in paths):
        return _read_tars(paths, [shown(str(path)) for path in paths], folder, typed)
    if all(path.suffix == ".parquet" for path in paths):
        from headway.data import parquet

        return parquet.read_shards(folder.resolve().name, typed, paths)
    raise Refused(f"{typed} stands for {counted(len(paths), 'file')}: expected all .tar, or all .parquet")


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
