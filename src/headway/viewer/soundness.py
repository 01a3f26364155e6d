"""Whether the files of a run are whole: cheap looks at each of them, so that the table can say which are not."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headway.viewer.folders import Folder, Unreadable, open_plain, read_plain

MB = 1_000_000
# The most that is read of each file. A thousand classes and some million images stay below; YAML is read slowly.
LARGEST = {
    "evaluation.json": 64 * MB,
    "comparison.json": 64 * MB,
    "audit.json": 64 * MB,
    "resolved.json": MB,
    "settings.yaml": MB // 10,
    "history.csv": 16 * MB,
    "predictions.csv": 128 * MB,
    "split.csv": 512 * MB,
    "thumbnails.parquet": 256 * MB,
    "report.html": 64 * MB,
    "audit.html": 64 * MB,
}
_ENDS = 65_536  # bytes looked at from either end of a file that is not read whole


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises Unreadable, or FileNotFoundError where there is no such file."""
    content = read_plain(path, LARGEST[path.name])
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} is not JSON") from error
    if not isinstance(value, dict):
        raise Unreadable(f"{path.name} holds no JSON object")
    return value


def read_mapping(path: Path) -> dict[str, Any]:
    """The YAML mapping in `path`. Raises as `read_object`."""
    import yaml

    content = read_plain(path, LARGEST[path.name])
    value: Any = None
    # The quick loader does not know names that are no UTF-8; the plain one does.
    for loader in (getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader):
        try:
            value = yaml.load(content, Loader=loader)
            break
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            if loader is yaml.SafeLoader:
                raise Unreadable(f"{path.name} is not YAML") from error
    if not isinstance(value, dict):
        raise Unreadable(f"{path.name} holds no settings")
    return value


def faults(folder: Folder) -> Iterator[str]:
    """What is wrong with the files of a run, a few words each, evaluation.json left to whoever reads it."""
    for name, check in _CHECKS.items():
        if name not in folder.stamps:
            continue
        try:
            check(folder.path / name)
        except FileNotFoundError:  # gone since the walk
            continue
        except Unreadable as error:
            yield str(error)


def _check_table(columns: set[str]) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        head, tail = _ends(path)
        try:
            row = next(csv.reader(io.StringIO(head.decode("utf-8", "replace").partition("\n")[0])), [])
        except csv.Error:
            row = []
        if not columns <= set(row):
            raise Unreadable(f"{path.name} lacks its first line")
        if not tail.endswith(b"\n"):
            raise Unreadable(f"{path.name} is not whole")

    return check


def _check_parquet(path: Path) -> None:
    head, tail = _ends(path)
    if not (head.startswith(b"PAR1") and tail.endswith(b"PAR1") and len(head) > 8):
        raise Unreadable(f"{path.name} is not whole")


def _check_page(path: Path) -> None:
    head, tail = _ends(path)
    if head.lstrip()[:15].lower() != b"<!doctype html>" or b"</html>" not in tail[-64:]:
        raise Unreadable(f"{path.name} is not whole")


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The first and the last bytes of a plain file; of a small one all of it, twice."""
    stream, size = open_plain(path, LARGEST[path.name])
    with stream:
        head = stream.read(_ENDS)
        if size <= _ENDS:
            return head, head
        stream.seek(-_ENDS, os.SEEK_END)
        return head, stream.read(_ENDS)


# In the order in which they are told. evaluation.json is left to whoever reads it.
_CHECKS: dict[str, Callable[[Path], object]] = {
    "settings.yaml": read_mapping,
    "resolved.json": read_object,
    "audit.json": read_object,
    "history.csv": _check_table({"kind", "step", "val_loss", "val_accuracy"}),
    "predictions.csv": _check_table({"name", "subset", "label", "predicted"}),
    "split.csv": _check_table({"name", "subset", "digest"}),
    "thumbnails.parquet": _check_parquet,
    "report.html": _check_page,
}
