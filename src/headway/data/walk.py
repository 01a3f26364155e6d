"""Find the image files below a folder, reading names only where names are enough. Standard library only.

What counts as an image: a file whose name ends like one (also HEIC, RAW and the like, so that they are named and set
aside instead of being passed over), and a file with no extension, or one that is none of those known to be something
else, whose first bytes look like an image. Whether it is one, decoding tells: text that is called .jpg is found here
and set aside there. Everything else is counted in `ignored`.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.data import headers

# fmt: off
_IMAGES = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "gif", "bmp", "dib", "tif", "tiff", "webp", "heic",
    "heif", "hif", "avif", "jxl", "jp2", "j2k", "jpx", "ico", "psd", "svg", "tga", "pcx", "ppm", "pgm", "pbm",
    "pnm", "exr", "hdr", "dcm", "qoi", "dds", "cr2", "cr3", "nef", "arw", "dng", "orf", "raf", "rw2",
})
_OTHERS = frozenset({
    "txt", "md", "rst", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "toml", "ini", "cfg", "log",
    "html", "htm", "css", "js", "py", "ipynb", "sh", "bat", "zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar",
    "parquet", "arrow", "feather", "npy", "npz", "mat", "h5", "hdf5", "pkl", "pickle", "pt", "pth", "onnx",
    "safetensors", "db", "sqlite", "lock", "bin", "mp4", "avi", "mov", "mkv", "webm", "mp3", "wav", "pdf",
    "doc", "docx", "xls", "xlsx", "ppt", "pptx", "exe", "dll", "lnk", "url",
})
# fmt: on
_SYSTEM = {"__macosx": "__MACOSX", "thumbs.db": "Thumbs.db", "desktop.ini": "desktop.ini", ".ds_store": ".DS_Store"}
_SYSTEM |= {".ipynb_checkpoints": ".ipynb_checkpoints", "@eadir": "@eaDir", "$recycle.bin": "$RECYCLE.BIN"}


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    paths       names of the image files, relative, with /, sorted; bytes that are not UTF-8 as surrogates
    ignored     what was passed over, kind → count
    folders     every folder that was looked into, relative, sorted, "" the first
    unreadable  folders that could not be opened, relative
    outside     links that lead out of the folder (they are followed)
    """

    paths: list[str]
    ignored: dict[str, int]
    folders: tuple[str, ...] = ("",)
    unreadable: tuple[str, ...] = ()
    outside: int = 0


def find_images(folder: Path) -> Found:
    """Walk `folder`. Links are followed; a folder is entered once, however many links lead to it.

    Real folders go first, links to folders after all of them, each in the order of their names, so that what is found
    under which name does not depend on the file system. Pipes, sockets and devices are counted, never opened.
    """
    walk = _Walk(os.fspath(folder))
    real: list[str] = [""]
    linked: list[str] = []
    while real or linked:
        name = real.pop() if real else linked.pop(0)
        folders, links = walk.enter(name)
        real.extend(reversed(folders))
        linked = sorted(linked + links) if links else linked
    walk.paths.sort()
    ignored = dict(sorted(walk.ignored.items()))
    return Found(walk.paths, ignored, tuple(sorted(walk.folders)), tuple(sorted(walk.unreadable)), walk.outside)


class _Walk:
    """The state of one walk."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.real_root = os.path.realpath(root)
        self.paths: list[str] = []
        self.ignored: Counter[str] = Counter()
        self.folders: list[str] = []
        self.unreadable: list[str] = []
        self.outside = 0
        self._entered: set[tuple[int, int]] = set()

    def enter(self, name: str) -> tuple[list[str], list[str]]:
        """Take the images of the folder `name`; returns the folders in it, and the links to folders."""
        path = f"{self.root}/{name}" if name else self.root
        try:
            status = os.stat(path)  # noqa: PTH116 (names as the system gives them)
            if (status.st_dev, status.st_ino) in self._entered:
                self.ignored["links to folders already read"] += 1
                return [], []
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self.unreadable.append(name)
            return [], []
        self._entered.add((status.st_dev, status.st_ino))
        self.folders.append(name)
        prefix = f"{name}/" if name else ""
        folders: list[str] = []
        links: list[str] = []
        for entry in found:
            kind = self._kind(entry)
            if kind == "image":
                self.paths.append(prefix + entry.name)
            elif kind == "folder":
                (links if entry.is_symlink() else folders).append(prefix + entry.name)
            else:
                self.ignored[kind] += 1
        return folders, links

    def _kind(self, entry: os.DirEntry[str]) -> str:
        name = entry.name
        if name.lower() in _SYSTEM:
            return _SYSTEM[name.lower()]
        if name.startswith("."):
            return "hidden files"
        if entry.is_symlink():
            try:
                mode = entry.stat().st_mode
            except OSError:
                return "dead links"
            self.outside += not f"{os.path.realpath(entry.path)}/".startswith(f"{self.real_root}/")
            return "folder" if stat.S_ISDIR(mode) else _file_kind(entry, mode)
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return _file_kind(entry, stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0)


def _file_kind(entry: os.DirEntry[str], mode: int) -> str:
    if not stat.S_ISREG(mode):
        return "pipes and devices"
    kind = kind_of_name(entry.name)
    return kind or ("image" if _looks_like_image(entry.path) else "other files")


def kind_of_name(name: str) -> str | None:
    """ "image" or "other files", by how the name ends; None where that tells nothing and the first bytes must."""
    if name.rpartition("/")[2].lower() in _SYSTEM:
        return _SYSTEM[name.rpartition("/")[2].lower()]
    suffix = extension(name)[1:]
    return "image" if suffix in _IMAGES else "other files" if suffix in _OTHERS else None


def _looks_like_image(path: str) -> bool:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 (names as the system gives them)
            return headers.sniff(stream.read(16)) is not None
    except OSError:
        return False


def count_by_top(paths: list[str]) -> Mapping[str, int]:
    """How many of `paths` lie below each first part; "" for those in no folder."""
    return Counter(path.partition("/")[0] if "/" in path else "" for path in paths)


def below(paths: list[str], prefix: str) -> list[str]:
    """Those of the sorted `paths` that start with `prefix`, a folder's name with its /; all for ""."""
    if not prefix:
        return paths
    end = prefix[:-1] + chr(ord("/") + 1)
    return paths[bisect_left(paths, prefix) : bisect_left(paths, end)]


def extension(name: str) -> str:
    """The extension of a file name in small letters, with its dot; "" where there is none."""
    stem, dot, end = name.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if dot and stem else ""
