"""Tar shards, as WebDataset lays them out: images in archives, their labels beside them or in the names of folders.

shard-000000.tar        0001.jpg and 0001.cls (a class's name, or its number), or 0001.json with "label"
classes.txt             beside the shards, a name in each line: what the numbers mean (also classnames.txt)
cats/0001.jpg           where no image has a label beside it: the folders in the archives are the classes, and
                        train/cats/0001.jpg tells the subset too
train-000000.tar        subset from the archive's name (train, val, test as a word), else from its folder's
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from headway.data.archives import TarIndex, index_tar
from headway.data.classes import check_classes, class_order
from headway.data.dataset import UNLABELLED, Dataset
from headway.data.folders import SUBSET_OF
from headway.data.members import FarTarSource, Shard, TarSource
from headway.data.names import Joined
from headway.data.shard_labels import kept, labels_beside, labels_by_folder
from headway.data.storage import LocalBlob
from headway.data.wording import counted, listed, shown
from headway.errors import Refused, refuse_all

CLASS_FILES = ("classes.txt", "classnames.txt")
PLACES = ("data", "default", *SUBSET_OF)  # folders that shards may lie in
_WORD = re.compile(r"(?:^|[-_.])(train|validation|valid|val|test)(?=[-_.]|$)", re.IGNORECASE)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LOCAL_BLOCK = 4 << 10
_SIDE_BY_SIDE = 8  # archives on another machine that are walked at once


class NoImages(Refused):
    """Archives without a single image."""


# Finding ----------------------------------------------------------------------------------------------------------


def find_tars(folder: Path) -> list[Path]:
    """The archives in `folder`, its `data` folder or its split folders, sorted.

    Those that are compressed as a whole only where there are no others, so that it is said why they cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            inner = [folder / entry.name for entry in entries if entry.name.lower() in PLACES and entry.is_dir()]
        names = [path for place in [folder, *inner] for path in place.iterdir() if not path.name.startswith(".")]
    except PermissionError:
        return []  # the walk over the images tells which folder cannot be read
    plain = sorted(path for path in names if path.suffix == ".tar" and path.is_file())
    return plain or sorted(path for path in names if path.name.lower().endswith(_PACKED) and path.is_file())


def local_shards(paths: Sequence[Path], shown_paths: Sequence[str]) -> list[Shard]:
    """The archives at `paths`, which messages call `shown_paths`."""
    unique = len({path.name for path in paths}) == len(paths)
    shards = []
    for path, name in zip(paths, shown_paths, strict=True):
        prefix = path.stem if unique else f"{path.parent.name}/{path.stem}"
        shards.append(Shard(LocalBlob.of(path, name), prefix, subset_of(path.stem, path.parent.name)))
    return shards


def subset_of(stem: str, folder: str) -> int | None:
    """The subset that an archive's name tells, else its folder's; None where neither does."""
    words = {SUBSET_OF[word.lower()] for word in _WORD.findall(stem)}
    return words.pop() if len(words) == 1 else SUBSET_OF.get(folder.lower())


def local_words(folders: Iterable[Path]) -> list[str] | None:
    """The names of the classes in the first classes.txt that lies in a folder. Raises Refused where it is damaged."""
    for path in [folder / name for folder in folders for name in CLASS_FILES]:
        if path.is_file():
            return words_of(path.read_bytes(), shown(str(path)))
    return None


def words_of(content: bytes, shown_name: str) -> list[str]:
    """The names in a classes.txt, one in each line; line 1 is class 0. Raises Refused."""
    words = [line.strip() for line in content.decode("utf-8-sig", "surrogateescape").splitlines()]
    while words and not words[-1]:
        words.pop()
    empty = [i for i, word in enumerate(words, 1) if not word]
    refuse_all([f"{shown_name}, line {i}: empty, expected a class's name" for i in empty[:5]])
    repeated = [word for word, count in Counter(words).items() if count > 1]
    if repeated or not words:
        raise Refused(f"{shown_name}: {f'{listed(repeated)} stands in it twice' if repeated else 'names no class'}")
    return words


# Reading ----------------------------------------------------------------------------------------------------------


def read_shards(
    name: str, shown_path: str, shards: Sequence[Shard], words: Sequence[str] | None, far: int | None = None
) -> Dataset:
    """The dataset in the archives `shards`. Raises Refused; NoImages where there is not one.

    words  names of the classes that numbers stand for, or None
    far    bytes to fetch at once where a jump in an archive costs a request; several are then walked side by side
    """
    shards, notes = _with_subsets(shards)
    indices = _index_all(shards, far)
    refuse_all([problem for index in indices for problem in index.problems])
    if not any(len(index) for index in indices):
        raise NoImages(f"no images in {shown_path}{_seen(indices)}: expected archives with members such as 0001.jpg")
    beside = any(index.texts for index in indices)
    parts = labels_beside(shards, indices, words) if beside else labels_by_folder(shards, indices)
    left = [kept(index, part) for index, part in zip(indices, parts, strict=True)]
    classes = class_order(name for part in parts for name in part.used())
    number = {name: i for i, name in enumerate(classes)}
    labels = np.concatenate([part.labels(number) for part in parts])
    given = np.concatenate([part.subsets[part.keep] for part in parts])
    given[labels < 0] = UNLABELLED
    if not (labels >= 0).any():
        raise Refused(
            f"{shown_path} has no labelled images: expected 0001.cls or 0001.json beside 0001.jpg in its archives, or "
            "a folder per class in them, as in cats/0001.jpg"
        )
    where = "labels beside the images" if beside else "labels from the folders in them"
    notes.insert(0, f"{counted(len(shards), 'archive')}, {where}")
    unlabelled = int((labels < 0).sum())
    if unlabelled:
        notes.append(f"{counted(unlabelled, 'image')} without a label: they get predictions")
    ignored = sum((Counter(index.ignored) for index in indices), Counter[str]())
    outside = sum(len(part.keep) - int(part.keep.sum()) for part in parts)
    if outside:
        ignored["images outside class folders"] = outside
        notes.append(f"{counted(outside, 'image')} outside class folders left out")
    notes += [*_odd(shards, indices), *check_classes(shown_path, classes, labels, given)]
    names = Joined([(shard.prefix, index.names) for shard, index in zip(shards, left, strict=True)])
    source = (FarTarSource if far else TarSource)(shards, left, names)
    told = dict(sorted(ignored.items()))
    return Dataset(name, "tar shards", names, labels, given, None, classes, source, told, tuple(notes), in_order=True)


def _with_subsets(shards: Sequence[Shard]) -> tuple[Sequence[Shard], list[str]]:
    """Where the names of some archives tell a subset, those that tell none are left out; and what is said of it."""
    named = [shard for shard in shards if shard.subset is not None]
    if not named or len(named) == len(shards):
        return shards, []
    left = [shard.prefix for shard in shards if shard.subset is None]
    return named, [f"{listed(left)} left out: no split in the name"]


def _index_all(shards: Sequence[Shard], far: int | None) -> list[TarIndex]:
    if far is None:
        return [_index(shard, _LOCAL_BLOCK) for shard in shards]
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="headway-index") as pool:
        return list(pool.map(lambda shard: _index(shard, far), shards))


def _index(shard: Shard, block: int) -> TarIndex:
    try:
        return index_tar(shard.blob, block)
    except PermissionError as error:
        raise Refused(f"no permission to read {shard.blob.name}: allow reading it") from error
    except FileNotFoundError as error:
        raise Refused(f"{shard.blob.name} does not exist any more") from error
    except OSError as error:
        raise Refused(f"{shard.blob.name} cannot be read ({error.strerror or type(error).__name__})") from error


def _seen(indices: Sequence[TarIndex]) -> str:
    """What was there instead of images."""
    counts = Counter[str]()
    for index in indices:
        counts.update(index.ignored)
    first = next((index.aside[0] for index in indices if index.aside), "")
    told = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
    return f" (ignored: {told}{f', such as {first}' if first else ''})" if told else ""


def _odd(shards: Sequence[Shard], indices: Sequence[TarIndex]) -> list[str]:
    aside = [name for index in indices for name in index.aside]
    n = sum(index.ignored.get("members of other kinds", 0) for index in indices)
    notes = []
    if aside:
        more = f" and {n - len(aside[:5]):,} more" if n > len(aside[:5]) else ""
        notes.append(f"passed over: {', '.join(aside[:5])}{more}")
    open_ended = [shard.prefix for shard, index in zip(shards, indices, strict=True) if not index.ended]
    if open_ended:
        notes.append(f"{listed(open_ended)}: without the mark of an archive's end, perhaps cut short")
    return notes
