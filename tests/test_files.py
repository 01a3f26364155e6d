"""Files: whole or not at all, whatever happens; what is written comes back."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import files

_CELLS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=20)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_write_bytes__replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    files.write_bytes(target, b"new")

    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_write_bytes__failure_leaves_the_old_and_no_rest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # a file cannot replace a folder

    with pytest.raises(OSError, match=r"a"):
        files.write_bytes(tmp_path / "a", b"new")

    assert names(tmp_path) == ["a"]


def test_write_bytes__a_long_name(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250)

    files.write_bytes(target, b"x")

    assert target.read_bytes() == b"x"


def test_write_text__keeps_bytes_that_are_no_text(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", os.fsdecode(b"caf\xe9.jpg"))

    assert (tmp_path / "a.txt").read_bytes() == b"caf\xe9.jpg"


@pytest.mark.slow
def test_write_bytes__killed_at_any_moment_leaves_old_or_new(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    contents = {letter * 2_000_000 for letter in (b"a", b"b")}
    code = (
        "import sys; from pathlib import Path; from headway import files\n"
        "while True:\n"
        "    for letter in (b'a', b'b'): files.write_bytes(Path(sys.argv[1]), letter * 2_000_000)\n"
    )
    for round_ in range(10):
        writer = subprocess.Popen([sys.executable, "-c", code, str(target)])
        deadline = time.monotonic() + 30
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.013 * round_)

        writer.send_signal(signal.SIGKILL)
        writer.wait()

        assert target.read_bytes() in contents
        target.unlink()


def test_json__comes_back(tmp_path: Path) -> None:
    value = {"name": os.fsdecode(b"\xff.jpg"), "share": 0.1, "none": None, "list": [1, 2]}

    files.write_json(tmp_path / "a.json", value)

    assert files.read_json(tmp_path / "a.json") == value


def test_write_json__no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))

    assert names(tmp_path) == []


@given(rows=st.lists(st.tuples(_CELLS, _CELLS), max_size=5))
def test_csv__comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"

    files.write_csv(path, ("x", "y"), rows)

    assert [(row["x"], row["y"]) for row in files.read_csv(path)] == rows


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_csv__no_cell_starts_a_formula(tmp_path: Path, cell: str) -> None:
    files.write_csv(tmp_path / "a.csv", ("x",), [(cell,)])

    with (tmp_path / "a.csv").open(newline="") as stream:
        assert list(csv.reader(stream))[1] == ["'" + cell]


def test_new_folder__appears_whole(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "run") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "run").exists()

    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "a").read_text() == "1"


def test_new_folder__failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("1")

    with pytest.raises(FileNotFoundError), files.new_folder(tmp_path / "run") as folder:
        (folder / "new" / "deeper").write_text("2")

    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["old"]


def test_new_folder__replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").write_text("1")

    with files.new_folder(tmp_path / "run") as folder:
        (folder / "new").write_text("2")

    assert names(tmp_path / "run") == ["new"]


@pytest.mark.parametrize("keep", [True, False])
def test_new_folder__may_keep_what_came_meanwhile(tmp_path: Path, keep: bool) -> None:
    with files.new_folder(tmp_path / "run", keep=lambda: keep) as folder:
        (folder / "new").write_text("2")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "old").write_text("1")

    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == (["old"] if keep else ["new"])


@given(content=st.binary(max_size=100))
def test_digests__are_sha256(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("digest") / "a"
    path.write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()

    assert files.digest_bytes(content) == files.digest_file(path) == expected


def test_digest_json__ignores_the_order_of_keys() -> None:
    assert files.digest_json({"a": 1, "b": 2}) == files.digest_json({"b": 2, "a": 1})
    assert files.digest_json({"a": 1}) != files.digest_json({"a": 2})
