"""Work that a notebook waits for: one display that is drawn anew, never a line more; elsewhere silence.

IPython's own display is enough for that, so no widgets are needed, and what a saved notebook keeps is plain HTML.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from headway.displays.frame import framed, quiet
from headway.events import Event, Line, Note, Progress, drain
from headway.reporting.svg import Safe, element, joined
from headway.reporting.text import count

Value = TypeVar("Value")

PAUSE = 0.2  # seconds between two drawings


class Place(Protocol):
    """Where a display stands; what is there is replaced."""

    def update(self, shown: Any) -> None: ...


class Shown(str):
    """HTML as a notebook shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<headway>"

    def _repr_html_(self) -> str:
        return str(self)


def notebook_place() -> Place | None:
    """A new place in the cell that runs; None outside of a notebook (a script, a terminal, IPython in one)."""
    if "ipykernel" not in sys.modules:
        return None
    import IPython

    shell = IPython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    place: Place = display(Shown(framed()), display_id=True)  # type: ignore[no-untyped-call]
    return place


def followed(
    events: Generator[Event, None, Value], place: Place | None = None, clock: Callable[[], float] = time.monotonic
) -> Value:
    """Run `events` to their end and return what they return, shown in `place`; None: the cell that runs, if any."""
    place = notebook_place() if place is None else place
    if place is None:
        return drain(events)
    story = _Story(place, clock)
    try:
        while True:
            story.hear(next(events))
    except StopIteration as end:
        value: Value = end.value
        return value
    finally:
        story.end()


class _Story:
    """Lines and the one bar of the phase that runs; folded once it is over."""

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self._place, self._clock = place, clock
        self._lines: list[str] = []
        self._bar: Progress | None = None
        self._began, self._drawn = clock(), float("-inf")

    def hear(self, event: Event) -> None:
        if isinstance(event, Line | Note):
            label, self._bar = (event.label if isinstance(event, Line) else "note"), None
            self._lines.append(f"{label:<8} " + event.text.replace("\n", "\n" + " " * 9))
        elif isinstance(event, Progress):
            self._bar = event if event.done < event.total or not event.total else None
        else:
            return
        now = self._clock()
        if now - self._drawn >= PAUSE:
            self._drawn = now
            self._place.update(Shown(framed(self._now())))

    def end(self) -> None:
        took = f"{self._clock() - self._began:.0f} s"
        if not self._lines:
            self._place.update(Shown(framed(quiet(f"done in {took}"))))
            return
        lines = [one for text in self._lines for one in text.split("\n")]
        told = element("pre", *[joined(one, Safe("\n")) for one in lines])
        head = element("summary", f"{len(self._lines)} lines of what was done, {took}")
        self._place.update(Shown(framed(element("details", head, told))))

    def _now(self) -> Safe:
        bar = self._bar
        if bar is None:
            return element("p", (self._lines or ["at work"])[-1].split("\n")[0])
        of = f" of {count(bar.total)}" if bar.total else ""
        number = f" {count(bar.done)}{of} {bar.unit}".rstrip()
        known = {"value": bar.done, "max": bar.total} if bar.total else {}
        return element("p", f"{bar.label} ", element("progress", "", **known), number)
