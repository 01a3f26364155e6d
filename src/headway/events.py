"""What a command says while it works: small frozen values that `workflow` yields and `terminal` draws."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Opened:
    """The run folder exists. The first event of `fit`; a bug's traceback is written there."""

    run: Path


@dataclass(frozen=True)
class Line:
    """One phase in one line: a label of one word and what there is to say. Further lines of `text` are indented."""

    label: str
    text: str


@dataclass(frozen=True)
class Progress:
    """How far a phase is: `done` of `total`, `set_aside` of them damaged. `total` 0 = not known yet.

    `done == total` ends the bar, which leaves nothing behind: a Line says what came of it.
    """

    label: str
    done: int
    total: int
    set_aside: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Measured:
    """An epoch has ended: what `tracking` tells others while a run works. Nobody draws it: a Line says the same.

    part    "head" or "network": what is trained
    step    the epoch, from 1; 0 = before the first step
    values  column of history.csv → figure; nan where there is none
    """

    part: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Note:
    """Something the user should know though the work goes on; shown with --quiet too."""

    text: str


@dataclass(frozen=True)
class Detail:
    """Something for --verbose only."""

    label: str
    text: str


Event = Opened | Line | Progress | Measured | Note | Detail


def drain(steps: Generator[Any, None, Value]) -> Value:
    """Run a step to its end, its events unheard; what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: Value = end.value
            return value
