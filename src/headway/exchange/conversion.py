"""Write a data set anew in another form: every file's bytes as they are, labels and subsets kept, damaged images named.

Images are read and decoded in threads, a few ahead, and written one by one in the order of the subsets: memory does not
grow with the data. Pixels without a file (CIFAR, crops) become PNG. What is written appears whole or not at all, and
never in place of anything.
"""

from __future__ import annotations

import io
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import SUBSETS, TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Dataset
from headway.data.folders import SUBSET_OF
from headway.data.images import BadImage, decode
from headway.data.storage import is_remote
from headway.data.wording import counted, listed, shown
from headway.deployment.outputs import folder_name
from headway.errors import HeadwayError, nearest, refuse_all
from headway.events import Event, Line, Note, Progress
from headway.exchange.annotations import CocoWriter
from headway.exchange.archives import ShardWriter, fits
from headway.exchange.columns import ParquetWriter
from headway.exchange.folders import FolderWriter, needs_split
from headway.exchange.lists import ListWriter
from headway.exchange.writing import Item, Layout, Writer, ending_of
from headway.files import fresh_folder, write_json
from headway.machine import usable_cores

KINDS = ("folders", "csv", "parquet", "webdataset", "imagefolder", "coco")
_KEEP_GROUPS = ("csv", "coco")
_IN_FOLDERS = ("folders", "imagefolder")
_AHEAD = 4  # images a thread
_SHORTEST = 16  # pixels: a JPEG is decoded as small as that, which reads every byte of it all the same
_TOLD = 5  # damaged images that are told one by one


@dataclass(frozen=True)
class Target:
    """What is to be written: the kind, the folder, and beside the images JSON files, name → content."""

    kind: str
    out: Path
    beside: Mapping[str, Any] = field(default_factory=dict)


def check_target(kind: str, typed: str, source: str | None = None) -> None:
    """Raise Refused, with every reason, where nothing can be written to the folder that was `typed`.

    source  what is read, and so is never written to
    """
    name, out, problems = shown(typed), Path(typed), []
    if kind not in KINDS:
        near = nearest(kind, KINDS, 1)
        hint = f". Did you mean {near[0]} ?" if near else ""
        problems.append(f"--to {shown(kind)}: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}{hint}")
    if is_remote(typed):
        problems.append(f"{name} is on another machine: expected a folder here. Copy it there afterwards")
    elif os.path.lexists(out):
        problems.append(f"{name} exists, and nothing is overwritten. Choose another name, or take it away")
    elif not out.absolute().parent.is_dir():
        problems.append(f"there is no folder {shown(str(out.parent))} for {name}. Make it first")
    elif source is not None and not is_remote(source) and Path(source).is_dir() and _within(out, Path(source)):
        problems.append(f"{name} lies in {shown(source)}, which is never written to. Choose another place")
    refuse_all(problems)


def check_dataset(dataset: Dataset, target: Target) -> None:
    """Raise Refused, with every reason, where the kind has no way of saying what the data set says."""
    name, problems = shown(dataset.name), []
    split = bool((dataset.given != UNLABELLED).any() and _brought(dataset).any())
    unlabelled = int((dataset.given == UNLABELLED).sum())
    if target.kind in _IN_FOLDERS and unlabelled and bool((dataset.given == TEST).any()):
        problems.append(
            f"{name} has {counted(unlabelled, 'image')} without a label beside a labelled test set, for which folders "
            "have no place. Choose --to csv, parquet, webdataset or coco"
        )
    if target.kind in ("parquet", "webdataset") and not split and target.out.name.lower() in SUBSET_OF:
        problems.append(
            f"a folder of the name {shown(target.out.name)} says that its images are the "
            f"{SUBSETS[SUBSET_OF[target.out.name.lower()]]} images. Choose another name"
        )
    for label in dataset.classes:
        if target.kind == "csv" and label != label.strip():
            problems.append(f"the class '{shown(label)}' begins or ends with a space, which a list cannot keep")
        if target.kind == "webdataset" and not fits(label):
            problems.append(f"the class '{shown(label)}' cannot stand in a line of classes.txt: rename it")
    refuse_all(problems)


def convert_from(source: str, target: Target, *, crop: bool = False) -> Generator[Event, None, dict[str, Any]]:
    """Read the data set at `source` and write it to `target`. crop: an image of each box of COCO's annotations."""
    from headway.telling import told_dataset

    if crop:
        from headway.exchange.crops import load_crops

        dataset = load_crops(source)
    else:
        from headway.data.sources import load_dataset

        dataset = load_dataset(source)
    yield Line("data", told_dataset(dataset))
    return (yield from convert(dataset, target))


def convert(dataset: Dataset, target: Target) -> Generator[Event, None, dict[str, Any]]:
    """Write `dataset` to `target.out`; returns what was written. `check_target` comes before, to refuse early.

    Raises Refused as `check_dataset`; HeadwayError where no image can be read, or the folder has come to exist.
    """
    check_dataset(dataset, target)
    layout = _layout(dataset, target.kind)
    for text in _notes(dataset, target.kind, layout):
        yield Note(text)
    order = np.lexsort((np.arange(len(dataset)), _parts(dataset, layout)))  # a subset after the other
    aside: list[BadImage] = []
    counts: Counter[str] = Counter()
    n_bytes = 0
    with fresh_folder(target.out.absolute()) as place:
        with ExitStack() as opened:
            writer = _writer(target.kind, place, layout, opened)
            for done, found in enumerate(_read_ahead(dataset, order), 1):
                if isinstance(found, BadImage):
                    aside.append(found)
                else:
                    writer.add(found)
                    counts[SUBSETS[found.given] if found.given != UNASSIGNED else "all"] += 1
                    n_bytes += len(found.content)
                yield Progress("convert", done, len(dataset), len(aside), "images")
            if not counts:
                first = "\n".join(f"  {error}" for error in aside[:_TOLD])
                raise HeadwayError(f"none of {counted(len(dataset), 'image')} can be read. First:\n{first}")
            writer.finish()
        for name, content in target.beside.items():
            write_json(place / name, content)
    yield from _told_aside(aside)
    n = sum(counts.values())
    each = " · ".join(f"{word} {count:,}" for word, count in counts.items() if word != "all")
    yield Line(
        "written",
        f"{shown(str(target.out))}/  {counted(n, 'image')}, {len(dataset.classes):,} classes, "
        f"{n_bytes / 1e6:,.1f} MB{f' ({each})' if each else ''}",
    )
    return {
        "path": str(target.out),
        "kind": target.kind,
        "images": n,
        "classes": len(dataset.classes),
        "subsets": dict(counts),
        "bytes": n_bytes,
        "set_aside": [{"name": error.path, "reason": error.reason} for error in aside],
    }


# What is written how ----------------------------------------------------------------------------------------------


def _brought(dataset: Dataset) -> NDArray[np.bool_]:
    """(N,) whether the data tells the subset of an image."""
    return np.isin(dataset.given, (TRAIN, VAL, TEST))


def _layout(dataset: Dataset, kind: str) -> Layout:
    split = bool(_brought(dataset).any())
    if kind in _IN_FOLDERS:
        split = split or needs_split(dataset.classes, bool((dataset.given == UNLABELLED).any()))
    return Layout(dataset.classes, split, dataset.groups is not None)


def _parts(dataset: Dataset, layout: Layout) -> NDArray[np.int8]:
    """(N,) the place of each image's part in the order of writing: those that go into one file lie together."""
    if not layout.split:
        return np.zeros(len(dataset), np.int8)
    return np.where(dataset.given == UNASSIGNED, TRAIN, np.where(dataset.given == UNLABELLED, TEST, dataset.given))


def _notes(dataset: Dataset, kind: str, layout: Layout) -> Iterator[str]:
    """What the kind cannot say as the data set does."""
    loose = int((dataset.given == UNASSIGNED).sum())
    if layout.split and loose and kind != "csv":
        what = "every image is" if loose == len(dataset) else f"{counted(loose, 'image')} without a subset are"
        yield f"{what} written as train"
    if layout.groups and kind not in _KEEP_GROUPS:
        yield f"groups are not kept by --to {kind}: images of one group may be split (csv and coco keep them)"
    renamed = [name for name in dataset.classes if folder_name(name) != name]
    if kind in _IN_FOLDERS and renamed:
        yield f"{listed(renamed)}: no name of a folder, written as {listed([folder_name(name) for name in renamed])}"


def _writer(kind: str, out: Path, layout: Layout, opened: ExitStack) -> Writer:
    made: Mapping[str, Callable[[], Writer]] = {
        "folders": lambda: FolderWriter(out, layout, opened),
        "imagefolder": lambda: FolderWriter(out, layout, opened, tables=True),
        "csv": lambda: ListWriter(out, layout, opened),
        "parquet": lambda: ParquetWriter(out, layout, opened),
        "webdataset": lambda: ShardWriter(out, layout, opened),
        "coco": lambda: CocoWriter(out, layout, opened),
    }
    return made[kind]()


def _told_aside(aside: Sequence[BadImage]) -> Iterator[Note]:
    for error in aside[:_TOLD]:
        yield Note(f"set aside: {error}")
    if len(aside) > _TOLD:
        yield Note(f"set aside: {len(aside) - _TOLD:,} more (--json names them all)")


def _within(path: Path, folder: Path) -> bool:
    place, root = os.path.realpath(path.absolute().parent), os.path.realpath(folder)
    return place == root or place.startswith(root.rstrip("/") + "/")


# Reading ----------------------------------------------------------------------------------------------------------


def _read_ahead(dataset: Dataset, order: NDArray[np.intp]) -> Iterator[Item | BadImage]:
    """The images in `order`, read and looked through by a few threads, few of them in memory."""
    threads = min(8, usable_cores())
    places = iter(order.tolist())
    waiting: deque[Future[Item | BadImage]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="headway-convert") as pool:
        try:
            for place in islice(places, threads * _AHEAD):
                waiting.append(pool.submit(_item, dataset, place))
            while waiting:
                yield waiting.popleft().result()
                for place in islice(places, 1):
                    waiting.append(pool.submit(_item, dataset, place))
        finally:
            for future in waiting:
                future.cancel()


def _item(dataset: Dataset, place: int) -> Item | BadImage:
    name = dataset.names[place]
    try:
        content = dataset.source.read(place)
        decoded = decode(content, name, shortest=_SHORTEST)
    except BadImage as error:
        return error
    if isinstance(content, np.ndarray):
        stream = io.BytesIO()
        decoded.image.save(stream, "PNG")
        content, form = stream.getvalue(), "PNG"
    else:
        form = decoded.format
    return Item(
        place,
        name,
        ending_of(name, form),
        content,
        decoded.size,
        int(dataset.labels[place]),
        int(dataset.given[place]),
        -1 if dataset.groups is None else int(dataset.groups[place]),
    )
