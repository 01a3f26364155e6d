"""The pages: a query and what is in the folder of runs → HTML. Nothing is read here, and nothing is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any
from urllib.parse import quote, urlencode

from headway.reporting.page import environment
from headway.reporting.page import template as report_template
from headway.reporting.text import NOTHING, count, interval, number, seconds, shown
from headway.viewer.comparison import MOST_RUNS, Beside
from headway.viewer.listing import Listing, Row

MOST_ROWS = 2000  # of the table; the filter finds the others
MOST_OTHERS = 200
_DIGITS = re.compile(r"(\d{1,18})")


@dataclass(frozen=True)
class Column:
    """One column of the table: what it is sorted by, where the largest or newest stands first at first click."""

    key: str
    name: str
    number: bool
    falling: bool
    of: Callable[[Row], Any]


COLUMNS = (
    Column("name", "run", False, False, lambda row: row.name),
    Column("data", "data", False, False, lambda row: row.data or None),
    Column("when", "when", False, True, lambda row: row.created or None),
    Column("road", "road", False, False, lambda row: row.strategy or None),
    Column("backbone", "backbone", False, False, lambda row: row.backbone or None),
    Column("head", "head", False, False, lambda row: row.head or None),
    Column("test", "test accuracy", True, True, lambda row: row.test),
    Column("n", "test images", True, True, lambda row: row.n),
    Column("val", "validation", True, True, lambda row: row.val),
    Column("time", "time", True, False, lambda row: row.seconds),
    Column("images", "images", True, True, lambda row: row.images),
)
_BY_KEY = {column.key: column for column in COLUMNS}


@dataclass(frozen=True)
class Wanted:
    """What a query asks for: the column, whether the largest stands first, and what a row must hold."""

    sort: str = "when"
    falling: bool = True
    filter: str = ""


def wanted(query: Mapping[str, str]) -> Wanted:
    """The query as far as it can be understood; the rest is as if it were not there."""
    column = _BY_KEY.get(query.get("sort", ""), _BY_KEY["when"])
    order = query.get("order")
    return Wanted(
        column.key, column.falling if order not in ("up", "down") else order == "down", query.get("filter", "")[:200]
    )


@dataclass(frozen=True)
class Head:
    """The head of a column: where it leads, and how it is sorted now ("ascending", "descending" or empty)."""

    key: str
    name: str
    number: bool
    address: str
    sorted: str


@dataclass(frozen=True)
class Line:
    """One row as it is printed.

    ranks  of each column the row's place in ascending order, empty where it is not known
    brief  what a narrow page shows of columns that it leaves out;  text  what the filter looks into
    """

    row: Row
    report: str
    cells: Mapping[str, str]
    bounds: str
    ranks: Mapping[str, str]
    brief: str
    text: str


class Pages:
    """The pages as text, their templates read once."""

    def __init__(self) -> None:
        import jinja2

        self._environment: jinja2.Environment = environment()
        self._environment.loader = jinja2.FunctionLoader(_template)

    def table(self, listing: Listing, asked: Wanted, place: str) -> str:
        """The table of runs. place: the folder, as it is named to the reader."""
        return self._render("table.html", **_table(listing, asked, place))

    def comparison(self, found: Beside) -> str:
        """Runs beside each other."""
        return self._render("compare.html", c=found, names=[side.name for side in found.sides])

    def note(self, title: str, told: Sequence[str]) -> str:
        """A page that only says something: what is missing, what to do."""
        return self._render("note.html", title=title, told=told)

    def _render(self, name: str, **values: Any) -> str:
        return self._environment.get_template(name).render(**values)


def _table(listing: Listing, asked: Wanted, place: str) -> dict[str, Any]:
    """What table.html prints."""
    runs = [row for row in listing.rows if row.kind == "run"]
    others = [row for row in listing.rows if row.kind != "run"]
    ranks = {column.key: _ranks(runs, column) for column in COLUMNS}
    needle = asked.filter.strip().casefold()
    texts = {row.id: _text(row) for row in runs}
    kept = [row for row in runs if needle in texts[row.id]]
    order = ranks[asked.sort]
    known = sorted((row for row in kept if row.id in order), key=lambda row: order[row.id], reverse=asked.falling)
    kept = known + [row for row in kept if row.id not in order]
    lines = [_line(row, ranks, texts[row.id]) for row in kept[:MOST_ROWS]]
    return {
        "place": place,
        "lines": lines,
        "heads": [_head(column, asked) for column in COLUMNS],
        "asked": asked,
        "n_runs": len(runs),
        "n_kept": len(kept),
        "n_left": max(0, len(kept) - MOST_ROWS),
        "others": [_other(row) for row in others[:MOST_OTHERS]],
        "n_others_left": max(0, len(others) - MOST_OTHERS),
        "cut": listing.cut,
        "most": MOST_RUNS,
    }


def _other(row: Row) -> tuple[Row, str, str]:
    """A folder below the table: its row, where its page is, its day."""
    return row, address(row, row.pages[0]) if row.pages else "", _moment(row.created)


def _ranks(rows: Sequence[Row], column: Column) -> dict[str, int]:
    """id → place in ascending order, the same for equal values; rows without a value are not in it."""
    values = {row.id: _key(column.of(row)) for row in rows if column.of(row) is not None}
    places = {value: place for place, value in enumerate(sorted(set(values.values())))}
    return {id: places[value] for id, value in values.items()}


def _key(value: Any) -> tuple[Any, ...]:
    """Numbers as they are; text without case, its numbers by size: run-2 before run-10."""
    if not isinstance(value, str):
        return (value,)
    parts = _DIGITS.split(value.casefold())
    return tuple((1, int(part), "") if place % 2 else (0, 0, part) for place, part in enumerate(parts)), value


def _text(row: Row) -> str:
    """What the filter looks into."""
    words = (row.name, row.data, row.created[:10], row.strategy, row.backbone, row.head, row.state, *row.faults)
    return " ".join(shown(word) for word in words if word).casefold()


def _line(row: Row, ranks: Mapping[str, Mapping[str, int]], text: str) -> Line:
    cells = {
        "data": row.data or NOTHING,
        "when": _moment(row.created),
        "road": row.strategy or NOTHING,
        "backbone": row.backbone or NOTHING,
        "head": row.head or NOTHING,
        "test": number(row.test),
        "n": count(row.n),
        "val": number(row.val),
        "time": seconds(row.seconds),
        "images": count(row.images),
    }
    own = {key: str(of[row.id]) if row.id in of else "" for key, of in ranks.items()}
    report = address(row, "report.html") if "report.html" in row.pages else ""
    brief = " · ".join(cells[key] for key in ("road", "backbone", "when") if cells[key] != NOTHING)
    return Line(row, report, cells, interval(row.interval), own, brief, text)


def _moment(created: str) -> str:
    """`2026-11-25T22:18:55Z` as 2026-11-25 22:18, which sorts by eye; other text as it is."""
    plain = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ", created)
    return f"{plain[1]} {plain[2]}" if plain else created or NOTHING


def _head(column: Column, asked: Wanted) -> Head:
    here = column.key == asked.sort
    falling = not asked.falling if here else column.falling
    query = {"sort": column.key, "order": "down" if falling else "up"}
    if asked.filter:
        query["filter"] = asked.filter
    state = ("descending" if asked.falling else "ascending") if here else ""
    return Head(column.key, column.name, column.number, f"/?{urlencode(query, errors='replace')}", state)


def address(row: Row, page: str) -> str:
    """Where a page of that row is served."""
    return f"/runs/{quote(row.id)}/{page}"


def style() -> str:
    """The style of the report, and what these pages add to it."""
    return report_template("report.css") + _template("view.css")


def script() -> str:
    """What makes sorting and filtering quicker; the pages work without."""
    return _template("view.js")


def _template(name: str) -> str:
    return resources("headway.viewer").joinpath("templates", name).read_text("utf-8")
