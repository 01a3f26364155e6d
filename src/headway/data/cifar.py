"""CIFAR-10 and CIFAR-100 as their authors give them: "python" and "binary", as an archive or a folder.

https://www.cs.toronto.edu/~kriz/cifar.html. The archive's members are looked up by their exact names and read in
memory; nothing is extracted. The python batches are pickles: they pass through an unpickler that calls nothing but
three stand-ins of ours and so can make plain bytes, text, numbers, lists, dictionaries and uint8 arrays, no more.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.classes import check_classes, class_order, numbered
from headway.data.dataset import TEST, TRAIN, Dataset
from headway.data.wording import counted, listed, shown
from headway.errors import Refused

_PIXELS = 3 * 32 * 32
_MOST_BYTES = 256 << 20  # of one member; CIFAR-100's train has 155 MB
_MOST_TOTAL = 1 << 30  # of all that is unpacked on the way


@dataclass(frozen=True)
class _Layout:
    """One of the four: the files it consists of, and the folder that its archive puts them in."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    label: str  # python: the key of the labels; binary: unused
    skip: int = 0  # binary: bytes before the label's

    @property
    def binary(self) -> bool:
        return self.test.endswith(".bin")

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.meta)


_FIVE = tuple(f"data_batch_{i}" for i in range(1, 6))
_LAYOUTS = (
    _Layout("CIFAR-10 (python)", "cifar-10-batches-py", _FIVE, "test_batch", "batches.meta", "labels"),
    _Layout("CIFAR-100 (python)", "cifar-100-python", ("train",), "test", "meta", "fine_labels"),
    _Layout(
        "CIFAR-10 (binary)",
        "cifar-10-batches-bin",
        tuple(f"{name}.bin" for name in _FIVE),
        "test_batch.bin",
        "batches.meta.txt",
        "",
    ),
    _Layout("CIFAR-100 (binary)", "cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", "", 1),
)


@dataclass(frozen=True)
class CifarSource:
    """Batches of pixels in memory, each (n, 3072) uint8: red, green, blue planes of 32 x 32."""

    batches: Sequence[NDArray[np.uint8]]
    starts: NDArray[np.int64]

    def read(self, index: int) -> NDArray[np.uint8]:
        """The pixels of sample `index`, (32, 32, 3)."""
        batch = int(np.searchsorted(self.starts, index, side="right")) - 1
        planes = self.batches[batch][index - self.starts[batch]].reshape(3, 32, 32)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))  # (32, 32, 3)


def find_cifar(folder: Path) -> Path | None:
    """`folder`, or the folder in it, that holds one of the four layouts; None where there is none."""
    for layout in _LAYOUTS:
        for place in (folder, folder / layout.folder):
            if (place / layout.meta).is_file() and any((place / name).is_file() for name in layout.train):
                return place
    return None


def is_archive(path: Path) -> bool:
    """Whether the file is a tar archive, packed or not."""
    with path.open("rb") as stream:
        start = stream.read(512)
    return start[:3] == b"\x1f\x8b\x08" or start[:3] == b"BZh" or start[257:262] == b"ustar"


def holds_batches(path: Path) -> bool:
    """Whether a tar archive has members of the names of CIFAR's."""
    try:
        with tarfile.open(path, "r:") as archive:
            return any(member.isreg() and os.path.normpath(member.name) in _wanted() for member in archive)
    except tarfile.TarError:
        return False


def read_cifar(path: Path, shown_path: str) -> Dataset:
    """The dataset in a CIFAR archive or folder. Raises Refused."""
    files = _files_of_folder(path) if path.is_dir() else _files_of_archive(path, shown_path)
    layout = next((a for a in _LAYOUTS if a.meta in files and any(name in files for name in a.train)), None)
    if layout is None:
        raise Refused(
            f"{shown_path} is a compressed archive, but none of CIFAR's (cifar-10-python.tar.gz, "
            "cifar-100-python.tar.gz, their binary versions). Take the compression off once (gunzip): a plain .tar of "
            "images is read as it is"
        )
    present = [name for name in (*layout.train, layout.test) if name in files]
    read = _binary_batch if layout.binary else _python_batch
    batches = [read(layout, files[name], f"{shown_path}: {name}") for name in present]
    words = _class_names(layout, files[layout.meta], f"{shown_path}: {layout.meta}")
    numbers = np.concatenate([labels for _, labels in batches])
    if numbers.size and (numbers.min() < 0 or numbers.max() >= len(words)):
        raise Refused(f"{shown_path}: label {numbers.max()}, but {layout.meta} names {len(words)} classes")
    texts = [words[number] for number in numbers]
    classes = class_order(texts)
    labels = numbered(texts, classes)
    given = np.concatenate(
        [
            np.full(len(numbers), TEST if name == layout.test else TRAIN, np.int8)
            for name, (_, numbers) in zip(present, batches, strict=True)
        ]
    )
    notes = [f"{layout.name}: {counted(len(labels), 'image')} of 32 x 32"]
    missing = [name for name in (*layout.train, layout.test) if name not in files]
    if missing:
        notes.append(f"{listed(missing)} not there")
    notes += check_classes(shown_path, classes, labels, given)
    names = [f"{name}/{i}" for name, (pixels, _) in zip(present, batches, strict=True) for i in range(len(pixels))]
    starts = np.cumsum([0, *(len(pixels) for pixels, _ in batches[:-1])])
    source = CifarSource([pixels for pixels, _ in batches], starts)
    return Dataset(path.resolve().name, layout.name, names, labels, given, None, classes, source, {}, tuple(notes))


def _files_of_folder(folder: Path) -> dict[str, bytes]:
    wanted = next(a for a in _LAYOUTS if (folder / a.meta).is_file() and any((folder / n).is_file() for n in a.train))
    files = {}
    for name in wanted.files:
        file = folder / name
        if file.is_file() and file.stat().st_size <= _MOST_BYTES:
            files[name] = file.read_bytes()
    return files


def _files_of_archive(path: Path, shown_path: str) -> dict[str, bytes]:
    """The wanted members, by exact name, read in passing."""
    wanted = _wanted()
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.offset_data + member.size > _MOST_TOTAL:
                    raise Refused(
                        f"{shown_path} unpacks to more than {_MOST_TOTAL >> 30} GB: not one of CIFAR's. "
                        "Take the compression off once (gunzip): a plain .tar of images is read as it is"
                    )
                name = wanted.get(os.path.normpath(member.name))
                stream = archive.extractfile(member) if name and member.isreg() else None
                if stream is not None and name is not None and member.size <= _MOST_BYTES:
                    files[name] = stream.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise Refused(f"{shown_path} is cut or damaged: fetch it again") from error
    return files


def _wanted() -> dict[str, str]:
    """Members of the archives → the names of the files that they are."""
    return {f"{layout.folder}/{name}": name for layout in _LAYOUTS for name in layout.files}


def _binary_batch(layout: _Layout, content: bytes, shown_name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = layout.skip + 1 + _PIXELS
    if not content or len(content) % record:
        raise Refused(f"{shown_name}: {len(content):,} bytes, expected a multiple of {record:,}: fetch it again")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, layout.skip + 1 :], rows[:, layout.skip].astype(np.int64)


def _python_batch(layout: _Layout, content: bytes, shown_name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = load_plain(content, shown_name)
    pixels, labels = _item(batch, "data"), _item(batch, layout.label)
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.ndim == 2
        and pixels.shape[1] == _PIXELS
        and isinstance(labels, list)
        and len(labels) == len(pixels)
        and all(type(label) is int for label in labels)
    ):
        raise Refused(f"{shown_name} is no batch of CIFAR: expected data (n, 3072) and {layout.label} (n)")
    return pixels, np.array(labels, np.int64)


def _class_names(layout: _Layout, content: bytes, shown_name: str) -> list[str]:
    if layout.binary:
        lines = content.decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    key = "fine_label_names" if layout.label == "fine_labels" else "label_names"
    names = _item(load_plain(content, shown_name), key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise Refused(f"{shown_name} has no list {key}: fetch it again")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]


def _item(batch: object, key: str) -> object:
    """Python 2 wrote the keys as bytes, Python 3 writes text."""
    return batch.get(key.encode(), batch.get(key)) if isinstance(batch, Mapping) else None


def load_plain(content: bytes, shown_name: str) -> object:
    """Unpickle plain values and uint8 arrays. Raises Refused for everything else, before it is called."""
    try:
        return _plain(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except _Forbidden as error:
        raise Refused(
            f"{shown_name} wants to load {shown(str(error))}: refused. A CIFAR batch holds plain arrays only"
        ) from error
    except Exception as error:  # a damaged pickle raises anything: IndexError, TypeError, OverflowError, ...
        raise Refused(f"{shown_name} is cut or damaged: fetch it again") from error


class _Forbidden(Exception):
    """The text is what the pickle asked for."""


class _Name:
    """Stands for a name in a pickle. No slots: a pickle cannot change it, nor anything through it."""

    __slots__ = ()


class _DtypeName(_Name):
    __slots__ = ()

    def __call__(self, name: object = b"", *_: object) -> _Dtype:
        return _Dtype(name)


class _ArrayMaker(_Name):
    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


class _Encoder(_Name):
    """How Python 3 writes bytes into old pickles: text and the codec's name."""

    __slots__ = ()

    def __call__(self, text: object, codec: object = "latin1") -> bytes:
        if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
            raise _Forbidden("a codec")
        return text.encode("latin1")


class _Dtype:
    __slots__ = ("name",)
    name: object

    def __init__(self, name: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: of no account for single bytes."""


class _Array:
    __slots__ = ("state",)
    state: Any  # whatever the pickle says; checked where the array is made

    def __setstate__(self, state: object) -> None:
        self.state = state


_ADMITTED: Mapping[tuple[str, str], Callable[[], _Name]] = {
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _DtypeName,
    ("numpy.core.multiarray", "_reconstruct"): _ArrayMaker,
    ("numpy._core.multiarray", "_reconstruct"): _ArrayMaker,
    ("_codecs", "encode"): _Encoder,
}


class _Unpickler(pickle.Unpickler):
    """Every name is answered by a stand-in made for this one load."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Forbidden(f"{module}.{name}")
        return _ADMITTED[(module, name)]()

    def persistent_load(self, pid: object) -> Any:
        raise _Forbidden("a reference to outside")


def _plain(value: object) -> object:
    """`value` with its arrays made; only at the first level of a dictionary, where CIFAR has them."""
    if isinstance(value, dict):
        return {key: _array(item) if isinstance(item, _Array) else item for key, item in value.items()}
    return value


def _array(stub: _Array) -> NDArray[np.uint8]:
    _, shape, dtype, fortran, raw = stub.state
    if not isinstance(dtype, _Dtype) or dtype.name not in ("u1", b"u1", "uint8", b"uint8"):
        raise _Forbidden("an array that is not of bytes")
    if not isinstance(raw, bytes) or not all(type(side) is int and side >= 0 for side in shape):
        raise _Forbidden("an array without bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
