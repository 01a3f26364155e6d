"""Every bad input of tests/bad_inputs.py, at the level of the reader and the decoder."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.data.images import BadImage, decode
from headway.data.sources import load_dataset
from headway.errors import Refused
from tests import make
from tests.bad_inputs import FILES, FOLDERS, good


@pytest.mark.parametrize("kind", FILES)
def test_decode__bad_files(kind: str) -> None:
    bad = FILES[kind]
    content = bad.content()
    began = time.monotonic()
    if bad.reason is None:
        assert decode(content, bad.name).notes == bad.notes
    else:
        with pytest.raises(BadImage) as raised:
            decode(content, f"a/{bad.name}")
        assert str(raised.value) == f"a/{bad.name}: {bad.reason}"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("kind", FOLDERS)
def test_load_dataset__refused(kind: str, tmp_path: Path) -> None:
    path = FOLDERS[kind].build(tmp_path)
    with pytest.raises(Refused) as raised:
        load_dataset(path)
    assert str(raised.value) == FOLDERS[kind].told(path)
    assert raised.value.exit_code == 2


def test_table__thirty_and_more() -> None:
    assert len(FILES) + len(FOLDERS) >= 60


def as_other_user(act: Callable[[Path], str], prepare: Callable[[Path], Path]) -> str:
    """What `act` says of what `prepare` made, as a user whom file permissions hold back (also where root tests)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = prepare(Path(folder))
        read_end, write_end = os.pipe()
        with warnings.catch_warnings():  # of threads, which this child never touches
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:  # no test machinery may run here: write, and be gone
            try:
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                text = act(path).replace(str(path), "PATH")
            except BaseException as error:
                text = repr(error)
            os.write(write_end, text.encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as stream:
            text = stream.read().decode()
        os.waitpid(child, 0)
        for locked in path.rglob("*") if path.is_dir() else []:
            locked.chmod(0o755)
        path.chmod(0o755)
        return text


def refusal(path: Path) -> str:
    try:
        load_dataset(path)
    except Refused as error:
        return str(error)
    return "not refused"


def test_load_dataset__folders_without_permission() -> None:
    def prepare(root: Path) -> Path:
        photos = good(root / "photos")
        (photos / "cats").chmod(0)
        (photos / "dogs" / "deep").mkdir(mode=0)
        return photos

    assert as_other_user(refusal, prepare) == (
        "2 problems:\n"
        "  no permission to look into PATH/cats: allow reading it\n"
        "  no permission to look into PATH/dogs/deep: allow reading it"
    )


def test_load_dataset__split_folder_without_permission() -> None:
    def prepare(root: Path) -> Path:
        photos = make.split_folders(root / "photos", {"train": {"a": 1, "b": 1}, "val": {"a": 1}}, size=(8, 8))
        (photos / "val").chmod(0)
        return photos

    assert as_other_user(refusal, prepare) == "no permission to look into PATH/val: allow reading it"


def test_load_dataset__itself_without_permission() -> None:
    def folder(root: Path) -> Path:
        photos = good(root / "photos")
        photos.chmod(0)
        return photos

    def file(root: Path) -> Path:
        path = make.write(root / "list.csv", b"path,label\n")
        path.chmod(0)
        return path

    assert as_other_user(refusal, folder) == "no permission to read PATH: allow reading it"
    assert as_other_user(refusal, file) == "no permission to read PATH: allow reading it"


def test_read__file_without_permission() -> None:
    def prepare(root: Path) -> Path:
        photos = good(root / "photos")
        (photos / "cats" / "0002.jpg").chmod(0)
        return photos

    def read_all(path: Path) -> str:
        dataset = load_dataset(path)
        said = []
        for i in range(len(dataset)):
            try:
                dataset.source.read(i)
            except BadImage as error:
                said.append(str(error))
        return "\n".join(said)

    assert as_other_user(read_all, prepare) == "cats/0002.jpg: no permission to read it"
