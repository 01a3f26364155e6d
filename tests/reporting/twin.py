"""The twin of a run: the same numbers under other names. Its page must have the same tags."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from headway import files

# Mappings whose keys come from the user's data; all other keys are headway's own.
FOREIGN_KEYS = {"counts", "ignored", "formats", "settings", "versions"}

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<!-- ",
    "]]>",
    "--><b>",
    "</title><h1>",
    "&lt;b&gt;&amp;&#x3c;",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "javascript:alert(1)//",
    "x" * 300,
    "حيوان أليف ",
    "\u202egpj.\u2066",
    "👩‍👩‍👧‍👦🐈",
    "猫" * 40,
    "caf\udce9\udcff",
    "a\nb\r\nc\td\x00\x07\x1b[31m",
    "\u2028\ufeff\uffff",
    "=cmd()|'x'!A1, ,;",
    "' OR 1=1 --",
)


def twin(run: Path, folder: Path, change: Callable[[str], str]) -> Path:
    """Copy `run` to `folder` with every text in every file put through `change`."""
    shutil.copytree(run, folder)
    for name in ("evaluation.json", "audit.json", "resolved.json", *(("map.json",) if _mapped(run) else ())):
        value = json.loads((run / name).read_text())
        (folder / name).write_text(json.dumps(_changed(value, change)))
    asked = yaml.safe_load((run / "settings.yaml").read_text())
    (folder / "settings.yaml").write_text(yaml.safe_dump(_changed(asked, change, foreign=True)))
    _change_table(folder / "history.csv", {"taps"}, change)
    _change_table(folder / "predictions.csv", {"name", "label", "predicted"}, change)
    table = pq.read_table(run / "thumbnails.parquet")
    names = [os.fsencode(change(os.fsdecode(name))) for name in table["name"].to_pylist()]
    columns = {"name": pa.array(names, pa.binary()), "jpeg": table["jpeg"]}
    pq.write_table(pa.table(columns), folder / "thumbnails.parquet")
    return folder


def _mapped(run: Path) -> bool:
    return (run / "map.json").is_file()


def _changed(value: Any, change: Callable[[str], str], foreign: bool = False) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return {change(k) if foreign else k: _changed(v, change, k in FOREIGN_KEYS) for k, v in value.items()}
    return value


def _change_table(path: Path, columns: set[str], change: Callable[[str], str]) -> None:
    rows = [dict(row) for row in files.read_csv(path)]
    with path.open(newline="") as stream:
        header = next(csv.reader(stream))
    for row in rows:
        row.update({column: change(row[column]) for column in columns if row[column]})
    files.write_csv(path, header, [[row[column] for column in header] for row in rows])


class _Skeleton(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}",))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment",))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("style", "script"):
            self.text.append(data)


def skeleton(page: str) -> list[tuple[str, ...]]:
    """Tags and the names of their attributes in order, without any text or value."""
    reader = _Skeleton()
    reader.feed(page)
    return reader.tags


def visible(page: str) -> str:
    """The text of the page."""
    reader = _Skeleton()
    reader.feed(page)
    return "".join(reader.text)
