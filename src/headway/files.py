"""Files that are there whole or not at all: atomic writes, JSON, CSV, digests."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from headway.errors import HeadwayError

# A cell that starts so is run as a formula by spreadsheet programs (OWASP, "CSV injection").
# What a cell must not begin with in a spreadsheet; and the ' that says so.
_MARKED = frozenset("=+-@\t\r＝＋－＠'")  # noqa: RUF001


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`: temporary file beside it, fsync, rename, fsync of the folder.

    A crash at any moment leaves the old file or the new one, never a part.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON (floats finite) to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read the JSON in `path`. Raises OSError, or ValueError where it is not JSON."""
    return json.loads(path.read_bytes())


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with a header, whole or not at all; cells that a spreadsheet would run get a leading '."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(_harmless(row) for row in rows)
    write_text(path, text.getvalue())


def csv_line(cells: Sequence[object]) -> str:
    """One line of CSV with its line end, as `write_csv` writes it: for standard output, row by row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(_harmless(cells))
    return text.getvalue()


def read_csv(path: Path) -> Iterator[Mapping[str, str]]:
    """The rows of a CSV that `write_csv` wrote, the leading ' of neutralised cells taken off again."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        for row in csv.DictReader(stream):
            yield {key: restored(value or "") for key, value in row.items() if key is not None}


def _harmless(cells: Sequence[object]) -> list[object]:
    return ["'" + cell if isinstance(cell, str) and cell[:1] in _MARKED else cell for cell in cells]


def restored(cell: str) -> str:
    """A cell as it was before `write_csv` kept spreadsheets from running it."""
    return cell[1:] if cell.startswith("'") else cell


@contextmanager
def new_folder(path: Path, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """A folder that appears at `path` by rename, whole, when the block ends well; else nothing is left.

    keep  whether the folder that stands at `path` in the end is to stay, and the new one to go; else it is replaced
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        for item in sorted(temporary.rglob("*")):
            if item.is_file():
                sync_file(item)
        temporary.chmod(0o755)
        if path.exists():
            if keep():
                return
            shutil.rmtree(path)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """As `new_folder`, for many files, and never in place of anything. Raises HeadwayError where `path` exists."""
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.sync()  # one flush of everything: tens of thousands of single ones would take minutes
        if os.path.lexists(path):
            raise HeadwayError(f"{path} has come to exist meanwhile, and nothing is overwritten. Choose another name")
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def new_text(path: Path) -> TextIO:
    """A new file, UTF-8, to write to and read again, within a folder that will appear whole (`fresh_folder`)."""
    return path.open("x+", encoding="utf-8", errors="surrogateescape", newline="")


def sync_file(path: Path) -> None:
    """Make sure that the content of `path` is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Make sure that the names in the folder `path` are on the disk (where the system knows how)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_bytes(content: bytes | memoryview) -> str:
    """sha256 of `content`, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of the bytes of the file `path`, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of `value` as JSON with sorted keys: equal values, equal digest."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
