"""Work in a notebook: one place that is drawn anew; elsewhere nothing. A real kernel: tests/docs/test_notebooks.py."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.displays.progress import PAUSE, followed, notebook_place
from headway.events import Event, Line, Note, Opened, Progress


class Recorded:
    """A place that keeps all that was shown in it."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, shown: Any) -> None:
        self.shown.append(shown._repr_html_())


def ticking(step: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step


def work(n: int = 1_000) -> Generator[Event, None, str]:
    yield Line("data", "<b>photos</b>  12 images\nignored: 1")
    for done in range(n + 1):
        yield Progress("features", done, n, unit="images")
    yield Note("slow")
    return "made"


def followed_in(place: Recorded, events: Generator[Event, None, str], step: float) -> str:
    clock = ticking(step)
    return followed(events, place, lambda: next(clock))


def test_followed__draws_now_and_then_and_returns_what_was_made() -> None:
    place = Recorded()

    assert followed_in(place, work(), PAUSE / 100) == "made"
    assert 5 < len(place.shown) < 15  # of 1,003 events
    assert '<progress value="' in place.shown[3]
    assert "of 1,000 images" in place.shown[3]


def test_followed__folds_what_was_done() -> None:
    place = Recorded()
    followed_in(place, work(3), PAUSE)

    assert "<details><summary>2 lines of what was done" in place.shown[-1]
    assert "data     &lt;b&gt;photos&lt;/b&gt;  12 images\n         ignored: 1\nnote     slow\n" in place.shown[-1]
    assert "<progress" not in place.shown[-1]


def test_followed__folds_when_the_work_fails_too() -> None:
    def failing() -> Generator[Event, None, str]:
        yield from work(3)
        raise RuntimeError("no disk")

    place = Recorded()
    with pytest.raises(RuntimeError, match="no disk"):
        followed_in(place, failing(), PAUSE)
    assert "<details>" in place.shown[-1]


def test_followed__of_unknown_size_tells_how_far_it_is() -> None:
    def listing() -> Generator[Event, None, str]:
        yield Opened(Path("run"))
        yield Progress("files", 1_234, 0)
        return "listed"

    place = Recorded()
    assert followed_in(place, listing(), PAUSE) == "listed"
    assert "files <progress></progress> 1,234<" in place.shown[0]
    assert ">done in 0 s<" in place.shown[-1]  # no line was told


def test_notebook_place__is_none_outside_of_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    assert notebook_place() is None
    assert followed(work(2)) == "made"
    assert capsys.readouterr().out == ""
