"""`headway tune` through the real command line, with the real Optuna, SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from scipy import stats

from tests import make, toy

WORDS = (*toy.BACKBONE, "--views", "none")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make.class_folders(tmp_path / "photos", {"circle": 40, "square": 40, "triangle": 40})


def tune(photos: Path, *words: str | Path, cwd: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(toy.headway("tune", photos, *WORDS, "--json", *words, cwd=cwd).stdout)
    return result


def drawn(run: Path) -> list[tuple[str, Any, Any]]:
    """What was tried, trial by trial."""
    rows = json.loads((run / "tuning.json").read_text())["trials"]
    return [(row["state"], row["drawn"], row["value"]) for row in rows]


@pytest.mark.slow
def test_tune__from_a_folder_to_a_fitted_winner(photos: Path, tmp_path: Path) -> None:
    before = toy.tree_digest(photos)
    run = tmp_path / "run"

    result = tune(photos, "--trials", "25", "--run", run, cwd=tmp_path)

    found = json.loads((run / "tuning.json").read_text())
    assert toy.tree_digest(photos) == before
    assert sum(found["counts"].values()) == 25
    assert found["n"] == {"train": 90, "judged": 90, "val": 12}
    # The winner is the lowest of all completed trials, as SQLite itself tells.
    with sqlite3.connect(run / "study.db") as database:
        lowest = database.execute("SELECT MIN(value) FROM trial_values").fetchone()[0]
        assert database.execute("SELECT COUNT(*) FROM trials").fetchone()[0] == 25
    assert found["winner"]["value"] == pytest.approx(lowest)
    # What was fitted is what won, judged on test images once, and the search said nothing of those.
    settings = (run / "settings.yaml").read_text()
    for name, value in found["winner"]["options"].items():
        assert f"{name}: {value}\n" in settings
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert (evaluation["test_openings"], result["n"]["test"]) == (1, 18)
    assert result["tuning"]["winner"] == found["winner"]
    page = (run / "report.html").read_text()
    assert "What was searched" in page
    assert "25 settings were tried" in page

    # The same command says the same and does nothing again.
    stamps = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert tune(photos, "--trials", "25", "--run", run, cwd=tmp_path) == result
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == stamps


@pytest.mark.slow
def test_tune__killed_and_started_again__goes_on_as_if_nothing_had_happened(photos: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    tune(photos, "--trials", "20", "--run", whole, cwd=tmp_path)
    words = ["tune", str(photos), *WORDS, "--trials", "20", "--run", str(broken)]
    process = subprocess.Popen(
        [sys.executable, "-m", "headway", *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for_trials(broken / "study.db", 6)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / "tuning.json").exists()

    again = toy.headway(*words, cwd=tmp_path)

    assert "going on with a study of" in again.stderr
    assert [row for row in drawn(broken) if row[0] != "fail"] == drawn(whole)
    assert toy.same_bits(broken) == toy.same_bits(whole)


def _wait_for_trials(database: Path, n: int) -> None:
    for _ in range(1200):
        if database.exists():
            try:
                with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as found:
                    done = found.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
                if done >= n:
                    return
            except sqlite3.OperationalError:
                pass  # not there yet
        time.sleep(0.1)
    raise AssertionError(f"{n} trials never came")


@pytest.mark.slow
def test_tune__two_processes_share_a_study_in_postgresql(photos: Path, tmp_path: Path, postgresql: str) -> None:
    words = ["tune", str(photos), *WORDS, "--trials", "30", "--study", postgresql]
    command = [sys.executable, "-m", "headway", *words]
    first = subprocess.Popen(
        [*command, "--run", str(tmp_path / "run"), "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    second = subprocess.Popen(
        [*command, "--join", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    outs = [process.communicate(timeout=250) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outs

    result, joined = (json.loads(out) for out, _ in outs)
    found = json.loads((tmp_path / "run" / "tuning.json").read_text())
    assert joined["name"] == found["study"]["name"]
    address = postgresql.replace("postgresql://", "postgresql+psycopg://")
    storage = optuna.storages.RDBStorage(address)
    try:
        trials = optuna.load_study(study_name=joined["name"], storage=storage).get_trials()
    finally:
        storage.engine.dispose()  # else its connections are found open by whatever test collects them
    workers = {trial.user_attrs["headway"]["worker"] for trial in trials if "headway" in trial.user_attrs}
    assert len(workers) == 2
    assert len(trials) >= 30
    assert result["tuning"]["ran"] + joined["ran"] >= 30
    assert not (tmp_path / "run" / "study.db").exists()


@pytest.mark.slow
def test_tune__fine_tuning_is_pruned_and_fitted(photos: Path, tmp_path: Path) -> None:
    words = ("--strategy", "finetune", "--epochs", "2", "--batch", "16", "--trials", "5", "--run", tmp_path / "run")

    result = json.loads(toy.headway("tune", photos, *toy.BACKBONE, "--json", *words, cwd=tmp_path).stdout)

    found = json.loads((tmp_path / "run" / "tuning.json").read_text())
    assert result["strategy"] == "finetune"
    assert sum(found["counts"].values()) == 5
    assert found["n"]["judged"] == 18  # one part in five of 90
    assert set(found["winner"]["options"]) == {
        *("thaw", "lr", "augment", "layer_decay", "weight_decay", "label_smoothing")
    }
    whole = [row for row in found["trials"] if row["state"] == "complete"]
    assert found["winner"]["value"] == min(row["value"] for row in whole)


@pytest.mark.slow
def test_tune__on_shuffled_labels_nothing_is_shown_to_be_better(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    lines = ["path,label"]
    for number in range(200):
        make.write(tmp_path / "images" / f"{number}.png", make.png(number % 3, number))
        lines.append(f"images/{number}.png,{'ab'[rng.integers(2)]}")
    manifest = make.write(tmp_path / "labels.csv", "\n".join(lines).encode())
    words = ("--trials", "30", "--metric", "accuracy", "--val", "0.3", "--run", tmp_path / "run")

    tune(manifest, *words, cwd=tmp_path)

    found = json.loads((tmp_path / "run" / "tuning.json").read_text())
    # The selected maximum is above one half; the images that had no part in the selection know better.
    judged = found["winner"]["judged"]
    right = round(judged["accuracy"] * judged["n"])
    assert stats.binomtest(right, judged["n"], 0.5).pvalue > 1e-3
    assert found["paired"]["accuracy"]["better"] is None
    assert found["winner"]["value"] > judged["accuracy"]
    assert "flatters it" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trials", "0"), "--trials 0: expected a whole number of 1 or more"),
        (
            ("--metric", "acuracy"),
            "--metric acuracy: expected log-loss, accuracy or balanced-accuracy. Did you mean accuracy ?",
        ),
        (("--strategy", "scratch"), "--strategy scratch: expected probe or finetune: a search is over one of the two"),
        (("--budget", "soon"), "--budget soon: expected a time as 90s, 10m or 2h"),
        (("--join",), "--join needs the --study of the search to take part in: a file, or the address of a database"),
        (("--views", "mirror"), "--views mirror: expected flip, or a whole number from 1 to 100 (random crops)"),
        (
            ("--study", "oracel://me@there/x"),
            "--study oracel://...: no address of a database. Expected a file, or postgresql://USER@HOST/NAME",
        ),
        (
            ("--study", "."),
            "--study . is a folder: expected a file (made where it is missing) or an address",
        ),
    ],
)
def test_tune__wrong_words_are_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", {"circle": 4, "square": 4})

    done = toy.headway("tune", "photos", *words, cwd=tmp_path, check=2)

    assert done.stderr == f"headway: {said}\n"
    assert toy.files_of(tmp_path) == {f"photos/{name}/{n:04d}.jpg" for name in ("circle", "square") for n in range(4)}
