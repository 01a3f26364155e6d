"""The figures about a search: one mark a trial, over its number or over one option. Values in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.reporting.svg import Safe, Scale, element, percent, picture, short, tick_text
from headway.reporting.text import number, shortened

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 352.0, 220.0, 46.0, 12.0, 30.0, 42.0
_SHOWN = 0.85  # share of the trials, from the best, that the axis reaches; worse ones stand at its end


@dataclass(frozen=True)
class Dot:
    """A trial: where it stands (a number or a word), its value, whether it came to its end, whether it is kept."""

    x: float | str
    y: float
    whole: bool = True
    kept: bool = False


@dataclass(frozen=True)
class Axes:
    """What the two axes show. words: places of a categorical axis, in order; log: of the axis below; falling: less is
    better."""

    across: str
    up: str
    falling: bool
    words: tuple[str, ...] = ()
    log: bool = False


def scatter(title: str, axes: Axes, dots: Sequence[Dot], best: Sequence[tuple[float, float]] = ()) -> Safe | None:
    """Dots, the kept one ringed, and where it is given the line of the best so far; None without a dot.

    A trial that was left early is a hollow mark.
    """
    if not dots:
        return None
    floor, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    low, high = _range(dots, axes.falling)
    y = Scale(low, high, floor - 6, _TOP + 6)
    x = _across(axes, dots, end)
    parts = [element("text", title, class_="axis-name strong", x=0, y=12), *_frame(axes, x, y, floor, end)]
    seen: dict[str, int] = {}
    for dot in sorted(dots, key=lambda dot: (dot.kept, dot.whole)):
        at, up = _place(dot, axes, x, seen), y(min(max(dot.y, low), high))
        style = "dot trial" if dot.whole else "dot quiet trial"
        told = element("title", f"{dot.x if isinstance(dot.x, str) else tick_text(dot.x)}: {dot.y:.4g}")
        parts.append(element("circle", told, class_=style, cx=at, cy=up, r=2.6 if dot.whole else 2.0))
        if dot.kept:
            parts.append(element("circle", class_="ring", cx=at, cy=up, r=6.5))
    if len(best) > 1:
        steps = [f"M{short(x(best[0][0]))} {short(y(min(max(best[0][1], low), high)))}"]
        steps += [f"H{short(x(at))}V{short(y(min(max(value, low), high)))}" for at, value in best[1:]]
        parts.append(element("path", class_="curve thin", d="".join(steps)))
    kept = next((dot for dot in dots if dot.kept), None)
    pointed = f" The winner stands at {kept.x if isinstance(kept.x, str) else tick_text(kept.x)}." if kept else ""
    label = f"{title}: {axes.up} of {len(dots)} trials by {axes.across}.{pointed}"
    return picture(label, _WIDTH, _HEIGHT, *parts)


def _range(dots: Sequence[Dot], falling: bool) -> tuple[float, float]:
    """The values at the ends of the axis: from the best to what most trials reach."""
    values = sorted((dot.y for dot in dots if dot.whole), reverse=not falling) or sorted(dot.y for dot in dots)
    far = values[min(len(values) - 1, int(_SHOWN * len(values)))]
    low, high = min(values[0], far), max(values[0], far)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _across(axes: Axes, dots: Sequence[Dot], end: float) -> Scale:
    if axes.words:
        return Scale(-0.5, len(axes.words) - 0.5, _LEFT, end)
    places = [float(dot.x) for dot in dots]
    return Scale(min(places), max(places), _LEFT + 6, end - 6, axes.log)


def _place(dot: Dot, axes: Axes, x: Scale, seen: dict[str, int]) -> float:
    """Dots of one word stand beside each other, in a pattern that is the same every time."""
    if not axes.words:
        return x(float(dot.x))
    word = str(dot.x)
    seen[word] = seen.get(word, 0) + 1
    return x(axes.words.index(word)) + (seen[word] * 7 % 25 - 12) * (x(1) - x(0) if len(axes.words) > 1 else 90) / 40


def _frame(axes: Axes, x: Scale, y: Scale, floor: float, end: float) -> list[Safe]:
    parts = []
    for tick in y.ticks():
        parts.append(element("line", class_="grid", x1=_LEFT, x2=end, y1=y(tick), y2=y(tick)))
        parts.append(element("text", tick_text(tick), class_="tick", x=_LEFT - 6, y=y(tick) + 4, text_anchor="end"))
    parts.append(element("line", class_="axis", x1=_LEFT, x2=end, y1=floor, y2=floor))
    places = [(float(at), shortened(word, 12)) for at, word in enumerate(axes.words)]
    for at, words in places or [(tick, tick_text(tick, log=axes.log)) for tick in x.ticks()]:
        parts.append(element("line", class_="axis", x1=x(at), x2=x(at), y1=floor, y2=floor + 4))
        parts.append(element("text", words, class_="tick", x=x(at), y=floor + 18, text_anchor="middle"))
    parts.append(element("text", axes.across, class_="axis-name", x=end, y=_HEIGHT - 6, text_anchor="end"))
    return parts


def share_bar(share: float) -> Safe:
    """A share of a whole as a bar, one row of a table high; the number is printed beside it."""
    bar = element("rect", class_="bar", x="0%", y=3, width=percent(share), height=10)
    return element("svg", bar, class_="range", aria_hidden="true", width="100%", height=16)


def told_share(share: float) -> str:
    """36 %, as it stands beside the bar."""
    return f"{number(100 * share, 0)} %"
