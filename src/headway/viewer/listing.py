"""The table of runs: a frozen row for each folder, read again only where a file of it changed."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.comparing import seconds_spent
from headway.reporting.text import count, interval, is_number, number
from headway.viewer.folders import Folder, Unreadable, walk
from headway.viewer.soundness import faults, read_mapping, read_object

SCHEMA = 1
PAGES = ("report.html", "audit.html")  # what may be opened
_LONGEST = 300  # letters of a word from a file


@dataclass(frozen=True)
class Row:
    """One folder of the table.

    kind      "run", "comparison", "audit", "evaluation", or "other": nothing of headway in it
    state     what keeps a run from being compared ("unfinished", what is damaged), else empty
    faults    what is damaged though the run can be read
    test, val  accuracies in 0 ... 1, None = unknown
    n         test images;  images  all that were used;  seconds  of the run
    pages     which of `PAGES` may be opened
    """

    id: str
    name: str
    kind: str
    state: str = ""
    faults: tuple[str, ...] = ()
    data: str = ""
    created: str = ""
    strategy: str = ""
    backbone: str = ""
    head: str = ""
    test: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    val: float | None = None
    seconds: float | None = None
    images: int | None = None
    pages: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether it is a finished run that can be read."""
        return self.kind == "run" and not self.state


@dataclass(frozen=True)
class Listing:
    """Every row in the order of names; `paths`: id → folder, all that an address may lead to."""

    rows: tuple[Row, ...]
    paths: Mapping[str, Path]
    cut: bool

    def row(self, id: str) -> Row | None:
        """The row of that id."""
        return next((row for row in self.rows if row.id == id), None)


class Shelf:
    """The folder of runs, looked at anew for every page, its files read again only where they changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, tuple[Folder, Row]] = {}
        self._lock = threading.Lock()

    def listing(self) -> Listing:
        """What is there now. Raises nothing: what cannot be read is told in its row."""
        with self._lock:
            found = walk(self.root)
            known: dict[str, tuple[Folder, Row]] = {}
            for folder in found.folders:
                before = self._known.get(folder.id)
                same = before is not None and before[0] == folder
                known[folder.id] = before if before is not None and same else (folder, read_row(folder))
            self._known = known
        rows = tuple(row for _, row in known.values())
        return Listing(rows, {folder.id: folder.path for folder, _ in known.values()}, found.cut)


def read_row(folder: Folder) -> Row:
    """The row of a folder, whatever its files hold."""
    try:
        return _READERS[folder.kind](folder)
    except Unreadable as error:
        return _plain(folder, "run" if folder.kind == "run" else folder.kind, f"damaged: {error}")
    except FileNotFoundError:
        return _plain(folder, folder.kind, "changed while it was read")
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        name = "evaluation.json" if folder.kind == "run" else f"{folder.kind}.json"
        return _plain(folder, folder.kind, f"damaged: {name} holds something else than expected")


def _plain(folder: Folder, kind: str, state: str) -> Row:
    return Row(folder.id, folder.name, kind, state, pages=_pages(folder))


def _pages(folder: Folder) -> tuple[str, ...]:
    return tuple(name for name in PAGES if name in folder.stamps and folder.stamps[name][3])


def _run(folder: Folder) -> Row:
    if "evaluation.json" not in folder.stamps:
        return _unfinished(folder)
    value = read_object(folder.path / "evaluation.json")
    if "bundle_digest" in value and "result" not in value:
        return _evaluation(folder, value)
    if value.get("schema") != SCHEMA:
        told = word(value.get("schema")) or "none"
        return _plain(folder, "run", f"schema {told}, this headway reads schema {SCHEMA}")
    result, subsets = value["result"], value["subsets"]
    test, val = subsets["test"] or {}, subsets["val"] or {}
    n = result["n"]
    return Row(
        id=folder.id,
        name=folder.name,
        kind="run",
        faults=tuple(faults(folder)),
        data=word(value.get("title")),
        created=word(value.get("created")),
        strategy=word(result.get("strategy") or "probe"),
        backbone=word(result.get("backbone")),
        head=word((value.get("selection") or {}).get("head")),
        test=share(test.get("accuracy")),
        interval=bounds(test.get("interval")),
        n=whole(test.get("n")),
        val=share(val.get("accuracy")),
        seconds=measured(seconds_spent(result.get("seconds") or {}, result.get("training") or {})["total"]),
        images=sum(whole(n.get(key)) or 0 for key in ("train", "val", "test")),
        pages=_pages(folder),
    )


def _unfinished(folder: Folder) -> Row:
    """A run that is at work or was stopped: what it was asked to do, and when, is all there is to tell."""
    asked: Mapping[str, Any] = {}
    state = "unfinished"
    try:
        asked = read_mapping(folder.path / "settings.yaml")
    except Unreadable as error:
        state = f"unfinished; {error}" if folder.stamps["settings.yaml"][1] else state
    return Row(
        id=folder.id,
        name=folder.name,
        kind="run",
        state=state,
        created=_moment(folder.stamps["settings.yaml"][0]),
        data=word(asked.get("data")).rstrip("/").rpartition("/")[2],
        strategy=word(asked.get("strategy")),
        backbone=word(asked.get("backbone")),
        head=word(asked.get("head")),
        pages=_pages(folder),
    )


def _moment(nanoseconds: int) -> str:
    """A time of change as runs write their own."""
    try:
        return datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a clock far off
        return ""


def _evaluation(folder: Folder, value: Mapping[str, Any]) -> Row:
    """What `headway evaluate` left: a bundle judged once more."""
    test = value["test"] or {}
    accuracy, n = share(test.get("accuracy")), whole(test.get("n"))
    told = " ".join(part for part in (number(accuracy), interval(bounds(test.get("interval")))) if part)
    return Row(
        id=folder.id,
        name=folder.name,
        kind="evaluation",
        state=f"{word(value.get('bundle'))} judged on {word(value.get('data'))}: {told} on {count(n)} images",
        pages=_pages(folder),
    )


def _comparison(folder: Folder) -> Row:
    if "comparison.json" not in folder.stamps:
        return _plain(folder, "comparison", "unfinished")
    value = read_object(folder.path / "comparison.json")
    names = [word(choice["name"]) for choice in value["choices"][:20]]
    return Row(
        id=folder.id,
        name=folder.name,
        kind="comparison",
        state=f"{word(value.get('title'))}: {', '.join(names)}",
        created=word(value.get("created")),
        pages=_pages(folder),
    )


def _audit(folder: Folder) -> Row:
    value = read_object(folder.path / "audit.json")
    found = whole(value.get("found"))
    told = "" if found is None else f", {found:,} images"
    return Row(
        id=folder.id,
        name=folder.name,
        kind="audit",
        state=f"{word(value.get('title'))}{told}",
        created=word(value.get("created")),
        pages=_pages(folder),
    )


def _foreign(folder: Folder) -> Row:
    told = {
        "link": "a link, which is not followed",
        "closed": "cannot be read",
        "foreign": "nothing of headway in it",
    }
    return Row(folder.id, folder.name, "other", told[folder.kind])


_READERS = {
    "run": _run,
    "comparison": _comparison,
    "audit": _audit,
    "foreign": _foreign,
    "link": _foreign,
    "closed": _foreign,
}


# What files hold, taken only where it is what it should be -------------------------------------------------------


def word(value: object) -> str:
    """A text, cut where it is long; a number or a truth as text; of anything else nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
    return f"{value:.6g}" if is_number(value) and isinstance(value, int | float) and abs(value) < 1e15 else ""


def share(value: object) -> float | None:
    """A number in 0 ... 1, else None."""
    return float(value) if isinstance(value, int | float) and is_number(value) and 0 <= value <= 1 else None


def bounds(value: object) -> tuple[float, float] | None:
    """An interval of shares, else None."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = share(value[0]), share(value[1])
    return None if low is None or high is None else (low, high)


def whole(value: object) -> int | None:
    """A number of things, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else None


def measured(value: object) -> float | None:
    """Seconds, else None."""
    return float(value) if isinstance(value, int | float) and is_number(value) and 0 <= value < 1e10 else None
