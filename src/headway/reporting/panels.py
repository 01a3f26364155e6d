"""The figures of a comparison: curves side by side on the same axes, accuracy against seconds, differences around 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from headway.reporting.curves import Frame, Limits, Line, Mark, chart, limits_of
from headway.reporting.svg import Safe, Scale, element, joined, percent, picture, short, tick_text
from headway.reporting.text import interval, is_number, number, seconds, shortened

_SMALL = Frame(256.0, 196.0, 40.0, 12.0, 30.0, 40.0)
_WIDE = Frame(400.0, 290.0, 42.0, 16.0, 24.0, 42.0)
_LOG_FROM = 12.0  # the longest run over the shortest; above, an axis of seconds takes logarithms
_DASHES = ("", "6 4", "1.5 3.5", "10 3 2 3", "3 3", "12 5")
_LETTER = 7.4  # pixels, a letter of a name on average


@dataclass(frozen=True)
class Panel:
    """What one choice shows of one measure: lines over epochs, and the kept epoch."""

    name: str
    lines: tuple[Line, ...]
    kept: Mark | None


def curve_panels(choices: Sequence[Mapping[str, Any]], measure: str) -> list[Safe]:
    """One small chart for each choice, all with the same axes. measure "loss" or "accuracy".

    Validation is the solid line, training the dashed one; a head that was solved and not trained by epochs has a
    horizontal line for validation.
    """
    longest = max((point["epoch"] or 0.0 for own in choices for point in own["curve"]), default=1.0) or 1.0
    found = [_panel(own, measure, longest) for own in choices]
    drawn = [panel for panel in found if any(line.points for line in panel.lines)]
    if not drawn:
        return []
    limits = limits_of([[line for line in panel.lines if line.points] for panel in drawn])
    limits = Limits(min(limits.left, 0.0), longest, limits.low, min(limits.high, 1.0 if measure == "accuracy" else 1e9))
    made = []
    for panel in drawn:
        title = shortened(panel.name, 34)
        small = chart(title, "epoch", panel.lines, mark=panel.kept, frame=_SMALL, limits=limits)
        made += [small] if small is not None else []
    return made


def _panel(choice: Mapping[str, Any], measure: str, longest: float) -> Panel:
    name, curve = str(choice["name"]), choice["curve"]
    if not curve:
        value = (choice["flat"] or {}).get(f"val_{measure}")
        points = ((0.0, float(value)), (longest, float(value))) if is_number(value) and value is not None else ()
        return Panel(name, (Line("validation", points, main=True, beads=False),), None)
    lines = tuple(
        Line(words, _points(curve, "epoch", f"{key}_{measure}"), main=key == "val")
        for key, words in (("train", "training"), ("val", "validation"))
    )
    at = next((value for epoch, value in lines[1].points if epoch == choice["kept"]), None)
    return Panel(name, lines, None if at is None else Mark(float(choice["kept"]), at, ""))


def _points(curve: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(p[x]), float(p[y])) for p in curve if is_number(p.get(x)) and is_number(p.get(y)))


@dataclass(frozen=True)
class Track:
    """One choice against seconds: the way of its validation accuracy, and where it came to on the test images."""

    name: str
    way: tuple[tuple[float, float], ...]
    ready: float
    test: float
    bounds: tuple[float, float]
    main: bool


def accuracy_by_seconds(choices: Sequence[Mapping[str, Any]], highest: str) -> Safe | None:
    """Accuracy over the seconds of pass and training: a line on the way, a sign with its interval at the end.

    What came before the first epoch (the pass, a probe to begin with) moves the line to the right.
    """
    tracks = [_track(own, highest) for own in choices if own["seconds"]["ready"] > 0]
    if not tracks:
        return None
    ends = [track.ready for track in tracks]
    starts = [at for track in tracks for at, _ in track.way]
    log = max(ends) > _LOG_FROM * min(ends)
    earliest = min(ends + [at for at in starts if at > 0])
    x = Scale(earliest * 0.8 if log else 0.0, max(ends) * (1.25 if log else 1.06), _WIDE.left, _WIDE.end, log)
    values = [value for track in tracks for value in (*track.bounds, *(v for _, v in track.way))]
    low, high = min(values), min(1.0, max(values))
    y = Scale(max(0.0, low - (high - low) * 0.1), high + (high - low) * 0.04 or 1.0, _WIDE.floor, _WIDE.top)
    parts = [*_axes(x, y), element("text", "accuracy", class_="axis-name strong", x=0, y=12)]
    for place, track in enumerate(tracks):
        parts.append(_way(track, x, y, place))
    parts += [_end(track, x, y, place) for place, track in enumerate(tracks)]
    parts += _names(tracks, x, y)
    words = "; ".join(
        f"{track.name} {number(track.test)} {interval(track.bounds)} after {seconds(track.ready)}" for track in tracks
    )
    label = f"Test accuracy against the seconds of pass and training: {words}."
    return picture(label, _WIDE.width, _WIDE.height, *parts, class_="picture wide")


def _track(choice: Mapping[str, Any], highest: str) -> Track:
    spent, test = choice["seconds"], choice["test"]
    looped = spent["loop"] or max((point["seconds"] or 0.0 for point in choice["curve"]), default=0.0)
    before = max(0.0, spent["ready"] - looped)
    curve = [{**point, "at": before + point["seconds"]} for point in choice["curve"] if is_number(point["seconds"])]
    low, high = test["interval"] or (test["accuracy"], test["accuracy"])
    way = tuple(point for point in _points(curve, "at", "val_accuracy") if point[0] > 0)
    return Track(choice["name"], way, spent["ready"], test["accuracy"], (low, high), choice["name"] == highest)


def _axes(x: Scale, y: Scale) -> list[Safe]:
    parts = [element("line", class_="axis", x1=_WIDE.left, x2=x.end, y1=_WIDE.floor, y2=_WIDE.floor)]
    for tick in y.ticks():
        parts.append(element("line", class_="grid", x1=_WIDE.left, x2=x.end, y1=y(tick), y2=y(tick)))
        left = _WIDE.left - 7
        parts.append(element("text", tick_text(tick), class_="tick", x=left, y=y(tick) + 4, text_anchor="end"))
    for tick in _times(x):
        parts.append(element("line", class_="axis", x1=x(tick), x2=x(tick), y1=_WIDE.floor, y2=_WIDE.floor + 4))
        under = _WIDE.floor + 18
        parts.append(element("text", tick_text(tick), class_="tick", x=x(tick), y=under, text_anchor="middle"))
    name = "seconds of pass and training" + (" (logarithmic)" if x.log else "")
    parts.append(element("text", name, class_="axis-name", x=x.end, y=_WIDE.height - 6, text_anchor="end"))
    return parts


def _times(x: Scale) -> list[float]:
    """Powers of ten, and between them 2 and 5 times those where few lie inside."""
    if not x.log:
        return x.ticks()
    powers = [10.0**power for power in range(-3, 8)]
    inside = [value for value in powers if x.low <= value <= x.high]
    if len(inside) < 3:
        inside = [f * value for value in powers for f in (1, 2, 5) if x.low <= f * value <= x.high]
    return inside


def _way(track: Track, x: Scale, y: Scale, place: int) -> Safe:
    if len(track.way) < 2:
        return joined()
    path = "M" + "L".join(f"{short(x(at))} {short(y(value))}" for at, value in track.way)
    style = "curve main" if track.main else "curve"
    return element("path", class_=style, d=path, stroke_dasharray=_DASHES[place % len(_DASHES)] or None)


def _end(track: Track, x: Scale, y: Scale, place: int) -> Safe:
    """The test accuracy with its interval, as a sign of its own shape."""
    at, up = x(track.ready), y(track.test)
    kind = "sign main" if track.main else "sign"
    words = f"{track.name}: {number(track.test)} {interval(track.bounds)} after {seconds(track.ready)}"
    style = "whisker" if track.main else "whisker quiet"
    whisker = element("line", class_=style, x1=at, x2=at, y1=y(track.bounds[0]), y2=y(track.bounds[1]))
    shapes = (
        "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
        "M-4.5 -4.5h9v9h-9z",
        "M0 -5.5L5.5 4.5h-11z",
        "M0 -6L6 0L0 6L-6 0z",
        "M0 5.5L5.5 -4.5h-11z",
        "M-5 -1.7h3.3v-3.3h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3z",
    )
    shape = element("path", class_=kind, d=shapes[place % len(shapes)], transform=f"translate({short(at)} {short(up)})")
    return element("g", element("title", words), whisker, shape)


def _names(tracks: Sequence[Track], x: Scale, y: Scale) -> list[Safe]:
    """The names beside their signs, each where it touches neither another name nor another sign."""
    signs = [(x(t.ready) - 6, y(t.bounds[1]), x(t.ready) + 6, y(t.bounds[0])) for t in tracks]
    # A box around each step of the lines, in pieces: a name stands beside a line, not on it.
    taken = [box for track in tracks for box in _boxes([(x(at), y(value)) for at, value in track.way])]
    parts = []
    for place, track in enumerate(tracks):
        name = shortened(track.name, 22)
        width, at, up = _LETTER * len(name), x(track.ready), y(track.test)
        others = [*taken, *(sign for index, sign in enumerate(signs) if index != place)]
        left, baseline = _free(width, (at, up), signs[place], others)
        taken.append((left, baseline - 10, left + width, baseline + 3))
        style = "label strong accent" if track.main else "label strong"
        parts.append(element("text", name, class_=style, x=left, y=baseline))
    return parts


def _boxes(way: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """Small boxes along a line of pixels, one for every 8 of them or so."""
    made = []
    for (x0, y0), (x1, y1) in pairwise(way):
        pieces = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / 8))
        for piece in range(pieces + 1):
            at, up = x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces
            made.append((at - 2, up - 2, at + 2, up + 2))
    return made


def _free(
    width: float,
    point: tuple[float, float],
    own: tuple[float, float, float, float],
    others: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """Where a name of this width may stand: left end and base line. The first place that is free, else the last one."""
    at, up = point
    right, left = at + 10, at - 10 - width
    middle = min(max(_WIDE.left, at - width / 2), _WIDE.width - width)
    places = [(side, up + 4 + step) for step in (0, 14, -14, 28, -28, 42, -42) for side in (right, left)]
    places += [(middle, own[3] + 14 + step) for step in (0, 13, 26)] + [(middle, own[1] - 6 - step) for step in (0, 13)]
    for x, y in places:
        box = (x, y - 10, x + width, y + 3)
        inside = box[0] >= _WIDE.left and box[2] <= _WIDE.width and box[1] >= 14 and box[3] <= _WIDE.floor
        if inside and not any(_touch(box, other) for other in others):
            return x, y
    return places[-1]


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def difference_bar(value: float, bounds: Sequence[float], most: float, shown: bool) -> Safe:
    """A difference with its interval on a line from -most to most, 0 marked; the numbers are printed beside it."""
    scale = Scale(-most, most, 0.0, 1.0)
    style = "" if shown else " quiet"
    low, high = (percent(scale(end)) for end in bounds)
    return element(
        "svg",
        element("line", class_="track", x1="0%", x2="100%", y1=8, y2=8),
        element("line", class_="guess", x1="50%", x2="50%", y1=1, y2=15),
        element("line", class_=f"whisker{style}", x1=low, x2=high, y1=8, y2=8),
        element("circle", class_=f"dot{style}", cx=percent(scale(value)), cy=8, r=4),
        class_="range",
        aria_hidden="true",
        width="100%",
        height=16,
    )
