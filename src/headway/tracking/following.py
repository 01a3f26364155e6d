"""A run is told to a tracker while it works and when it ends. The run folder stays the truth, whatever happens there.

What a tracker could not take while it was away is told again at the end, from the files of the run; and by the same
command with --run at any later time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from headway.data.wording import shown
from headway.errors import Refused, Stopped
from headway.events import Event, Line, Measured, Note
from headway.machine import version
from headway.runs import Run
from headway.tracking import points
from headway.tracking.points import Ended, Point

_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
_LONGEST = 300  # letters of what a tracker says when it fails


class Tracker(Protocol):
    """Who is told. Every method may raise whatever it likes: the run goes on without it."""

    def begin(self) -> None:
        """Open the tracker's record of the run, or go on with that of an earlier start."""
        ...

    def log(self, told: Sequence[Point]) -> None:
        """Add to the record what it has not yet."""
        ...

    def finish(self, whole: Ended) -> None:
        """The run has ended well: curves, final figures, report and bundle, as far as they are not there yet."""
        ...

    def leave(self, status: str) -> None:
        """The run was stopped ("KILLED") or failed ("FAILED")."""
        ...

    def place(self) -> str:
        """Where to look, for people."""
        ...


def check(name: str) -> None:
    """Raise Refused where the tracker `name` is not installed; nothing is imported for it."""
    package = _PACKAGES.get(name)
    if package is not None and version(package) is None:
        raise Refused(f"--track {name} needs {package}, which is not installed: pip install 'headway[track]'")


def tracked(run: Run, events: Generator[Event, None, dict[str, Any]]) -> Generator[Event, None, dict[str, Any]]:
    """`events` of the run, told to the tracker that its settings ask for. Only the leading process comes here."""
    if run.settings.track == "none":
        return (yield from events)
    try:
        check(run.settings.track)
    except Refused:
        run.discard()
        raise
    watch = _Watch(run, _tracker(run))
    try:
        try:
            while True:
                event = next(events)
                yield event
                yield from watch.hear(event)
        except StopIteration as end:
            result: dict[str, Any] = end.value
        finally:
            events.close()
    except BaseException as error:
        watch.leave("FAILED" if isinstance(error, Exception) and not isinstance(error, Stopped) else "KILLED")
        raise
    yield from watch.finish()
    return result


def _tracker(run: Run) -> Tracker:
    if run.settings.track == "mlflow":
        from headway.tracking.mlflow_runs import MlflowTracker

        return MlflowTracker(run)
    from headway.tracking.event_files import EventFiles

    return EventFiles(run.path)


class _Watch:
    """One tracker, and whether it works.

    It is opened when the data is accepted and split, so a command that is refused leaves no trace in it.
    """

    def __init__(self, run: Run, tracker: Tracker) -> None:
        self.run, self.tracker = run, tracker
        self.begun = self.works = False
        settings = run.settings
        # With a budget it is known at the end which road's curve counts: history.csv tells it then.
        self.part = "head" if settings.strategy == "probe" else "network"
        self.live = settings.budget is None

    def hear(self, event: Event) -> Generator[Event, None, None]:
        if not self.begun and (self.run.path / "split.csv").exists():
            self.begun = True
            yield from self._told_failure(self.tracker.begin)
        if isinstance(event, Measured) and self.works and self.live and event.part == self.part:
            yield from self._told_failure(lambda: self.tracker.log(points.measured(event)))

    def finish(self) -> Generator[Event, None, None]:
        """What is missing, from the files of the run; where that fails too, how to do it later."""
        whole = points.ended(self.run.path, self.run.settings)
        why = "" if self.works else self._attempt(self.tracker.begin)
        why = why or self._attempt(lambda: self.tracker.finish(whole))
        if why:
            command = f"headway fit {self.run.settings.data} ... --run {self.run.path}"
            yield Note(f"the run is complete, but {self._name} does not have all of it: {why}. Later: {command}")
        else:
            yield Line("track", self.tracker.place())

    def leave(self, status: str) -> None:
        if self.works:
            self._attempt(lambda: self.tracker.leave(status))

    def _told_failure(self, act: Callable[[], None]) -> Generator[Event, None, None]:
        why = self._attempt(act)
        if why:
            yield Note(f"{self._name} is not told: {why}. The run goes on, and tells it when it has ended")

    def _attempt(self, act: Callable[[], None]) -> str:
        """Why it failed; "" where it did not."""
        self.works = False  # also where Ctrl-C ends it
        try:
            act()
        except Exception as error:  # whatever a library, a database or a server throws: a run is worth more
            return reason(error)
        self.works = True
        return ""

    @property
    def _name(self) -> str:
        return {"mlflow": "MLflow", "tensorboard": "TensorBoard"}[self.run.settings.track]


def reason(error: Exception) -> str:
    """The first line of what went wrong, without passwords that stand in addresses."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    text = without_password(text).rstrip(".")
    return shown(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


def without_password(text: str) -> str:
    """`text` with what stands before the @ of addresses in it left out."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
