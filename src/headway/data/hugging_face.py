"""Hugging Face `datasets`: hf:FOLDER of `save_to_disk` or of files that the library loads, hf:NAME on the hub, objects.

    image    the column of the feature Image (of several: image, img, ... first)
    label    a column of that name (label, labels, ...), else the only ClassLabel: names, or whole numbers; -1 and
             None = no label
    subset   the split's name, where it is one that headway knows

hf:NAME@CONFIG names a configuration. Images stay encoded, in Arrow's memory map; each row is read when it is asked for.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data.classes import LABEL_NAMES, check_classes, class_order
from headway.data.dataset import TRAIN, UNASSIGNED, UNLABELLED, Dataset
from headway.data.folders import SUBSET_OF
from headway.data.images import BadImage, read_file
from headway.data.names import Joined
from headway.data.wording import counted, listed, shown
from headway.errors import HeadwayError, Refused, nearest

PREFIX = "hf:"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
KIND = "a Hugging Face dataset"


class HuggingFaceSource:
    """Rows of several splits, numbered through. `read` may be called from several threads.

    parts  one `datasets.Dataset` a split, of the one column of images, formatted as Arrow: nothing is decoded
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._names = list(parts)
        self._parts = list(parts.values())
        self._starts = [0, *accumulate(len(part) for part in self._parts)]

    def read(self, index: int) -> bytes:
        """The encoded image in row `index`. Raises BadImage."""
        part = bisect_right(self._starts, index) - 1
        row = index - self._starts[part]
        value = self._parts[part][row].column(0)[0].as_py() or {}
        name = f"{self._names[part]}/{row}"
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if value.get("path"):
            return read_file(value["path"], name)
        raise BadImage(name, "no bytes in its row")


def is_named(given: str) -> bool:
    """Whether it is hf:NAME or hf:FOLDER (hf://... is an address)."""
    return given.startswith(PREFIX) and not given.startswith(f"{PREFIX}//")


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of the library wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def hub_name(data: object) -> str | None:
    """The name on the hub of what hf:NAME stands for; None of all else."""
    given = str(data)
    if not is_named(given) or _folder(given)[0] is not None:
        return None
    return given.removeprefix(PREFIX).partition("@")[0]


def read_named(given: str) -> Dataset:
    """The dataset that hf:FOLDER or hf:NAME[@CONFIG] stands for. Raises Refused."""
    folder, config = _folder(given)
    name = given.removeprefix(PREFIX).partition("@")[0] if folder is None else str(folder)
    if folder is None and not _NAME.fullmatch(name):
        raise Refused(f"{shown(given)}: there is no such folder, and it is no name on the hub (user/name)")
    with _library(shown(given)) as library:
        if folder is not None and is_saved(folder):
            found = library.load_from_disk(str(folder))
        else:
            if folder is None and not library.config.HF_HUB_OFFLINE:
                _knock(name)
            found = library.load_dataset(name, config or None)
    return read_object(found, name=Path(name).resolve().name if folder else name.rpartition("/")[2], typed=shown(given))


def read_object(found: Any, *, name: str = "data", typed: str = "the dataset") -> Dataset:
    """A `datasets.Dataset` or `DatasetDict` as ours. Raises Refused.

    name   what to call it;  typed  what to call it in messages
    """
    with _library(typed) as library:
        if isinstance(found, library.IterableDataset | library.IterableDatasetDict):
            raise Refused(f"{typed} is streamed, and headway reads images in any order: load it without streaming=True")
        if not isinstance(found, library.Dataset | library.DatasetDict):
            raise Refused(
                f"the data is a {type(found).__name__}: expected a path, or a Dataset or DatasetDict of datasets"
            )
    splits = dict(found) if isinstance(found, library.DatasetDict) else {"row": found}
    known = {split: part for split, part in splits.items() if split.lower() in SUBSET_OF}
    left = [split for split in splits if known and split not in known]
    notes = [f"{listed(left)} left out: no split that headway knows"] if left else []
    parts = known or splits
    images = {split: _image_column(library, part, typed, split) for split, part in parts.items()}
    read = {split: _labels(library, part, typed, split) for split, part in parts.items()}
    classes = class_order(word for codes, words, _ in read.values() for word in _used(codes, words))
    number = {word: i for i, word in enumerate(classes)}
    labels = np.concatenate(
        [
            np.array([*(number.get(word, -1) for word in words), -1], np.int32)[codes]
            for codes, words, _ in read.values()
        ]
    )
    subsets = [SUBSET_OF.get(split.lower(), UNASSIGNED) for split in parts]
    given = np.repeat(np.array(subsets, np.int8), [len(part) for part in parts.values()])
    given[labels < 0] = UNLABELLED
    for split, part in parts.items():
        column = read[split][2]
        notes.append(
            f"{shown(split)}: {counted(len(part), 'row')}, images in {images[split]}"
            + (f", labels in {column}" if column else "")
        )
    notes += check_classes(typed, classes, labels, given)
    columns = {split: part.select_columns([images[split]]).with_format("arrow") for split, part in parts.items()}
    rows = Joined([(split, len(part)) for split, part in parts.items()])
    source = HuggingFaceSource(columns)
    return Dataset(name, KIND, rows, labels, given, None, classes, source, {}, tuple(notes), in_order=True)


def keep_object(found: Any, cache: Path) -> str:
    """hf:FOLDER of a `datasets.Dataset` or `DatasetDict`, which is written into the cache the first time.

    A run names its data, so that it can be gone on with and its command typed again; an object has no name. Raises
    Refused as `read_object` does.
    """
    read_object(found)
    parts = found if isinstance(found, Mapping) else {"": found}
    digest = files.digest_json({str(split): part._fingerprint for split, part in parts.items()})
    info = next(iter(parts.values())).info
    place = cache / "given" / digest[:16] / (re.sub(r"[^\w.-]+", "-", info.dataset_name or "") or "data")
    if not is_saved(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _library("the dataset"), TemporaryDirectory(dir=place.parent, prefix=".") as draft:
            found.save_to_disk(str(Path(draft) / "data"))
            with suppress(OSError):  # another process was first
                (Path(draft) / "data").rename(place)
    os.utime(place.parent)  # used today, as `headway cache prune` goes by
    return f"{PREFIX}{place}"


def _folder(given: str) -> tuple[Path | None, str]:
    """The folder that is meant, if one is, and the configuration."""
    rest = given.removeprefix(PREFIX)
    whole = Path(rest).expanduser()
    if whole.is_dir():
        return whole, ""
    place, _, config = rest.rpartition("@") if "@" in rest else (rest, "", "")
    path = Path(place).expanduser()
    return (path if place and path.is_dir() else None), config


def _knock(name: str) -> None:
    """Ask the hub once: the library itself would try for half a minute where there is no network."""
    import huggingface_hub
    from huggingface_hub import constants, errors

    host = constants.ENDPOINT
    try:
        huggingface_hub.dataset_info(name)
    except errors.RepositoryNotFoundError:
        token = "the token has no access" if huggingface_hub.get_token() else "there is no token (hf auth login)"
        raise Refused(f"there is no dataset {name} on {host}, or it is private and {token}.") from None
    except Exception as error:
        raise Refused(
            f"hf:{name} is no folder here, and {host} cannot be reached ({type(error).__name__}). "
            "With HF_HUB_OFFLINE=1 what was fetched before is read."
        ) from error


@contextmanager
def _library(typed: str) -> Iterator[Any]:
    """The module datasets, its bars still, its errors told as ours."""
    try:
        import datasets
    except ImportError:
        raise Refused(f"{typed} is read by datasets, which is not installed: pip install 'headway[hub]'") from None
    still = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield datasets
    except HeadwayError:
        raise
    except Exception as error:  # the library has many, and its loaders' own
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Refused(f"{typed} cannot be read by datasets: {shown(said)[:300]}") from error
    finally:
        if not still:
            datasets.enable_progress_bars()


def _image_column(library: Any, part: Any, typed: str, split: str) -> str:
    from headway.data.parquet import IMAGE_NAMES

    fits = [str(name) for name, feature in part.features.items() if isinstance(feature, library.Image)]
    if not fits:
        told = ", ".join(f"{name} {type(feature).__name__}" for name, feature in part.features.items())
        raise Refused(f"{typed}: {shown(split)} has no column of images (the feature Image): it has {shown(told)}")
    return min(fits, key=lambda name: IMAGE_NAMES.index(name) if name in IMAGE_NAMES else len(IMAGE_NAMES))


def _labels(library: Any, part: Any, typed: str, split: str) -> tuple[NDArray[np.int32], list[str], str | None]:
    """(N,) the code of each row's class, -1 = no label; the class that each code stands for; the column's name."""
    named = [name for name, feature in part.features.items() if isinstance(feature, library.ClassLabel)]
    column = next((name for name in LABEL_NAMES if name in part.features), None)
    column = column or (named[0] if len(named) == 1 else None)
    if column is None:
        if SUBSET_OF.get(split.lower(), TRAIN) == TRAIN:
            near = nearest("label", part.features, 1)
            hint = f" Rename one: dataset.rename_column({near[0]!r}, 'label')" if near else ""
            columns = ", ".join(shown(name) for name in part.features)
            raise Refused(
                f"{typed}: {shown(split)} has no column of labels, expected one of {', '.join(LABEL_NAMES)} "
                f"(it has {columns}).{hint}"
            )
        return np.full(len(part), -1, np.int32), [], None
    values = part.select_columns([column]).with_format("arrow")[:].column(0)
    feature = part.features[column]
    if not (
        isinstance(feature, library.ClassLabel) or getattr(feature, "dtype", "").startswith(("int", "uint", "str"))
    ):
        raise Refused(f"{typed}: the column {column} holds {_kind(feature)}, expected names or whole numbers")
    coded = values.combine_chunks().dictionary_encode() if len(part) else None
    if coded is None:
        return np.zeros(0, np.int32), [], column
    names = feature.names if isinstance(feature, library.ClassLabel) else None
    words = [_word(value, names) for value in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    none = [code for code, word in enumerate(words) if word is None]
    return np.where(np.isin(codes, none), np.int32(-1), codes), [word or "" for word in words], column


def _kind(feature: Any) -> str:
    dtype = getattr(feature, "dtype", None)
    return f"{dtype} values" if dtype else f"a {type(feature).__name__}"


def _word(value: Any, names: Sequence[str] | None) -> str | None:
    if value is None or value in ("", -1):
        return None
    return names[value] if names is not None and isinstance(value, int) else str(value)


def _used(codes: NDArray[np.int32], words: Sequence[str]) -> Iterator[str]:
    """The classes that have a row."""
    return (words[code] for code in np.unique(codes).tolist() if code >= 0)
