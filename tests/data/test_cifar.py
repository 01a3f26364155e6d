"""CIFAR's archives and folders, python and binary, made here at small size; and the unpickler's limits."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.cifar import load_plain
from headway.data.dataset import TEST, TRAIN, Dataset
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
PLANES = PIXELS.transpose(0, 3, 1, 2).reshape(12, 3072)
LABELS = [2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2]
WORDS = ["owl", "cat", "dog"]  # not sorted


def python2(value: object) -> bytes:
    """As Python 2 wrote it: protocol 2, text as bytes."""
    return pickle.dumps(value, 2)


def python_files(ten: bool) -> dict[str, bytes]:
    label, train = (b"labels", "data_batch_{}") if ten else (b"fine_labels", "train")
    files = {}
    for i, rows in enumerate((slice(0, 5), slice(5, 10))):
        files[train.format(i + 1)] = python2({b"data": PLANES[rows], label: LABELS[rows], b"filenames": [b"x.png"] * 5})
    if not ten:
        files["train"] = python2({b"data": PLANES[:10], label: LABELS[:10], b"coarse_labels": [0] * 10})
    files["test_batch" if ten else "test"] = python2({b"data": PLANES[10:], label: LABELS[10:]})
    key = b"label_names" if ten else b"fine_label_names"
    files["batches.meta" if ten else "meta"] = python2({key: [word.encode() for word in WORDS]})
    return files


def binary_files(ten: bool) -> dict[str, bytes]:
    def records(rows: slice) -> bytes:
        head = b"" if ten else b"\x07"
        return b"".join(head + bytes([LABELS[i]]) + PLANES[i].tobytes() for i in range(12)[rows])

    words = ("\n".join(WORDS) + "\n\n").encode()
    if ten:
        return {
            "data_batch_1.bin": records(slice(0, 5)),
            "data_batch_2.bin": records(slice(5, 10)),
            "test_batch.bin": records(slice(10, 12)),
            "batches.meta.txt": words,
        }
    return {
        "train.bin": records(slice(0, 10)),
        "test.bin": records(slice(10, 12)),
        "fine_label_names.txt": words,
        "coarse_label_names.txt": b"x\n",
    }


KINDS: dict[str, tuple[str, Callable[[], dict[str, bytes]]]] = {
    "CIFAR-10 (python)": ("cifar-10-batches-py", lambda: python_files(True)),
    "CIFAR-100 (python)": ("cifar-100-python", lambda: python_files(False)),
    "CIFAR-10 (binary)": ("cifar-10-batches-bin", lambda: binary_files(True)),
    "CIFAR-100 (binary)": ("cifar-100-binary", lambda: binary_files(False)),
}


def archive(path: Path, folder: str, files: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def check(dataset: Dataset, kind: str) -> None:
    assert (dataset.kind, dataset.classes) == (kind, ("cat", "dog", "owl"))
    assert [dataset.classes[label] for label in dataset.labels] == [WORDS[label] for label in LABELS]
    assert dataset.given.tolist() == [TRAIN] * 10 + [TEST] * 2
    assert all(np.array_equal(dataset.source.read(i), PIXELS[i]) for i in range(12))
    assert len(set(dataset.names)) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_archive(tmp_path: Path, kind: str) -> None:
    folder, files = KINDS[kind]
    dataset = load_dataset(archive(tmp_path / "cifar.tar.gz", folder, files()))
    check(dataset, kind)
    assert dataset.notes[0] == f"{kind}: 12 images of 32 x 32"
    assert os.listdir(tmp_path) == ["cifar.tar.gz"]  # noqa: PTH208


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", [True, False])
def test_folder(tmp_path: Path, kind: str, inside: bool) -> None:
    folder, files = KINDS[kind]
    for name, content in files().items():
        make.write(tmp_path / folder / name, content)
    check(load_dataset(tmp_path / folder if inside else tmp_path), kind)


def test_archive__not_packed(tmp_path: Path) -> None:
    folder, files = KINDS["CIFAR-10 (python)"]
    check(load_dataset(archive(tmp_path / "cifar.tar", folder, files(), "w")), "CIFAR-10 (python)")


def test_missing_batches_are_noted(tmp_path: Path) -> None:
    dataset = load_dataset(archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", python_files(True)))
    assert dataset.notes[1] == "data_batch_3, data_batch_4 and data_batch_5 not there"


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as raised:
        load_dataset(path)
    return str(raised.value)


def test_archive__of_something_else(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", "photos", {"1.jpg": make.jpeg()})
    assert refusal(path) == (
        f"{path} is a compressed archive, but none of CIFAR's (cifar-10-python.tar.gz, cifar-100-python.tar.gz, their "
        "binary versions). Take the compression off once (gunzip): a plain .tar of images is read as it is"
    )


def test_archive__links_and_odd_names_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("cifar-10-batches-py/batches.meta", "../cifar-10-batches-py/data_batch_1"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    assert refusal(path) == (
        f"no images in {path} (ignored: members of other kinds 2, such as cifar-10-batches-py/batches.meta (a link)): "
        "expected archives with members such as 0001.jpg"
    )


def test_archive__cut(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", python_files(True)).read_bytes()
    path = make.write(tmp_path / "b.tar.gz", whole[: len(whole) // 2])
    assert refusal(path) == f"{path} is cut or damaged: fetch it again"


def test_archive__unpacks_to_too_much(tmp_path: Path) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 2 << 30
    path = make.write(tmp_path / "a.tar.gz", gzip.compress(info.tobuf() + bytes(1024)))
    assert refusal(path) == (
        f"{path} unpacks to more than 1 GB: not one of CIFAR's. "
        "Take the compression off once (gunzip): a plain .tar of images is read as it is"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_batch_1": python2([1, 2])}, ": data_batch_1 is no batch of CIFAR: "
         "expected data (n, 3072) and labels (n)"),
        ({"data_batch_1": b"junk"}, ": data_batch_1 is cut or damaged: fetch it again"),
        ({"batches.meta": python2({b"x": 1})}, ": batches.meta has no list label_names: fetch it again"),
        ({"batches.meta": python2({b"label_names": [b"a", b"b"]})}, ": label 2, but batches.meta names 2 classes"),
        (
            {"data_batch_2": python2({b"data": PLANES[:2].astype(np.float32), b"labels": [0, 1]})},
            ": data_batch_2 wants to load an array that is not of bytes: refused. "
            "A CIFAR batch holds plain arrays only",
        ),
    ],
)  # fmt: skip
def test_refused__damaged_batches(tmp_path: Path, changes: dict[str, bytes], message: str) -> None:
    path = archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", {**python_files(True), **changes})
    assert refusal(path) == f"{path}{message}"


def test_refused__damaged_records(tmp_path: Path) -> None:
    files = {**binary_files(True), "data_batch_2.bin": bytes(3074)}
    path = archive(tmp_path / "a.tar.gz", "cifar-10-batches-bin", files)
    assert refusal(path) == f"{path}: data_batch_2.bin: 3,074 bytes, expected a multiple of 3,073: fetch it again"


class _Calls:
    """A pickle that calls something when it is loaded."""

    def __init__(self, call: Any, *arguments: object) -> None:
        self.reduction = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduction


@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (getattr, "builtins.getattr"), (np.load, "numpy.load"),
     (bytearray, "builtins.bytearray"), (complex, "builtins.complex")],
)  # fmt: skip
@pytest.mark.parametrize("protocol", range(6))
def test_load_plain__calls_nothing(tmp_path: Path, call: Any, name: str, protocol: int) -> None:
    trap = tmp_path / "sprung"
    content = pickle.dumps({b"data": _Calls(call, f"touch {trap}")}, protocol, fix_imports=False)
    with pytest.raises(Refused) as raised:
        load_plain(content, "a: train")
    assert str(raised.value) == f"a: train wants to load {name}: refused. A CIFAR batch holds plain arrays only"
    assert not trap.exists()


def test_load_plain__stand_ins_cannot_be_changed() -> None:
    """BUILD sets attributes of what stands on the stack: it must find nothing that lasts."""
    for name in (b"numpy\ndtype\n", b"_codecs\nencode\n", b"numpy.core.multiarray\n_reconstruct\n"):
        with pytest.raises(Refused, match="cut or damaged"):
            load_plain(b"\x80\x02c" + name + b"}X\x05\0\0\0helloK\x01sb.", "a: train")
    assert isinstance(load_plain(python_files(True)["data_batch_1"], "x"), dict)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_load_plain__damage_ends_well(changes: list[tuple[int, int]]) -> None:
    content = bytearray(python2({b"data": PLANES[:1, :2000], b"labels": [1, 2, 3], b"x": [b"y"] * 99}))
    for at, value in changes:
        content[at % len(content)] = value
    said = "x is still a batch"
    try:
        load_plain(bytes(content), "x")
    except Refused as error:
        said = str(error)
    assert said.startswith("x ")
