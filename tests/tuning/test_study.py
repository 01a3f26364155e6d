"""The study: real Optuna on real SQLite, silenced; draws that go on alike; addresses that tell no password."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from headway.errors import HeadwayError, Refused
from headway.tuning import study
from headway.tuning.request import Request, read_request


@pytest.fixture
def request_() -> Request:
    return read_request("photos", views="none")


def _run(kept: optuna.Study, request: Request, place: study.Place, n: int) -> list[float]:
    """So many trials of a parabola; what was drawn."""
    drawn = []
    for _ in range(n):
        trial = study.ask(kept, request, place)
        drawn.append(trial.suggest_float("x", -1, 1))
        kept.tell(trial, drawn[-1] ** 2)
    return drawn


def test_ask__a_study_that_was_stopped_goes_on_with_the_same_draws(tmp_path: Path, request_: Request) -> None:
    with study.quiet():
        whole = study.place_of(str(tmp_path / "whole.db"), tmp_path)
        broken = study.place_of(None, tmp_path)
        alone = study.Place(whole.address, whole.told, shared=False)
        unbroken = _run(study.open_study(alone, "one", request_), request_, alone, 16)

        first = _run(study.open_study(broken, "one", request_), request_, broken, 7)
        study.ask(study.open_study(broken, "one", request_), request_, broken)  # killed in the middle
        again = study.open_study(broken, "one", request_)
        assert study.tidy(again) == 1
        second = _run(again, request_, broken, 9)

    assert first + second == unbroken
    assert len(set(unbroken)) == 16
    assert len(study.taken(again)) == 16


def test_taken__what_failed_by_itself_counts_and_draws_anew(tmp_path: Path, request_: Request) -> None:
    place = study.place_of(None, tmp_path)
    with study.quiet():
        kept = study.open_study(place, "one", request_)
        drawn = []
        for _ in range(3):
            trial = study.ask(kept, request_, place)
            drawn.append(trial.suggest_float("x", -1, 1))
            trial.set_user_attr(study.WHY, "diverged")
            kept.tell(trial, state=optuna.trial.TrialState.FAIL)

    assert len(set(drawn)) == 3
    assert len(study.taken(kept)) == 3
    with pytest.raises(HeadwayError, match="none of 3 trials came to its end"):
        study.best(study.taken(kept), request_)


def test_quiet__nothing_of_optuna_is_heard_and_its_log_is_as_before(tmp_path: Path) -> None:
    script = (
        "import warnings; warnings.simplefilter('error')\n"
        "from pathlib import Path\n"
        "from headway.tuning import study\n"
        "from headway.tuning.request import read_request\n"
        "request = read_request('photos', views='none')\n"
        f"place = study.place_of(None, Path({str(tmp_path)!r}))\n"
        "with study.quiet():\n"
        "    kept = study.open_study(place, 'one', request)\n"
        "    for _ in range(14):\n"
        "        trial = study.ask(kept, request, place)\n"
        "        kept.tell(trial, trial.suggest_float('x', 0, 1))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    logger = logging.getLogger("optuna")
    before = (logger.level, list(logger.handlers))
    with study.quiet():
        assert logger.level == logging.CRITICAL
    assert (logger.level, logger.handlers) == before


def test_place_of__no_password_is_told() -> None:
    place = study.place_of("postgresql://me:secret@there:5433/studies", Path())

    assert place.address == "postgresql+psycopg://me:secret@there:5433/studies"
    assert place.told == "postgresql+psycopg://me:***@there:5433/studies"
    assert place.shared


def test_reach__a_database_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    place = study.place_of(f"postgresql://me:secret@/studies?host={tmp_path}", tmp_path)

    with study.quiet(), pytest.raises(Refused) as refused:
        study.reach(place)

    assert str(refused.value).startswith("--study postgresql+psycopg://me:***@/studies?host=")
    assert "No such file or directory" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_reach__a_file_that_is_no_study_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, though a file\n" * 40)
    place = study.place_of(str(tmp_path / "notes.txt"), tmp_path)

    with study.quiet(), pytest.raises(Refused) as refused:
        study.reach(place)

    assert str(refused.value) == (
        f"--study {tmp_path / 'notes.txt'} cannot be used: file is not a database. Expected a file of SQLite, or a "
        "database that is running and open to this user"
    )
    assert (tmp_path / "notes.txt").read_text() == "not a database, though a file\n" * 40
