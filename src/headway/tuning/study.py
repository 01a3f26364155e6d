"""Where trials are kept and drawn: a study of Optuna in SQLite or in any database that SQLAlchemy reaches.

Optuna's own messages, progress and warnings of experimental features are kept away: what is said, `searching` says.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import HeadwayError, Refused
from headway.tuning.request import Request

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

FILE = "study.db"
FACTS, WHY = "headway", "why"  # attributes of a trial
_PATIENCE = 60.0  # seconds that SQLite waits for another process
_STARTUP = 10  # trials at random before the sampler learns
_TRIES = 6  # to make the tables: of several processes that begin at once one is first


@dataclass(frozen=True)
class Place:
    """Where a study is kept. address: of SQLAlchemy; told: the same without a password; shared: by other processes."""

    address: str
    told: str
    shared: bool


def check_optuna() -> None:
    """Raise Refused where the extra is missing."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise Refused("headway tune searches with Optuna, which is not installed: pip install 'headway[tune]'")


def place_of(study: str | None, folder: Path) -> Place:
    """Where the trials go. Raises Refused for an address that cannot be understood or whose driver is missing."""
    if study is None:
        return Place(f"sqlite:///{(folder / FILE).absolute()}", str(folder / FILE), shared=False)
    if "://" not in study:
        path = Path(study)
        if path.is_dir() or not path.absolute().parent.is_dir():
            what = "is a folder" if path.is_dir() else f"lies in {path.absolute().parent}, which is no folder"
            raise Refused(f"--study {study} {what}: expected a file (made where it is missing) or an address")
        return Place(f"sqlite:///{path.absolute()}", str(path), shared=True)
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(study)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername=_postgresql())
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        said = study.partition("://")[0]
        raise Refused(
            f"--study {said}://...: no address of a database. Expected a file, or postgresql://USER@HOST/NAME"
        ) from None
    return Place(url.render_as_string(hide_password=False), url.render_as_string(hide_password=True), shared=True)


def _postgresql() -> str:
    from importlib.util import find_spec

    for module, driver in (("psycopg", "postgresql+psycopg"), ("psycopg2", "postgresql+psycopg2")):
        if find_spec(module) is not None:
            return driver
    raise Refused("--study postgresql://... needs a driver for PostgreSQL: pip install 'psycopg[binary]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Neither Optuna's log nor its warnings of experimental features, while this lasts."""
    from optuna.exceptions import ExperimentalWarning

    logger = logging.getLogger("optuna")
    before, handlers = logger.level, list(logger.handlers)
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            yield
        finally:
            logger.setLevel(before)
            logger.handlers[:] = handlers


@contextmanager
def reached(place: Place) -> Iterator[None]:
    """Errors of the database as one readable line."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        why = " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]
        raise HeadwayError(
            f"the study {place.told} cannot be used: {why}. The trials that it holds are kept"
        ) from error


def open_study(place: Place, name: str, request: Request) -> Study:
    """The study `name`, made where it is missing. Raises Refused where the database cannot be reached."""
    import optuna

    return optuna.create_study(
        study_name=name,
        storage=_storage(place),
        direction="minimize" if request.falling else "maximize",
        load_if_exists=True,
        pruner=optuna.pruners.PercentilePruner(25.0, n_startup_trials=_STARTUP, n_min_trials=4),
    )


def _storage(place: Place) -> RDBStorage:
    """The database, its tables made where they are missing: of several processes that begin at once one is first."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    connect = {"timeout": _PATIENCE} if place.address.startswith("sqlite") else {}
    for attempt in range(_TRIES):
        try:
            return optuna.storages.RDBStorage(
                place.address, engine_kwargs={"connect_args": connect, "pool_pre_ping": True}
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError, ImportError) as error:
            cause = error.__cause__ or error
            by_another = any(word in str(cause) for word in ("already exists", "duplicate key"))
            if not by_another or attempt == _TRIES - 1:
                why = " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]
                raise Refused(
                    f"--study {place.told} cannot be used: {why}. Expected a file of SQLite, or a database that is "
                    "running and open to this user"
                ) from error
        time.sleep(0.2 * (attempt + 1))
    raise AssertionError("the last attempt returns or raises")


def reach(place: Place) -> None:
    """Make sure, before anything dear begins, that the study can be kept where it is to be. Raises Refused."""
    _storage(place)


def ask(study: Study, request: Request, place: Place) -> Trial:
    """The next trial. Its draw depends on the seed and the trials before it: a search that was stopped goes on alike.

    Processes that share a study draw apart: each counts its own number in, too.
    """
    import os

    import optuna

    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    count = len(taken(study)) + len(running)
    mixed = [request.base.seed, count, *([os.getpid()] if place.shared else [])]
    seed = int(sum(part * factor for part, factor in zip(mixed, (1_000_003, 1, 7919), strict=False)) % 2**32)
    study.sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=True, n_startup_trials=_STARTUP, constant_liar=place.shared
    )
    return study.ask()


def tidy(study: Study) -> int:
    """Close trials that a process left when it was killed; how many. For a study that no other process uses."""
    import optuna

    left = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    for trial in left:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return len(left)


def taken(study: Study) -> list[FrozenTrial]:
    """Trials that were run: completed, pruned, or failed by themselves; not those of a process that was killed."""
    import optuna

    ended = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False, states=(ended.COMPLETE, ended.PRUNED, ended.FAIL))
    return [trial for trial in trials if trial.state != ended.FAIL or WHY in trial.user_attrs]


def best(trials: Sequence[FrozenTrial], request: Request) -> FrozenTrial:
    """The completed trial with the best value; of equals that with the lower log-loss, then the first.

    Raises HeadwayError where none was completed.
    """
    whole = [trial for trial in trials if trial.value is not None and trial.state.name == "COMPLETE"]
    if not whole:
        raise HeadwayError(
            f"none of {len(trials)} trials came to its end, so nothing can be chosen. Give more --trials"
        )
    sign = 1.0 if request.falling else -1.0
    return min(whole, key=lambda trial: (sign * float(trial.value or 0.0), _log_loss(trial), trial.number))


def _log_loss(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get(FACTS, {}).get("log-loss", float("inf")))


def facts_of(trial: FrozenTrial) -> dict[str, Any]:
    """What headway noted of a trial: options, metrics, seconds; {} where it came to none."""
    return dict(trial.user_attrs.get(FACTS, {}))
