"""The figures about learning: lines over epochs or over the strength of L2. Values in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headway.reporting.svg import Safe, Scale, element, joined, picture, short, tick_text
from headway.reporting.text import shortened

_CLEAR = 15.0  # pixels between two labels
_STYLES = ("dashed", "dotted", "thin")


@dataclass(frozen=True)
class Frame:
    """The size of a chart and its margins, in pixels. Lines are named at their right ends where there is room."""

    width: float = 352.0
    height: float = 250.0
    left: float = 46.0
    right: float = 74.0
    top: float = 30.0
    bottom: float = 42.0

    @property
    def end(self) -> float:
        return self.width - self.right

    @property
    def floor(self) -> float:
        return self.height - self.bottom

    @property
    def letters(self) -> int:
        """How many letters of a name fit beside the lines."""
        return max(0, int((self.right - 8) / 6))


@dataclass(frozen=True)
class Limits:
    """Axes that several charts have in common: the values at their ends."""

    left: float
    right: float
    low: float
    high: float


WHOLE = Frame()


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its points (x, y) in order of x, drawn in the accent where `main`.

    beads  whether its points are marked, where there are few
    inner  whether it is named at its own end, as others go on from there, and not beside the chart
    style  class of its own, where there are more lines than the accent and its quiet companions can tell apart
    kept   a point of it with a ring around
    A line without a name has none at its end and goes unsaid: the companion of a named one.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    main: bool = False
    beads: bool = True
    inner: bool = False
    style: str = ""
    kept: tuple[float, float] | None = None


@dataclass(frozen=True)
class Mark:
    """A point that is pointed out: the candidate or the epoch that was kept. Without words it is a ring alone."""

    x: float
    y: float
    words: str


def chart(
    title: str,
    axis: str,
    lines: Sequence[Line],
    *,
    mark: Mark | None = None,
    log: bool = False,
    frame: Frame = WHOLE,
    limits: Limits | None = None,
) -> Safe | None:
    """Lines over a common axis (logarithmic where `log`), each named at its right end; None without a point."""
    lines = [replace(line, points=_thinned(line.points)) for line in lines if line.points]
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    around = limits or limits_of([lines])
    x = Scale(around.left, around.right, frame.left, frame.end, log)
    y = Scale(around.low, around.high, frame.floor, frame.top)
    below = mark is not None and _is_free_below(mark, points, x, y)
    if mark is not None and limits is None:  # room for its words
        y = replace(y, start=y.start - 28) if below else replace(y, end=y.end + 26)
    parts = [*_axes(x, y, axis, frame), element("text", title, class_="axis-name strong", x=0, y=12)]
    quiet = 0
    for line in sorted(lines, key=lambda line: line.main):
        style = line.style or ("main" if line.main else _STYLES[quiet % len(_STYLES)])
        quiet += not line.main
        path = "M" + "L".join(f"{short(x(at))} {short(y(value))}" for at, value in line.points)
        parts.append(element("path", class_=f"curve {style}", d=path))
        parts += [element("circle", class_=f"bead {style}", cx=x(at), cy=y(value), r=2.2) for at, value in _few(line)]
        parts += [_ring(x(line.kept[0]), y(line.kept[1]))] if line.kept is not None else []
    parts += _names([line for line in lines if line.name], x, y, frame)
    if mark is not None and not mark.words:
        parts.append(_ring(x(mark.x), y(mark.y)))
    elif mark is not None:
        near = [y(value) for _, value in _near(mark, points, x)]
        tip = max(near) + 28 if below else min(near) - 20
        parts.append(_marked((x(mark.x), y(mark.y)), mark.words, tip, _is_right(x(mark.x), x)))
    words = "; ".join(f"{line.name} ends at {line.points[-1][1]:.4g}" for line in lines if line.name)
    pointed = f" {mark.words or 'kept'}: {mark.y:.4g}." if mark else ""
    return picture(f"{title} by {axis}: {words}.{pointed}", frame.width, frame.height, *parts)


def _near(mark: Mark, points: Sequence[tuple[float, float]], x: Scale) -> list[tuple[float, float]]:
    """The points that lie where the words of the mark would stand, the marked one among them."""
    at = x(mark.x)
    left, right = (at - 115, at + 12) if _is_right(at, x) else (at - 12, at + 115)
    return [(mark.x, mark.y), *(point for point in points if left <= x(point[0]) <= right)]


def _is_right(at: float, x: Scale) -> bool:
    return at > (x.start + x.end) / 2


def _is_free_below(mark: Mark, points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> bool:
    """Whether the words stand better under the lines: the mark is lowest there, or there is more room than above."""
    near = [y(value) for _, value in _near(mark, points, x)]
    at = y(mark.y)
    if at >= max(near) - 3 or at <= min(near) + 3:
        return at >= max(near) - 3
    return y.start - max(near) > min(near) - y.end


def _few(line: Line) -> tuple[tuple[float, float], ...]:
    """Beads only where they are far enough apart to be told from the line."""
    return line.points if line.beads and len(line.points) <= 16 else ()


def _thinned(points: tuple[tuple[float, float], ...], most: int = 500) -> tuple[tuple[float, float], ...]:
    every = -(-len(points) // most)
    return points[::every] if len(points) <= most else (*points[::every], points[-1])


def limits_of(charts: Sequence[Sequence[Line]]) -> Limits:
    """Axes that hold every point of several charts, with room above and below. At least one point is needed."""
    points = [point for lines in charts for line in lines for point in line.points]
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    room = (high - low) * 0.08 or 0.05 * abs(high) or 1.0
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    return Limits(left, right, max(low - room, min(low, 0.0)), high + room)


def _axes(x: Scale, y: Scale, axis: str, frame: Frame) -> list[Safe]:
    floor = frame.floor
    parts = [element("line", class_="axis", x1=frame.left, x2=x.end, y1=floor, y2=floor)]
    for tick in y.ticks():
        parts.append(element("line", class_="grid", x1=frame.left, x2=x.end, y1=y(tick), y2=y(tick)))
        parts.append(
            element("text", tick_text(tick), class_="tick", x=frame.left - 7, y=y(tick) + 4, text_anchor="end")
        )
    for tick in x.ticks():
        if axis == "epoch" and tick % 1:  # there is no half an epoch
            continue
        words = tick_text(tick, log=x.log)
        parts.append(element("line", class_="axis", x1=x(tick), x2=x(tick), y1=floor, y2=floor + 4))
        parts.append(element("text", words, class_="tick", x=x(tick), y=floor + 18, text_anchor="middle"))
    parts.append(element("text", axis, class_="axis-name", x=x.end, y=frame.height - 6, text_anchor="end"))
    return parts


def _names(lines: Sequence[Line], x: Scale, y: Scale, frame: Frame) -> list[Safe]:
    """The names at the right ends, pushed apart where lines end close together; none where there is no room."""
    if not frame.letters:
        return []
    inner = [_inner_name(line, x, y) for line in lines if line.inner]
    outer = sorted((line for line in lines if not line.inner), key=lambda line: y(line.points[-1][1]))
    places = _apart([y(line.points[-1][1]) + 4 for line in outer])
    return inner + [
        element("text", shortened(line.name, frame.letters), class_=_name_style(line), x=frame.end + 8, y=at)
        for line, at in zip(outer, places, strict=True)
    ]


def _name_style(line: Line) -> str:
    return "label strong accent" if line.main else f"label {line.style}".strip()


def _inner_name(line: Line, x: Scale, y: Scale) -> Safe:
    """A name at the line's own end, on the side that the line does not come from."""
    (at, value), before = line.points[-1], line.points[-2:][0][1]
    up = y(value) - 10 if before <= value else y(value) + 20
    return element("text", line.name, class_=_name_style(line), text_anchor="end", x=x(at) - 2, y=up)


def _apart(wanted: Sequence[float]) -> list[float]:
    """Ascending places at least `_CLEAR` apart: the middle between pushing all of them down and pushing all up."""
    down, up = list(wanted), list(wanted)
    for index in range(1, len(down)):
        down[index] = max(down[index], down[index - 1] + _CLEAR)
    for index in reversed(range(len(up) - 1)):
        up[index] = min(up[index], up[index + 1] - _CLEAR)
    return [(low + high) / 2 for low, high in zip(down, up, strict=True)]


def _ring(x: float, y: float) -> Safe:
    return element("circle", class_="ring", cx=x, cy=y, r=6.5)


def _marked(point: tuple[float, float], words: str, tip: float, right: bool) -> Safe:
    """A ring around the point and its words with their base line at `tip`, joined by a thin line."""
    x, y = point
    below = tip > y
    return joined(
        _ring(x, y),
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
