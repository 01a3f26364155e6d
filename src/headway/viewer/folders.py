"""What lies under the folder of runs: found by one bounded walk that follows no link and opens no file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from headway.errors import HeadwayError

MOST_FOLDERS = 20_000  # looked into
MOST_ITEMS = 500_000  # files and folders that are looked at
MOST_DEPTH = 4  # a comparison's choices stand two deep
# Files that tell what a folder is, and others whose state is looked at.
FILES = (
    *("settings.yaml", "resolved.json", "evaluation.json", "split.csv", "history.csv", "predictions.csv"),
    *("audit.json", "thumbnails.parquet", "report.html", "audit.html", "comparison.yaml", "comparison.json"),
)
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99})*")

# A link is refused and a pipe not waited for, where the system knows how.
_OPENING = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))

Stamp = tuple[int, int, int, bool]  # time of change (ns), bytes, inode, whether it is a plain file


class Unreadable(HeadwayError):
    """A file that cannot be taken as what it should be; the text says why, and begins with its name."""


@dataclass(frozen=True)
class Folder:
    """A folder that the walk came to, with the state of the files that are known by name.

    id    how an address names it: the relative path where that is plain, else ~ and a digest of it
    name  the path relative to the folder of runs; of that folder itself its own name
    kind  "run", "comparison" or "audit" by the files that are in it; "foreign", "link", "closed" are not looked into
    """

    id: str
    name: str
    path: Path
    kind: str
    stamps: Mapping[str, Stamp] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Every folder in the order of names, and whether the walk ended before it had seen all."""

    folders: tuple[Folder, ...]
    cut: bool


def walk(root: Path) -> Found:
    """Look through `root` for runs, comparisons and audits. What cannot be read is a folder of its own kind."""
    folders, items = MOST_FOLDERS, MOST_ITEMS  # left to look at
    found: list[Folder] = []
    waiting: list[tuple[Path, str, int]] = [(root, "", 0)]
    useful: set[str] = set()  # names of folders that hold something of headway further down
    while waiting and folders > 0 and items > 0:
        path, name, depth = waiting.pop()
        folders -= 1
        try:
            stamps, below, links, seen = _look(path, items)
        except OSError:
            found.append(_folder(root, name, "closed", {}))
            continue
        items -= seen
        kind = _kind(stamps)
        if depth or kind != "foreign":
            found.append(_folder(root, name, kind, stamps))
        if kind != "foreign":
            useful.update(_parents(name))
        if kind in ("foreign", "comparison"):
            found += [_folder(root, _joined(name, link), "link", {}) for link in links]
            if depth < MOST_DEPTH:
                waiting += [(path / item, _joined(name, item), depth + 1) for item in below]
    told = [one for one in found if one.kind != "foreign" or ("/" not in one.name and one.name not in useful)]
    return Found(tuple(sorted(told, key=lambda one: one.name)), bool(waiting) or items <= 0)


def _look(path: Path, most: int) -> tuple[dict[str, Stamp], list[str], list[str], int]:
    """State of the known files, names of the folders below, names of links to folders, how many were looked at."""
    stamps: dict[str, Stamp] = {}
    below: list[str] = []
    links: list[str] = []
    seen = 0
    with os.scandir(path) as items:
        for item in islice(items, most):
            seen += 1
            if item.name in FILES:
                with contextlib.suppress(FileNotFoundError):  # gone since
                    stamps[item.name] = stamp(item.stat(follow_symlinks=False))
            elif item.name.startswith("."):
                continue
            elif item.is_dir(follow_symlinks=False):
                below.append(item.name)
            elif item.is_symlink() and _leads_to_folder(item):
                links.append(item.name)
    return stamps, sorted(below, reverse=True), sorted(links), seen


def _leads_to_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a ring
        return True


def stamp(state: os.stat_result) -> Stamp:
    """What changes where a file does."""
    return state.st_mtime_ns, state.st_size, state.st_ino, stat.S_ISREG(state.st_mode)


def _kind(stamps: Mapping[str, Stamp]) -> str:
    if "comparison.yaml" in stamps or "comparison.json" in stamps:
        return "comparison"
    if "settings.yaml" in stamps or "evaluation.json" in stamps:
        return "run"
    return "audit" if "audit.json" in stamps else "foreign"


def _joined(name: str, item: str) -> str:
    return f"{name}/{item}" if name else item


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:n]) for n in range(1, len(parts)))


def _folder(root: Path, name: str, kind: str, stamps: Mapping[str, Stamp]) -> Folder:
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    plain = name if len(name) < 300 and _PLAIN.fullmatch(name) else f"~{digest}"
    return Folder(plain, name or root.resolve().name, root / name if name else root, kind, stamps)


def open_plain(path: Path, most: int) -> tuple[IO[bytes], int]:
    """A plain file of at most `most` bytes, open for reading, and its size; a link is not followed, a pipe not awaited.

    Raises Unreadable where it is anything else, FileNotFoundError where it is not there.
    """
    try:
        handle = os.open(path, _OPENING)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "a link, which is not followed" if error.errno == errno.ELOOP else str(error.strerror).lower()
        raise Unreadable(f"{path.name} cannot be read: {reason}") from error
    state = os.fstat(handle)
    problem = None
    if not stat.S_ISREG(state.st_mode):
        problem = f"{path.name} is not a plain file"
    elif state.st_size > most:
        problem = f"{path.name} has {state.st_size:,} bytes; at most {most:,} are read"
    if problem is not None:
        os.close(handle)
        raise Unreadable(problem)
    return os.fdopen(handle, "rb"), state.st_size


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a plain file. Raises as `open_plain`."""
    stream, _ = open_plain(path, most)
    with stream:
        return stream.read(most)
