"""Fetch a well-known data set through torchvision, and write it as headway reads it.

What comes from the network lies in a hidden folder beside the new one until that is whole, so a stop loses at most the
file that was on its way. torchvision checks what it fetched and unpacks it. Its classes tell files and labels; pixels
without files become PNG. CIFAR is read by headway's own reader, which runs no pickled code.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import threading
import urllib.error
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.classes import class_order
from headway.data.dataset import SUBSETS, UNASSIGNED, Dataset
from headway.data.folders import FolderSource
from headway.data.names import Joined, Names
from headway.data.wording import shown
from headway.errors import HeadwayError, Refused, Stopped
from headway.events import Event, Line, Note, Progress
from headway.exchange.catalog import Known, find
from headway.exchange.conversion import Target, check_target, convert
from headway.files import read_json

FACTS = "SOURCE.json"  # what was fetched, from where, on which terms; beside the images
_SILENCE = 60.0  # seconds after which a connection that says nothing is given up
_PAUSE = 0.2  # seconds between two looks at how much there is
_ARCHIVES = (".gz", ".tgz", ".zip", ".mat", ".bz2", ".tar")
_UNPACKED = "unpacked"  # a file that says that everything was


@dataclass(frozen=True)
class Asked:
    """What is to be fetched, and where it goes. `kept` holds what comes from the network until all is written."""

    known: Known
    target: Target
    kept: Path
    there: bool


def check(name: str, out: str | None, kind: str) -> Asked:
    """What `headway fetch` was asked for. Raises Refused where there is no such data set, or no place for it."""
    known = find(name)
    typed = known.name if out is None else out
    place = Path(typed)
    there = _facts(place).get("name") == known.name and _facts(place).get("kind") == kind
    if not there:
        check_target(kind, typed)
    try:
        import torchvision.datasets  # noqa: F401
    except ImportError:
        raise Refused("fetch needs torchvision, which is not installed: pip install 'headway[train]'") from None
    kept = place.absolute().parent / f".{place.name}.fetch"
    facts = {
        "name": known.name,
        "kind": kind,
        "title": known.title,
        "page": known.page,
        "licence": known.terms,
        "through": _through(),
    }
    return Asked(known, Target(kind, place, {FACTS: facts}), kept, there)


def _through() -> str:
    from headway.machine import version

    return f"torchvision {version('torchvision')}, torchvision.datasets"


def _facts(place: Path) -> dict[str, Any]:
    try:
        found = read_json(place / FACTS)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def fetch(asked: Asked) -> Generator[Event, None, dict[str, Any]]:
    """Fetch, check and write. Returns what was written.

    Raises Refused where the network gives nothing; Stopped where it gave out half way.
    """
    known = asked.known
    yield Line("source", f"{known.title}: {known.page}\nlicence: {known.terms}")
    facts = {"name": known.name, "licence": known.terms, "page": known.page}
    if asked.there:
        yield Line("there", f"{shown(str(asked.target.out))}/ has it already: nothing to do")
        return {**facts, "path": str(asked.target.out), "kind": asked.target.kind, "fetched": False}
    asked.kept.mkdir(exist_ok=True)
    _clear_half(asked.kept)
    dataset = yield from _download(asked)
    (asked.kept / _UNPACKED).touch()
    if len(dataset) != known.images:
        yield Note(f"{len(dataset):,} images came, {known.images:,} were expected: the set has changed")
    written = yield from convert(dataset, asked.target)
    shutil.rmtree(asked.kept, ignore_errors=True)
    return {**facts, **written, "fetched": True}


def _clear_half(folder: Path) -> None:
    """Keep archives alone: torchvision takes a folder that a stop left half unpacked for a whole one."""
    if not (folder / _UNPACKED).exists():
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()  # only where it is empty
            elif path.suffix not in _ARCHIVES:
                path.unlink()


def _download(asked: Asked) -> Generator[Event, None, Dataset]:
    """Run torchvision in a thread, and tell how much there is meanwhile; its own bars and lines go nowhere."""
    found: list[Dataset] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(read_known(asked.known, asked.kept))
        except BaseException as error:  # told in the thread that asked
            failed.append(error)

    thread = threading.Thread(target=work, name="headway-fetch", daemon=True)
    with _alone():
        thread.start()
        while thread.is_alive():
            thread.join(_PAUSE)
            yield Progress("fetch", min(_megabytes(asked.kept), asked.known.megabytes), 0, unit="MB")
    yield Progress("fetch", 1, 1, unit="MB")
    if failed:
        raise _told(failed[0], asked) from failed[0]
    return found[0]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """torchvision speaks on both streams and waits for ever for a silent server; our own screen holds its streams."""
    import socket

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _megabytes(folder: Path) -> int:
    """What lies in the folder's own files and one level below: archives, not what was unpacked."""
    total = 0
    for pattern in ("*", "*/*", "*/*/*"):
        for path in folder.glob(pattern):
            if path.suffix in _ARCHIVES:
                with contextlib.suppress(OSError):
                    total += path.stat().st_size
    return total // 1_000_000


def _told(error: BaseException, asked: Asked) -> BaseException:
    """What torchvision's error means for whoever asked."""
    name, kept = asked.known.name, shown(str(asked.kept))
    wire = _of_the_wire(error)
    if wire is not None:
        reason = getattr(wire, "reason", None) or wire
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        if any(path.is_file() for path in asked.kept.rglob("*")):
            return Stopped(f"{name}: the connection gave out ({why}). What came is kept in {kept}")
        with contextlib.suppress(OSError):
            for path in sorted(asked.kept.rglob("*"), reverse=True):
                path.rmdir()
            asked.kept.rmdir()
        return Refused(
            f"{name} cannot be fetched: no way to its server ({why}). fetch needs a network; elsewhere, get it from "
            f"{asked.known.page} and bring the folder"
        )
    if isinstance(error, ImportError):
        return Refused(f"{name} needs {error.name}, which is not installed: pip install {error.name}")
    damaged = (RuntimeError, ValueError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
    if isinstance(error, damaged):
        words = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        return HeadwayError(
            f"{name}: what came is not what torchvision expects ({words}). Take {kept} away, fetch again"
        )
    return error


def _of_the_wire(error: BaseException | None) -> BaseException | None:
    """The error of the network behind what torchvision raised, None where there is none.

    Where there are mirrors it swallows the errors and repeats their words.
    """
    seen = error
    while seen is not None:
        if isinstance(seen, urllib.error.URLError | TimeoutError | ConnectionError):
            return seen
        seen = seen.__cause__ or seen.__context__
    text = str(error)
    if isinstance(error, RuntimeError) and "<urlopen error" in text:
        return RuntimeError(text.partition("<urlopen error ")[2].partition(">")[0].rpartition("] ")[2])
    return None


# What torchvision's classes say -----------------------------------------------------------------------------------


class ArraySource:
    """Pixels of several subsets in memory: each (n, H, W) grey or (n, H, W, 3), uint8."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def read(self, index: int) -> bytes:
        """A PNG of the pixels of sample `index`: grey stays grey."""
        from PIL import Image

        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        stream = io.BytesIO()
        Image.fromarray(self._parts[part][index - self._starts[part]]).save(stream, "PNG")
        return stream.getvalue()


def read_known(known: Known, folder: Path) -> Dataset:
    """Fetch into `folder` what is not there yet, and read it. Raises what torchvision raises."""
    from torchvision import datasets

    made = getattr(datasets, known.dataset)
    if known.dataset.startswith("CIFAR"):
        return _cifar(made, folder)
    parts = []
    for subset, options in known.subsets.items():
        parts.append((subset, made(folder, **options, download=True)))
    classes = _classes(parts[0][1])
    order = class_order(classes)
    table = np.array([order.index(name) for name in classes], np.int32)
    labels = [np.asarray(_labels(part), np.int64) for _, part in parts]
    given = [np.full(len(found), _code(subset), np.int8) for (subset, _), found in zip(parts, labels, strict=True)]
    if hasattr(parts[0][1], "data"):
        pixels = [_pixels(part) for _, part in parts]
        source: Any = ArraySource(pixels)
        names: Sequence[str] = Joined(
            [(subset or "all", len(part)) for (subset, _), part in zip(parts, pixels, strict=True)]
        )
    else:
        # As the file system lists them is no order; all of one subset stand together either way.
        files = [[os.path.relpath(path, folder) for path in _files(part)] for _, part in parts]
        orders = [np.argsort(np.array(found), kind="stable") for found in files]
        labels = [found[order_of] for found, order_of in zip(labels, orders, strict=True)]
        names = Names.of(found[i] for found, order_of in zip(files, orders, strict=True) for i in order_of.tolist())
        source = FolderSource(os.fspath(folder), names)
    return Dataset(
        known.name,
        known.title,
        names,
        table[np.concatenate(labels)],
        np.concatenate(given),
        None,
        order,
        source,
    )


def _cifar(made: Any, folder: Path) -> Dataset:
    """torchvision fetches and checks the archive; reading it there would run a pickle."""
    from torchvision.datasets.utils import download_url

    from headway.data.cifar import read_cifar

    download_url(made.url, folder, made.filename, made.tgz_md5)
    return read_cifar(folder / made.filename, made.filename)


def _code(subset: str) -> int:
    return SUBSETS.index(subset) if subset else UNASSIGNED


def _classes(part: Any) -> list[str]:
    """The names of the classes; digits where torchvision has none."""
    found = getattr(part, "classes", None)
    if found is None:
        return [str(number) for number in range(int(np.max(_labels(part))) + 1)]
    return [str(name[0] if isinstance(name, tuple) else name) for name in found]


def _labels(part: Any) -> Any:
    """(n,) the number of each image's class."""
    for name in ("targets", "labels", "_labels"):
        if getattr(part, name, None) is not None:
            return getattr(part, name)
    return [label for _, label in _samples(part)]


def _samples(part: Any) -> Sequence[tuple[str, int]]:
    return part.samples if hasattr(part, "samples") else part._samples  # type: ignore[no-any-return]


def _files(part: Any) -> Sequence[Any]:
    """The file of each image, in the order of the labels."""
    for name in ("_image_files", "_images"):
        if hasattr(part, name):
            return getattr(part, name)  # type: ignore[no-any-return]
    return [path for path, _ in _samples(part)]


def _pixels(part: Any) -> NDArray[np.uint8]:
    """(n, H, W) or (n, H, W, 3) of arrays or tensors; SVHN and STL-10 have their colours first."""
    pixels = np.asarray(part.data, dtype=np.uint8)
    return pixels.transpose(0, 2, 3, 1) if pixels.ndim == 4 and pixels.shape[1] == 3 else pixels
