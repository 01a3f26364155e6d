"""Drawing events: aligned lines, a bar on a terminal, plain lines elsewhere, and nothing that commands a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from headway.data.wording import shown
from headway.events import Detail, Event, Line, Note, Opened, Progress

LABEL = 8  # width of the column of labels
FIRST_REPORT, LONGEST_PAUSE = 2.0, 60.0  # seconds between plain progress lines: 2, 4, 8, ... 60


def printable(text: str) -> str:
    """`text` with escapes in place of control characters (line ends aside) and of bytes that are not text."""
    return "\n".join(shown(line) for line in text.split("\n"))


def labelled(label: str, text: str) -> str:
    """`label` in its column and `text` beside it; further lines of `text` stand under its first."""
    return printable(f"{label:<{LABEL}} " + text.replace("\n", "\n" + " " * (LABEL + 1)))


def duration(seconds: float) -> str:
    """In words: 1.1 s, 42 s, 3 min 20 s, 1 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def table(rows: Sequence[Mapping[str, str]], right: Sequence[str] = ()) -> str:
    """`rows` under the names of their columns, each column as wide as it must be; those in `right` flush right."""
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [columns, *([printable(row[column]) for column in columns] for row in rows)]
    widths = [max(len(row[position]) for row in cells) for position in range(len(columns))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


@dataclass
class _Phase:
    """A bar that is being drawn. What came from a cache before it started counts neither for rate nor time left."""

    label: str
    unit: str
    started: float
    first: int
    pause: float = FIRST_REPORT
    reported: float = 0.0
    done: int = 0
    total: int = 0
    bar: Any = None

    def begin_again(self, event: Progress, now: float) -> None:
        """The same work over again, as the next epoch: what lay between counts neither for rate nor time left."""
        self.unit, self.started, self.first, self.reported = event.unit, now, event.done, now

    def told(self, now: float) -> str:
        """done/total, rate and time left."""
        count = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"
        seconds = now - self.started
        rate = (self.done - self.first) / seconds if seconds > 0 else 0.0
        if rate <= 0:
            return count
        left = f", {duration((self.total - self.done) / rate)} left" if self.total else ""
        return f"{count}  {rate:,.{0 if rate >= 10 else 1}f}/s{left}"


@dataclass
class Screen:
    """Where events go. `out` takes the lines that tell the story, `err` bars and warnings.

    quiet    only notes
    verbose  details too
    """

    out: TextIO
    err: TextIO
    quiet: bool = False
    verbose: bool = False
    clock: Callable[[], float] = time.monotonic
    _phase: _Phase | None = field(default=None, init=False)

    def show(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Note):
            self._write(self.err, labelled("note", event.text))
        elif self.quiet:
            return
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Opened):
            if self.verbose:
                self._write(self.out, labelled("run", str(event.run)))
        elif isinstance(event, Line) or (self.verbose and isinstance(event, Detail)):
            self._write(self.out, labelled(event.label, event.text))

    def close(self) -> None:
        """Take away a bar that was not ended."""
        if self._phase is not None and self._phase.bar is not None:
            self._phase.bar.stop()
        self._phase = None

    def _write(self, stream: TextIO, text: str) -> None:
        bar = self._phase.bar if self._phase is not None else None
        if bar is not None:
            bar.stop()  # a line in the midst of a bar would tear it
        stream.write(text + "\n")
        stream.flush()
        if bar is not None:
            bar.start()

    def _progress(self, event: Progress) -> None:
        now = self.clock()
        if self._phase is None or self._phase.label != event.label:
            self.close()
            self._phase = _Phase(event.label, event.unit, now, event.done, reported=now)
            if self.err.isatty():
                self._phase.bar = _Bar(self.err, event.label)
        phase = self._phase
        if event.unit != phase.unit or event.done < phase.done:
            phase.begin_again(event, now)
        phase.done, phase.total = event.done, event.total
        if event.total and event.done >= event.total:
            self.close()  # what came of it is told by a line of the story
        elif phase.bar is not None:
            phase.bar.update(phase)
        elif now - phase.reported >= phase.pause:
            self._write(self.err, labelled(event.label, phase.told(now)))
            phase.reported, phase.pause = now, min(2 * phase.pause, LONGEST_PAUSE)


class _Bar:
    """A rich progress bar that leaves nothing behind."""

    def __init__(self, stream: TextIO, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn(labelled(label, "").rstrip(" ").ljust(LABEL), markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[told]}", markup=False),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, told="")
        self._progress.start()

    def update(self, phase: _Phase) -> None:
        told = phase.told(time.monotonic())
        self._progress.update(self._task, completed=phase.done, total=phase.total or None, told=told)

    def stop(self) -> None:
        self._progress.stop()

    def start(self) -> None:
        self._progress.start()


def write_json(stream: TextIO, value: object) -> None:
    """The one JSON object of `--json`, on one line, as ASCII: names that are not text survive as escapes."""
    stream.write(json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n")
    stream.flush()


def complain(stream: TextIO, text: str) -> None:
    """`headway: text` to `stream`, if anyone still listens there."""
    with suppress(OSError, ValueError):
        stream.write(printable(f"headway: {text}") + "\n")
        stream.flush()
