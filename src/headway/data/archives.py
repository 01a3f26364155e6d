"""What lies in a tar archive, and where in it: one walk over its headers. Nothing is extracted, no image is read.

A label beside an image is the member with the same name up to the last dot: 0001.cls, or 0001.json with a key `label`,
`cls` or `class`. It must stand next to it, as every writer of WebDataset shards has it (the stretch of members whose
names are equal up to the first dot). Further images of such a stretch, 0001.mask.png, are counted and left out.

Links, devices, sparse files, and names that are absolute or lead out of the archive are passed over by name. An archive
that is cut, damaged or compressed as a whole is refused.
"""

from __future__ import annotations

import json
import tarfile
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.data import headers
from headway.data.names import Names
from headway.data.storage import Blob, BlobReader
from headway.data.walk import extension, kind_of_name
from headway.data.wording import shown
from headway.errors import Refused

_HEADER = 512
_MOST_HEADER = 1 << 20  # bytes of one long name or table of attributes
_MOST_LABEL = {".cls": 1 << 12, ".json": 1 << 20}  # bytes; a .json has captions and sources too
_KEYS = ("label", "cls", "class")
_STRETCH = 256  # images of one stretch that wait for their label
_TOLD = 5
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_UNPACK = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd"}


@dataclass(frozen=True)
class TarIndex:
    """The images of one archive, in the order in which they stand in it.

    names     N names of members
    offsets   (N,) int64, where the bytes of each begin;  sizes (N,) int64
    folders   (N,) int32, the place in `paths` of the folder that each lies in
    labels    (N,) int32, the place in `texts` of its label, -1 = none beside it
    texts     what labels say, each with the first member that says so
    ignored   what was passed over, kind → count;  aside  the first few of them by name, with the reason
    problems  labels that cannot be read
    ended     whether the mark of an archive's end is there
    """

    names: Names
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    folders: NDArray[np.int32]
    labels: NDArray[np.int32]
    paths: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    ignored: Mapping[str, int]
    aside: tuple[str, ...]
    problems: tuple[str, ...]
    ended: bool

    def __len__(self) -> int:
        return len(self.names)


def index_tar(blob: Blob, block: int) -> TarIndex:
    """Walk the headers of an archive. Raises Refused where it is none, cut or damaged; OSError where it cannot be read.

    block  bytes that are fetched at once: as small as a header where a jump costs nothing, megabytes where it does
    """
    reader = BlobReader(blob, block, _MOST_HEADER)
    _refuse_packed(reader, blob)
    walk = _Walk(blob, reader)
    last = ""
    try:
        # The reader buffers; members are let go one by one, or the archive would keep them all.
        with tarfile.open(fileobj=reader, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            reached = -1
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # public, untyped
                if archive.offset <= reached:
                    raise tarfile.ReadError("runs in a circle")
                reached, last = archive.offset, member.name
                if member.offset_data + member.size > blob.size:
                    raise Refused(f"{blob.name} is cut short, inside {shown(last)}: fetch it again")
                walk.take(member)
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, KeyError) as error:
        raise _damaged(blob, last) from error
    reader.seek(end)
    rest = reader.read(_HEADER)
    if rest.strip(b"\0"):  # tarfile stops without a word at what is no header
        raise _damaged(blob, last)
    return walk.finish(ended=bool(rest))


def _damaged(blob: Blob, last: str) -> Refused:
    if not last:
        return Refused(f"{blob.name} is no tar archive, or damaged at its beginning: fetch it again")
    return Refused(f"{blob.name} is cut or damaged after {shown(last)}: fetch it again")


def _refuse_packed(reader: BlobReader, blob: Blob) -> None:
    start = reader.read(6)
    reader.seek(0)
    if not start:
        raise Refused(f"{blob.name} is empty: fetch it again")
    for magic, method in _PACKED.items():
        if start.startswith(magic):
            raise Refused(
                f"{blob.name} is compressed as a whole ({method}): no image in it can be reached without unpacking all "
                f"that stand before it. Unpack it once ({_UNPACK[method]}); images are compressed already"
            )


class _Walk:
    """The state of one walk. A stretch: members that stand together and are called alike up to the first dot."""

    def __init__(self, blob: Blob, reader: BlobReader) -> None:
        self._blob, self._reader = blob, reader
        self._pool, self._ends = bytearray(), array("q")
        self._offsets, self._sizes = array("q"), array("q")
        self._folders, self._labels = array("i"), array("i")
        self._hashes = array("q")
        self._paths: dict[str, int] = {}
        self._texts: dict[str, tuple[int, str]] = {}
        self._ignored: Counter[str] = Counter()
        self._aside: list[str] = []
        self._problems: list[str] = []
        self._key = ""
        self._images: list[tuple[str, int, int]] = []
        self._beside: dict[tuple[str, str], str] = {}  # (name up to its last dot, extension) → label

    def take(self, member: tarfile.TarInfo) -> None:
        """One member more."""
        name = member.name.removeprefix("./")
        if member.isdir() or not name:
            return
        why = _why_not(member, name)
        if why:
            self._ignored["members of other kinds"] += 1
            if len(self._aside) < _TOLD:
                self._aside.append(f"{shown(member.name)} ({why})")
            return
        folder, _, base = name.rpartition("/")
        if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
            self._ignored["hidden files"] += 1
            return
        key = f"{folder}/{base.partition('.')[0]}"
        if key != self._key or (len(self._images) >= _STRETCH and not self._beside):
            self._flush()
            self._key = key
        suffix = extension(name)
        if suffix in _MOST_LABEL:
            self._label(member, name, suffix)
            return
        kind = kind_of_name(name) or self._kind_by_content(member)
        if kind == "image":
            self._images.append((name, member.offset_data, member.size))
        else:
            self._ignored[kind] += 1

    def _kind_by_content(self, member: tarfile.TarInfo) -> str:
        return "image" if headers.sniff(self._content(member, 16)) is not None else "other files"

    def _content(self, member: tarfile.TarInfo, most: int) -> bytes:
        """The first bytes of a member; tarfile goes back to where it was by itself."""
        self._reader.seek(member.offset_data)
        return self._reader.read(min(member.size, most))

    def _label(self, member: tarfile.TarInfo, name: str, suffix: str) -> None:
        if member.size > _MOST_LABEL[suffix]:
            self._problem(name, f"{member.size:,} bytes, expected a class")
            return
        text = self._content(member, member.size).decode("utf-8", "surrogateescape").strip()
        label: str | None = text
        if suffix == ".json":
            try:
                label = _label_of_json(text)
            except ValueError as error:
                self._problem(name, str(error))
                return
        if label:
            self._beside[name[: -len(suffix)], suffix] = label
        elif suffix == ".json":
            self._ignored["other files"] += 1

    def _problem(self, name: str, what: str) -> None:
        if len(self._problems) < _TOLD:
            self._problems.append(f"{self._blob.name}: {shown(name)}: {what}")

    def _flush(self) -> None:
        """The stretch is over: its images get their labels."""
        labels = {stem: label for (stem, suffix), label in self._beside.items() if suffix == ".json"}
        labels |= {stem: label for (stem, suffix), label in self._beside.items() if suffix == ".cls"}
        found = [(image, labels.get(image[0].rpartition(".")[0] or image[0])) for image in self._images]
        named = [(image, label) for image, label in found if label is not None]
        stems = {image[0].rpartition(".")[0] for image, _ in named}
        if len(stems) < len(named):
            first, second = named[0][0][0], named[1][0][0]
            self._problem(first, f"{shown(second)} has the same label: name each image by a key of its own")
        if named and len(named) < len(found):
            self._ignored["further images of a sample"] += len(found) - len(named)
        self._ignored["labels without an image"] += len(labels.keys() - stems)
        for (name, offset, size), label in named or found:
            self._keep(name, offset, size, label)
        self._images.clear()
        self._beside.clear()

    def _keep(self, name: str, offset: int, size: int, label: str | None) -> None:
        self._pool += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._pool))
        self._offsets.append(offset)
        self._sizes.append(size)
        self._hashes.append(hash(name))
        folder = name.rpartition("/")[0]
        self._folders.append(self._paths.setdefault(folder, len(self._paths)))
        self._labels.append(-1 if label is None else self._texts.setdefault(label, (len(self._texts), name))[0])

    def finish(self, *, ended: bool) -> TarIndex:
        """Everything that was seen."""
        self._flush()
        names = Names(self._pool, np.array(self._ends, np.int64))
        self._refuse_repeated(names)
        return TarIndex(
            names,
            np.array(self._offsets, np.int64),
            np.array(self._sizes, np.int64),
            np.array(self._folders, np.int32),
            np.array(self._labels, np.int32),
            tuple(self._paths),
            tuple((text, first) for text, (_, first) in self._texts.items()),
            {kind: count for kind, count in sorted(self._ignored.items()) if count},
            tuple(self._aside),
            tuple(self._problems),
            ended,
        )

    def _refuse_repeated(self, names: Names) -> None:
        hashes = np.array(self._hashes, np.int64)
        order = np.argsort(hashes, kind="stable")
        for place in np.flatnonzero(np.diff(hashes[order]) == 0).tolist():
            first, second = names[int(order[place])], names[int(order[place + 1])]
            if first == second:
                self._problem(first, "stands in it twice: name each image once")


def _why_not(member: tarfile.TarInfo, name: str) -> str:
    """Why a member is no file to be read; "" where it is one."""
    if member.issym() or member.islnk():
        return "a link"
    if member.ischr() or member.isblk() or member.isfifo():
        return "a device or pipe"
    if member.issparse():
        return "a sparse file"
    if not member.isreg():
        return "of an unknown kind"
    if name.startswith("/"):
        return "an absolute name"
    return "a name that leads out" if ".." in name.split("/") else ""


def _label_of_json(text: str) -> str | None:
    """The label in a .json; None where it tells none. Raises ValueError, whose text says what is wrong."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(told, dict):
        return None
    value = next((told[key] for key in _KEYS if told.get(key) is not None), None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"label {shown(repr(value)[:60])}, expected a name or a whole number")
    return str(value).strip()
