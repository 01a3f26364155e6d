"""`fit --budget`: what is spent is counted, a deadline is kept by an injected clock, the three lines are true."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headway import files
from headway.budgeting import Purse, until
from headway.conflicts import option
from headway.errors import Refused
from headway.events import Event, Line, Progress, drain
from headway.runs import Run, open_run
from headway.settings import FitSettings, fit_settings
from tests import toy


class Hands:
    """A clock that is set by hand: seconds since a process started."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def run_of(folder: Path) -> Iterator[Run]:
    """The run as a process holds it; left, it is another process's."""
    run = open_run(fit_settings(folder, run=folder / "run", budget="2m"))
    with run.lock:
        yield run


def test_purse__a_later_start_goes_on_from_what_was_noted(tmp_path: Path) -> None:
    """20 s, then killed at 50 s: what came after the last note is not known and does not count."""
    hands = Hands()
    with run_of(tmp_path) as first:
        purse = Purse.open(first, hands)
        hands.seconds = 20.0
        purse.note("last", epochs=3)
        hands.seconds = 50.0

    hands.seconds = 4.0
    with run_of(tmp_path) as again:
        later = Purse.open(again, hands)
    assert later.spent == 24.0
    assert later.left == 96.0
    assert later.settled("last") == {"epochs": 3}
    assert later.settled("full") == {}


def slow(hands: Hands, log: list[str]) -> Generator[Event, None, str]:
    """A road of ten steps, ten seconds each."""
    try:
        for number in range(10):
            hands.seconds += 10
            yield Progress("training", number, 10)
        yield Line("trained", "done")
        return "a network"
    finally:
        log.append("left")


@pytest.mark.parametrize(("moment", "found", "seconds"), [(1_000.0, "a network", 100.0), (35.0, None, 40.0)])
def test_until__what_overruns_is_given_up_at_its_next_word(
    moment: float, found: str | None, seconds: float, tmp_path: Path
) -> None:
    hands, log = Hands(), list[str]()
    with run_of(tmp_path) as run:
        assert drain(until(slow(hands, log), Purse.open(run, hands), moment)) == found

    assert hands.seconds == seconds
    assert log == ["left"]


def test_for_road__fine_tuning_by_its_own_defaults() -> None:
    settings = fit_settings("photos", budget="10m", image=96, seed=3, balance="logit")
    for thaw in (1, "all"):
        plain = fit_settings("photos", strategy="finetune", thaw=thaw, image=96, seed=3, balance="logit", epochs=2)

        assert settings.for_road(thaw, 2) == plain


@pytest.mark.parametrize("strategy", ["probe", "finetune", "scratch"])
def test_settings__a_budget_chooses_the_road_itself(strategy: str) -> None:
    with pytest.raises(Refused) as caught:
        fit_settings("photos", budget="10m", strategy=strategy)

    assert str(caught.value) == (
        f"--budget chooses between the roads itself: leave out --strategy {strategy} (or take auto), or leave out "
        "--budget"
    )
    assert fit_settings("photos", budget="10m", strategy="auto").seconds == 600.0


def test_settings__int8_and_a_network_without_weights_have_no_budget() -> None:
    for options, said in (
        (
            {"precision": "int8"},
            "--precision int8 is for a frozen network, and --budget may train it: take fp32 or bf16",
        ),
        (
            {"backbone": "cnn"},
            "--budget begins with what a pretrained network sees, and --backbone cnn has none: leave one out",
        ),
    ):
        with pytest.raises(Refused) as caught:
            fit_settings("photos", budget="10m", **options)
        assert str(caught.value) == said


def test_settings__a_budget_is_written_down_and_asked_for_again() -> None:
    settings = fit_settings("photos", budget="90s")

    assert settings.command() == "headway fit photos --budget 90s"
    assert option("budget") == "--budget"
    assert isinstance(settings, FitSettings)


def noisy(folder: Path, each: int = 60) -> Path:
    """Two classes of stripes in noise, so faint that a random network's features mistake many."""
    random = np.random.default_rng(0)
    for kind, name in enumerate(("across", "down")):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            rows, columns = np.mgrid[:48, :48]
            wave = np.sin((columns if kind else rows) * 0.8 + random.uniform(0, 6)) * 12
            pixels = random.integers(0, 256, (48, 48, 3)) + wave[..., None]
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


BUDGETED = ("--val", "0.4", "--taps", "last", "--budget")


def told(stdout: str, label: str) -> str:
    return next(line[9:] for line in stdout.splitlines() if line.startswith(f"{label:<8} "))


@pytest.mark.slow
def test_fit__three_lines_that_are_true(tmp_path: Path) -> None:
    photos = noisy(tmp_path / "photos")
    done = toy.headway("fit", photos, "--run", "run", *toy.BACKBONE, *BUDGETED, "10m", cwd=tmp_path)
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    tried = evaluation["tried"]
    rows = {row["road"]: row for row in tried["roads"]}

    for label in ("tried", "took", "stopped"):
        assert told(done.stdout, label) == tried[label]
    assert list(rows) == ["probe", "last", "full"]
    assert tried["stopped"] == "every road that a budget tries has been tried"
    kept = next((row for row in reversed(tried["roads"]) if row.get("kept")), rows["probe"])
    assert evaluation["result"]["val"]["accuracy"] == kept["accuracy"]
    assert evaluation["result"]["val"]["loss"] == pytest.approx(kept["log_loss"], abs=1e-6)
    history = list(files.read_csv(tmp_path / "run" / "history.csv"))
    if kept["road"] != "probe":
        assert max(float(row["step"]) for row in history) == kept["epochs"]
        assert float(history[-1]["seconds"]) <= kept["seconds"]
    assert sum(row["seconds"] for row in rows.values()) <= evaluation["result"]["seconds"]["total"] <= 600
    assert evaluation["test_openings"] == 1
    assert not (tmp_path / "run" / ".work").exists()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What the budget was spent on" in page


@pytest.mark.slow
def test_fit__a_road_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    photos = noisy(tmp_path / "photos")
    result = toy.fit(photos, "--run", "run", *BUDGETED, "1s", cwd=tmp_path)
    tried = json.loads((tmp_path / "run" / "evaluation.json").read_text())["tried"]

    assert result["strategy"] == "probe"
    assert [row["road"] for row in tried["roads"]] == ["probe"]
    assert tried["stopped"].startswith("the last stage would take ")
    assert tried["stopped"].endswith(" at the very least, and 0.0 s were left")


@pytest.mark.slow
def test_fit__no_second_process_of_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = toy.headway("fit", tmp_path, "--budget", "1m", cwd=tmp_path, check=2)

    assert done.stderr == "headway: --budget works in one process: leave it out, or start headway without torchrun\n"


@pytest.mark.slow
def test_fit__killed_and_gone_on_with(tmp_path: Path) -> None:
    """Killed while the last stage trains: the same command holds to its epochs, and to the seconds that are spent."""
    photos = noisy(tmp_path / "photos")
    words = ("fit", str(photos), "--run", "run", *toy.BACKBONE, *BUDGETED, "10m", "--checkpoint-every", "0")
    process = subprocess.Popen([sys.executable, "-m", "headway", *words], cwd=tmp_path, stdout=subprocess.DEVNULL)
    checkpoints = tmp_path / "run" / ".work" / "last" / "checkpoints" / "network"
    while process.poll() is None and not list(checkpoints.glob("*.safetensors")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    settled = json.loads((tmp_path / "run" / "resolved.json").read_text())["budget"]

    done = toy.headway(*words, cwd=tmp_path)
    tried = json.loads((tmp_path / "run" / "evaluation.json").read_text())["tried"]
    rows = {row["road"]: row for row in tried["roads"]}
    assert "note     the last stage was begun before and is gone on with\n" in done.stderr
    assert "going on from the checkpoint" in done.stderr or "training had ended" in done.stderr
    assert rows["last"]["epochs"] <= settled["roads"]["last"]["epochs"]
    assert rows["probe"]["seconds"] > settled["spent"] > 0
