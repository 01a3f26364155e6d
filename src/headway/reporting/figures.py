"""The figures about answers: intervals on a line, confusion, reliability. Values in, SVG out, no file is read.

Every figure takes its colours from classes that the page's CSS knows, so it follows light and dark, and every mark
differs from the others in place, shape or dash as well as in colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headway.reporting.svg import Safe, Scale, element, joined, percent, picture, short
from headway.reporting.text import count, interval, is_number, number, shortened

LARGEST_MATRIX = 25  # classes; above, cells are too small for a number
_LEVELS = 6  # shades of the heat map


def interval_line(value: float, bounds: Sequence[float] | None, guess: float | None) -> Safe:
    """The headline's figure: accuracy with its interval on a line from 0 to 1, guessing marked. All in 0..1."""
    parts = [element("line", class_="axis", x1="0%", x2="100%", y1=30, y2=30)]
    for place in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = percent(place)
        anchor = {0.0: "start", 1.0: "end"}.get(place, "middle")
        parts.append(element("line", class_="axis", x1=at, x2=at, y1=30, y2=35))
        parts.append(element("text", f"{place:g}", class_="tick", x=at, y=50, text_anchor=anchor))
    if guess is not None:
        parts.append(element("line", class_="guess", x1=percent(guess), x2=percent(guess), y1=22, y2=38))
    if bounds:
        parts.append(element("line", class_="whisker wide", x1=percent(bounds[0]), x2=percent(bounds[1]), y1=30, y2=30))
    parts.append(element("circle", class_="dot", cx=percent(value), cy=30, r=6.5))
    parts += _line_names(value, guess)
    label = f"Accuracy {number(value)} {interval(bounds)}; guessing {number(guess)}; the axis runs from 0 to 1."
    return element("svg", *parts, class_="line", role="img", aria_label=label, width="100%", height=56)


def _line_names(value: float, guess: float | None) -> list[Safe]:
    """The two names above the line, each as near to its mark as both can stand; guessing's is left out where it cannot.

    On the narrowest page (330 pixels) a name takes up to a quarter of the line.
    """
    own, beside = _stands(value), [] if guess is None else _stands(guess)
    both = [(a, b) for a in own for b in beside if a[2] <= b[1] or b[2] <= a[1]]
    anchor, *_ = both[0][0] if both else own[0]
    names = [element("text", "this model", class_="label strong", x=percent(value), y=14, text_anchor=anchor)]
    if both and guess is not None:
        side, *_ = both[0][1]
        words = f"guessing {number(guess)}"
        names.append(element("text", words, class_="label", x=percent(guess), y=14, text_anchor=side))
    return names


def _stands(at: float, room: float = 0.25) -> list[tuple[str, float, float]]:
    """How a name of the width `room` can stand at the place `at` on a line of 0 to 1: anchor, from where, to where."""
    places = (
        ("middle", at - room / 2, at + room / 2),
        ("end", at - room, at),
        ("start", at, at + room),
    )
    return [place for place in places if place[1] >= 0 and place[2] <= 1]


def range_bar(value: object, bounds: object, *, low: float = 0.0, high: float = 1.0, quiet: bool = False) -> Safe:
    """A dot with its interval, one row of a table high; the number is printed beside it, so readers skip it."""
    parts = [element("line", class_="track", x1="0%", x2="100%", y1=8, y2=8)]
    scale = Scale(low, high, 0.0, 1.0)
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and all(is_number(end) for end in bounds):
        ends = [percent(scale(end)) for end in bounds]
        parts.append(
            element("line", class_="whisker quiet" if quiet else "whisker", x1=ends[0], x2=ends[1], y1=8, y2=8)
        )
    if isinstance(value, int | float) and is_number(value):
        parts.append(element("circle", class_="dot quiet" if quiet else "dot", cx=percent(scale(value)), cy=8, r=4))
    return element("svg", *parts, class_="range", aria_hidden="true", width="100%", height=16)


def stacked_bar(parts: Sequence[tuple[str, float]], label: str) -> Safe:
    """Shares of a whole side by side, (name, size >= 0); a name is written on its part where there is room."""
    total = sum(size for _, size in parts) or 1.0
    marks, at = [], 0.0
    for position, (name, size) in enumerate(parts):
        share = size / total
        marks.append(
            element("rect", class_=f"shade{position % 6}", x=percent(at), y=0, width=percent(share), height=26)
        )
        if share * 46 > len(name) + 1:  # about 46 letters fit into the narrowest page
            marks.append(
                element("text", name, class_="inside on" if position % 6 == 1 else "inside", x=percent(at), dx=7, y=17)
            )
        at += share
    return element("svg", *marks, class_="stack", role="img", aria_label=label, width="100%", height=26)


def confusion_matrix(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    *,
    sizes: Sequence[int] | None = None,
    links: Mapping[tuple[int, int], str] | None = None,
) -> Safe:
    """The confusion matrix (C, C), rows true, with its counts; for up to LARGEST_MATRIX classes.

    sizes  images of each class (C,), where the matrix is cut out of a larger one; else the sums of its rows
    links  (row, column) → address that a cell leads to
    """
    n = len(classes)
    cell = 72 if n <= 3 else 54 if n <= 6 else 38 if n <= 12 else 30 if n <= 20 else 27
    names = [shortened(name, 18 if n <= 20 else 14) for name in classes]
    width_of_names = 12 + 7 * max(len(name) for name in names)
    slanted = any(len(name) * 7 > cell - 4 for name in names)
    left, top = 22 + width_of_names, 34 + (int(width_of_names * 0.78) if slanted else 8)
    overhang = int(width_of_names * 0.6) if slanted else 8
    cells: list[Safe] = []
    for row, counts in enumerate(confusion):
        total = (sizes[row] if sizes else sum(counts)) or 1
        for column, value in enumerate(counts):
            drawn = _cell(value, value / total, (left + column * cell, top + row * cell, cell), row == column)
            words = f"{classes[row]} → {classes[column]}: {value}"
            cells.append(_led(drawn, words, (links or {}).get((row, column))))
    labels = [_row_name(name, left - 8, top + (row + 0.5) * cell + 4) for row, name in enumerate(names)]
    labels += [_column_name(name, left + (at + 0.5) * cell, top - 8, slanted) for at, name in enumerate(names)]
    side = n * cell
    titles = [
        element("text", "the model says", class_="axis-name", x=left, y=14),
        element("text", "it is", class_="axis-name", x=left - 8, y=top - 8, text_anchor="end"),
    ]
    label = (
        f"Confusion matrix of {n} classes: rows are the true classes, columns the answers. The table below has it all."
    )
    parts = [*titles, *labels, *cells]
    width, height = left + side + overhang, top + side + 4
    # An image has no parts that could be led to: with links it is a group.
    size = "natural" if n <= 12 else "natural large"  # a large one is scrolled where it is too wide, not made smaller
    return picture(label, width, height, *parts, class_=f"picture {size}", role="group" if links else "img")


def _led(cell: Safe, words: str, link: str | None) -> Safe:
    """A cell with its words, and a link around it where it leads anywhere."""
    title = element("title", words)
    if link is None:
        return element("g", title, cell)
    return element("a", title, cell, href=link, aria_label=f"{words}, show images")


def _cell(value: int, share: float, box: tuple[float, float, float], right: bool) -> Safe:
    x, y, side = box
    opacity = 0.0 if not value else 0.12 + 0.83 * math.sqrt(share)
    kind = "right" if right else "wrong"
    back = element(
        "rect", class_=f"cell {kind}", x=x + 1, y=y + 1, width=side - 2, height=side - 2, fill_opacity=opacity
    )
    if not value and side < 54:  # of many cells most are empty: the others stand out
        return back
    ink = "on" if opacity > 0.55 else "off" if value else "none"
    words = count(value) if value < 10_000 else f"{value / 1000:.0f}k"
    size = "small" if side < 35 else "middle"
    text = element("text", words, class_=f"cell-{ink} {size}", x=x + side / 2, y=y + side / 2 + 4, text_anchor="middle")
    return joined(back, text)


def _row_name(name: str, x: float, y: float) -> Safe:
    return element("text", name, class_="label", x=x, y=y, text_anchor="end")


def _column_name(name: str, x: float, y: float, slanted: bool) -> Safe:
    if slanted:
        place = f"translate({short(float(x))} {short(float(y))}) rotate(-50)"
        return element("text", name, class_="label", transform=place, text_anchor="start")
    return element("text", name, class_="label", transform=f"translate({short(float(x))} {y})", text_anchor="middle")


def heat_map(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Safe:
    """The confusion matrix (C, C) without numbers, for many classes: one path per shade, so a page stays small.

    Its `data-counts` holds what is not zero, for the script that tells the cell under the pointer: `column:count`, a
    comma between cells, a semicolon between rows.
    """
    n = len(classes)
    shades: dict[tuple[str, int], list[str]] = {}
    for row, counts in enumerate(confusion):
        total = sum(counts) or 1
        for column, value in enumerate(counts):
            if value:
                level = min(_LEVELS - 1, int(math.sqrt(value / total) * _LEVELS))
                kind = "right" if row == column else "wrong"
                shades.setdefault((kind, level), []).append(f"M{column} {row}h1v1h-1z")
    paths = [
        element("path", class_=f"cell {kind}", d="".join(steps), fill_opacity=(level + 0.9) / (_LEVELS + 0.4))
        for (kind, level), steps in sorted(shades.items())
    ]
    side = 340.0
    grid = element("g", *paths, transform=f"translate(30 22) scale({short(side / n)})", shape_rendering="crispEdges")
    frame = element("rect", class_="frame", x=30, y=22, width=side, height=side)
    ticks = []
    for index in sorted({0, n // 4, n // 2, 3 * n // 4, n - 1}):
        at = (index + 0.5) * side / n
        ticks.append(element("text", str(index + 1), class_="tick", x=24, y=22 + at + 4, text_anchor="end"))
        ticks.append(
            element(
                "text",
                str(index + 1),
                class_="tick",
                x=30 + at,
                y=14,
                text_anchor="end" if index == n - 1 else "middle",
            )
        )
    label = f"Heat map of {n} by {n} classes: rows are the true classes, columns the answers, the diagonal is right."
    told = ";".join(",".join(f"{at}:{value}" for at, value in enumerate(row) if value) for row in confusion)
    cross = element("path", class_="cross", d="M0 0")  # where the script points to
    return picture(label, 376, 366, frame, grid, *ticks, cross, class_="picture heat", data_counts=told)


def reliability(bins: Sequence[Mapping[str, Any]], n: int) -> Safe:
    """Accuracy against confidence, one dot per bin with an area in proportion to its number of images (of `n`).

    A stalk joins each dot to the diagonal, where it would be if confidence meant what it says.
    """
    x, y = Scale(0, 1, 44, 324), Scale(0, 1, 276, 16)
    full = [b for b in bins if b.get("n") and is_number(b.get("confidence")) and is_number(b.get("accuracy"))]
    parts = [element("line", class_="diagonal", x1=x(0), y1=y(0), x2=x(1), y2=y(1))]
    parts.append(element("text", "too sure", class_="note", x=x(0.985), y=y(0.03), text_anchor="end"))
    parts.append(element("text", "too shy", class_="note", x=x(0.03), y=y(0.9)))
    for tick in (0.0, 0.5, 1.0):
        parts.append(element("text", f"{tick:g}", class_="tick", x=36, y=y(tick) + 4, text_anchor="end"))
        parts.append(element("text", f"{tick:g}", class_="tick", x=x(tick), y=368, text_anchor="middle"))
    parts.append(element("line", class_="axis", x1=x(0), x2=x(0), y1=y(0), y2=y(1)))
    parts.append(element("line", class_="axis", x1=x(0), x2=x(1), y1=y(0), y2=y(0)))
    most = max((b["n"] for b in full), default=1)
    for b in full:
        at, up = x(b["confidence"]), y(b["accuracy"])
        parts.append(element("line", class_="stalk", x1=at, x2=at, y1=y(b["confidence"]), y2=up))
        words = f"confidence {number(b['confidence'])}, right {number(b['accuracy'])}, n={b['n']}"
        dot = element("circle", element("title", words), class_="dot", cx=at, cy=up, r=2.5 + 7 * math.sqrt(b["n"] / n))
        parts.append(dot)
        left, right = x(b.get("low", b["confidence"])), x(b.get("high", b["confidence"]))
        height = max(1.0, 56.0 * b["n"] / most)
        width = max(1.0, right - left - 1.5)
        parts.append(element("rect", class_="bar", x=left + 0.75, y=350 - height, width=width, height=height))
    left = any(b["n"] == most and b["confidence"] < 0.5 for b in full)  # the name stands away from the tallest bar
    words = f"{count(most)} in the largest group"
    parts.append(
        element(
            "text", words, class_="tick", x=x(1) if left else x(0) + 4, y=304, text_anchor="end" if left else "start"
        )
    )
    parts.append(element("line", class_="axis", x1=x(0), x2=x(1), y1=350, y2=350))
    parts.append(element("text", "how often right", class_="axis-name", x=x(0) + 6, y=10))
    parts.append(element("text", "how sure", class_="axis-name", x=x(1), y=386, text_anchor="end"))
    label = f"Reliability diagram of {n} test images in {len(full)} bins; below it, how many images are in each bin."
    return picture(label, 344, 392, *parts)


def count_bar(counts: Sequence[int], most: int) -> Safe:
    """Images of one class in train, val and test side by side; the longest bar of the table has `most` images."""
    marks, at = [], 0.0
    for position, size in enumerate(counts):
        share = size / max(1, most)
        marks.append(element("rect", class_=f"part{position}", x=percent(at), y=3, width=percent(share), height=10))
        at += share
    return element("svg", *marks, class_="range", aria_hidden="true", width="100%", height=16)
