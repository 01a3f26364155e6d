"""A run and its tracker: who is refused, who is told when, and that a tracker that fails costs no run."""

from __future__ import annotations

import csv
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.errors import Refused, Stopped
from headway.events import Event, Line, Measured, Note, Opened
from headway.runs import Run, open_run
from headway.settings import FitSettings, from_yaml
from headway.tracking import following
from headway.tracking.following import reason, tracked
from tests import toy
from tests.tracking.conftest import TUNE

RESULT = {"done": True}


@pytest.fixture
def run(finished: Path) -> Iterator[Run]:
    """The finished run, opened by a command that asks for TensorBoard."""
    settings: FitSettings = from_yaml((finished / "settings.yaml").read_text())
    held = open_run(settings.model_copy(update={"run": finished}))
    yield held
    held.lock.close()


def asking(run: Run, **changes: Any) -> Run:
    """The same run with other settings."""
    return replace(run, settings=run.settings.model_copy(update=changes))


def told(events: Generator[Event, None, dict[str, Any]]) -> tuple[list[Event], dict[str, Any]]:
    seen: list[Event] = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def quiet() -> Generator[Event, None, dict[str, Any]]:
    yield Line("head", "solved")
    return RESULT


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_check__says_what_to_install(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "version", lambda package: None)
    following.check("none")
    with pytest.raises(Refused) as caught:
        following.check(name)
    assert str(caught.value) == (
        f"--track {name} needs {package}, which is not installed: pip install 'headway[track]'"
    )


def test_tracked__a_refused_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "version", lambda package: None)
    (tmp_path / "photos").mkdir()
    run = open_run(FitSettings(data=tmp_path / "photos", run=tmp_path / "run", track="mlflow"))
    with run.lock, pytest.raises(Refused):
        told(tracked(run, quiet()))
    assert not (tmp_path / "run").exists()


def test_tracked__without_a_tracker_is_the_run_itself(run: Run) -> None:
    assert told(tracked(asking(run, track="none"), quiet())) == ([Line("head", "solved")], RESULT)
    assert not (run.path / "tensorboard").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard.*")
def test_tracked__a_tracker_that_fails_costs_two_lines(run: Run) -> None:
    (run.path / "tensorboard").write_text("in the way")

    def working() -> Generator[Event, None, dict[str, Any]]:
        yield Measured("network", 1, {"val_loss": 0.5})
        yield Measured("network", 2, {"val_loss": 0.25})
        return RESULT

    seen, result = told(tracked(run, working()))
    notes = [event.text for event in seen if isinstance(event, Note)]

    assert result == RESULT
    assert len(notes) == 2
    assert notes[0].startswith("TensorBoard is not told: ")
    assert notes[0].endswith("The run goes on, and tells it when it has ended")
    assert notes[1].startswith("the run is complete, but TensorBoard does not have all of it: ")
    assert notes[1].endswith(f"Later: headway fit {run.settings.data} ... --run {run.path}")
    assert "\n" not in "".join(notes)


class Recorder:
    """A tracker that writes down what it is called with."""

    def __init__(self, run: Run) -> None:
        self.calls: list[str] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def log(self, told: Any) -> None:
        self.calls.append(f"log {[(point.name, point.step) for point in told]}")

    def finish(self, whole: Any) -> None:
        self.calls.append("finish")

    def leave(self, status: str) -> None:
        self.calls.append(f"leave {status}")

    def place(self) -> str:
        return "here"


def calls(run: Run, events: Generator[Event, None, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a tracker hears of `events`; whatever they raise is heard too."""
    recorder = Recorder(run)
    monkeypatch.setattr(following, "_tracker", lambda run: recorder)
    try:
        told(tracked(run, events))
    except BaseException as error:
        recorder.calls.append(type(error).__name__)
    return recorder.calls


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "KILLED"), (Stopped("memory"), "KILLED"), (ValueError("a fault"), "FAILED")],
)
def test_tracked__how_a_run_ended_badly_is_told(
    error: BaseException, status: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> Generator[Event, None, dict[str, Any]]:
        yield Line("split", "")
        raise error

    assert calls(run, failing(), monkeypatch) == ["begin", f"leave {status}", type(error).__name__]


def test_tracked__nobody_is_told_before_the_data_is_accepted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / "split.csv").unlink()

    def refused() -> Generator[Event, None, dict[str, Any]]:
        yield Opened(run.path)
        raise Refused("too many damaged images")

    assert calls(run, refused(), monkeypatch) == ["Refused"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["begin", "log [('lr', 1)]", "finish"]),
        ({"strategy": "probe"}, ["begin", "log [('lr', 7)]", "finish"]),
        ({"strategy": "probe", "budget": "10m"}, ["begin", "finish"]),
    ],
    ids=["network", "head", "budget"],
)
def test_tracked__epochs_of_what_is_kept_are_told_at_once(
    changes: dict[str, Any], expected: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def working() -> Generator[Event, None, dict[str, Any]]:
        yield Measured("head", 7, {"lr": 0.5})
        yield Measured("network", 1, {"lr": 0.5})
        return RESULT

    assert calls(asking(run, **changes), working(), monkeypatch) == expected


def test_reason__is_one_line_without_passwords() -> None:
    text = "no answer from http://anna:secret@host:5000/api\nTraceback ..."

    assert reason(OSError(text)) == "no answer from http://host:5000/api"
    assert reason(ValueError("x" * 1000)) == "x" * 300 + "..."
    assert reason(ValueError()) == "ValueError"


def test_following__imports_no_tracker() -> None:
    import subprocess

    code = "import headway.tracking.following, sys; print({'mlflow', 'tensorboard', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


@pytest.mark.slow
def test_track__of_two_processes_one_writes(photos: Path, tmp_path: Path) -> None:
    from tests.test_processes import two
    from tests.tracking.test_event_files import scalars

    two(photos, tmp_path, *TUNE, "--run", "two", "--track", "tensorboard")
    with (tmp_path / "two" / "history.csv").open() as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]

    assert [step for step, _ in scalars(tmp_path / "two" / "tensorboard")["val/loss"]] == steps
    writers = {name.split(".")[-2] for name in toy.files_of(tmp_path / "two" / "tensorboard")}
    assert len(writers) == 1  # the number of the process
