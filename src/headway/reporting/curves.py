"""The figures about learning: lines over epochs or over the strength of L2. Values in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headway.reporting.svg import Safe, Scale, element, joined, picture, short, tick_text
from headway.reporting.text import shortened

_WIDTH, _HEIGHT = 352.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 74.0, 30.0, 42.0
_CLEAR = 13.0  # pixels between two labels
_STYLES = ("dashed", "dotted", "thin")


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its points (x, y) in order of x, drawn in the accent where `main`."""

    name: str
    points: tuple[tuple[float, float], ...]
    main: bool = False


@dataclass(frozen=True)
class Mark:
    """A point that is pointed out: the candidate or the epoch that was kept."""

    x: float
    y: float
    words: str


def chart(title: str, axis: str, lines: Sequence[Line], *, mark: Mark | None = None, log: bool = False) -> Safe | None:
    """Lines over a common axis (logarithmic where `log`), each named at its right end; None without a point."""
    lines = [replace(line, points=_thinned(line.points)) for line in lines if line.points]
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    x = Scale(min(p[0] for p in points), max(p[0] for p in points), _LEFT, _WIDTH - _RIGHT, log)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    room = (high - low) * 0.08 or 0.05 * abs(high) or 1.0
    y = Scale(max(low - room, min(low, 0.0)), high + room, _HEIGHT - _BOTTOM, _TOP)
    below = mark is not None and _is_free_below(mark, points, x, y)
    if mark is not None:  # room for its words
        y = replace(y, start=y.start - 28) if below else replace(y, end=y.end + 26)
    parts = [*_axes(x, y, axis, log), element("text", title, class_="axis-name strong", x=0, y=12)]
    quiet = 0
    for line in sorted(lines, key=lambda line: line.main):
        style = "main" if line.main else _STYLES[quiet % len(_STYLES)]
        quiet += not line.main
        path = "M" + "L".join(f"{short(x(at))} {short(y(value))}" for at, value in line.points)
        parts.append(element("path", class_=f"curve {style}", d=path))
        parts += [
            element("circle", class_=f"bead {style}", cx=x(at), cy=y(value), r=2.2) for at, value in _few(line.points)
        ]
    parts += _names(lines, y)
    if mark is not None:
        near = [y(value) for _, value in _near(mark, points, x)]
        parts.append(_marked(x(mark.x), y(mark.y), mark.words, max(near) + 28 if below else min(near) - 20))
    words = "; ".join(f"{line.name} ends at {line.points[-1][1]:.4g}" for line in lines)
    pointed = f" {mark.words}: {mark.y:.4g}." if mark else ""
    return picture(f"{title} by {axis}: {words}.{pointed}", _WIDTH, _HEIGHT, *parts)


def _near(mark: Mark, points: Sequence[tuple[float, float]], x: Scale) -> list[tuple[float, float]]:
    """The points that lie where the words of the mark would stand, the marked one among them."""
    at = x(mark.x)
    left, right = (at - 115, at + 12) if _is_right(at) else (at - 12, at + 115)
    return [(mark.x, mark.y), *(point for point in points if left <= x(point[0]) <= right)]


def _is_right(x: float) -> bool:
    return x > (_LEFT + _WIDTH - _RIGHT) / 2


def _is_free_below(mark: Mark, points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> bool:
    """Whether the words stand better under the lines: the mark is lowest there, or there is more room than above."""
    near = [y(value) for _, value in _near(mark, points, x)]
    at = y(mark.y)
    if at >= max(near) - 3 or at <= min(near) + 3:
        return at >= max(near) - 3
    return y.start - max(near) > min(near) - y.end


def _few(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Beads only where they are far enough apart to be told from the line."""
    return points if len(points) <= 16 else ()


def _thinned(points: tuple[tuple[float, float], ...], most: int = 500) -> tuple[tuple[float, float], ...]:
    every = -(-len(points) // most)
    return points[::every] if len(points) <= most else (*points[::every], points[-1])


def _axes(x: Scale, y: Scale, axis: str, log: bool) -> list[Safe]:
    floor = _HEIGHT - _BOTTOM
    parts = [element("line", class_="axis", x1=_LEFT, x2=x.end, y1=floor, y2=floor)]
    for tick in y.ticks():
        parts.append(element("line", class_="grid", x1=_LEFT, x2=x.end, y1=y(tick), y2=y(tick)))
        parts.append(element("text", tick_text(tick), class_="tick", x=_LEFT - 7, y=y(tick) + 4, text_anchor="end"))
    for tick in x.ticks():
        words = tick_text(tick, log=log)
        parts.append(element("line", class_="axis", x1=x(tick), x2=x(tick), y1=floor, y2=floor + 4))
        parts.append(element("text", words, class_="tick", x=x(tick), y=floor + 18, text_anchor="middle"))
    parts.append(element("text", axis, class_="axis-name", x=x.end, y=_HEIGHT - 6, text_anchor="end"))
    return parts


def _names(lines: Sequence[Line], y: Scale) -> list[Safe]:
    """The names at the right ends, pushed apart where lines end close together."""
    placed: list[float] = []
    parts = []
    for line in sorted(lines, key=lambda line: y(line.points[-1][1])):
        at = y(line.points[-1][1]) + 4
        if placed and at < placed[-1] + _CLEAR:
            at = placed[-1] + _CLEAR
        placed.append(at)
        style = "label strong accent" if line.main else "label"
        parts.append(element("text", shortened(line.name, 11), class_=style, x=_WIDTH - _RIGHT + 8, y=at))
    return parts


def _marked(x: float, y: float, words: str, tip: float) -> Safe:
    """A ring around the point and its words with their base line at `tip`, joined by a thin line."""
    below, right = tip > y, _is_right(x)
    return joined(
        element("circle", class_="ring", cx=x, cy=y, r=6.5),
        element("line", class_="pointer", x1=x, x2=x, y1=y + 7 if below else y - 7, y2=tip - 11 if below else tip + 3),
        element(
            "text",
            words,
            class_="label strong",
            x=x + (5 if right else -5),
            y=tip,
            text_anchor="end" if right else "start",
        ),
    )
