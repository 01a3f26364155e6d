"""The steps of `headway tune`: see the images once, run trials, judge the winner on images that none of them saw."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headway import auditing, files
from headway.data.dataset import Dataset, Split
from headway.data.split import check_damage
from headway.errors import HeadwayError, Refused
from headway.events import Detail, Event, Line, Note, Progress
from headway.features.looking import look_again
from headway.features.views import parse_views
from headway.machine import cache_folder
from headway.settings import FitSettings
from headway.steps import Sight
from headway.tuning import record, space, study
from headway.tuning.objective import Outcome, Parts, Table, divide, judge_head, try_head
from headway.tuning.request import Request

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from headway.training.probe_data import Columns

_HOPELESS = 20  # trials that fail by themselves, one after the other, before the search gives up


@dataclass(frozen=True)
class Ground:
    """What every trial stands on: the data as it was seen, how training images are divided, their features."""

    dataset: Dataset
    sight: Sight
    split: Split
    parts: Parts
    table: Table
    request: Request

    @property
    def several_taps(self) -> bool:
        """Whether the network shows more than its last features."""
        return len(self.table.taps) > 1

    def name(self) -> str:
        """The name of the study: a digest of all that a trial's value depends on, so that only like trials meet."""
        dataset, request = self.dataset, self.request
        base = request.base.model_dump(
            mode="json", exclude={"data", "run", "threads", "workers", "engine", "device", "offline", "map"}
        )
        facts = {
            "space": space.VERSION,
            "images": files.digest_bytes(np.ascontiguousarray(self.sight.contents.digests).tobytes()),
            "labels": [list(dataset.classes), files.digest_bytes(dataset.labels.astype(np.int64).tobytes())],
            "split": files.digest_bytes(self.split.subsets.tobytes()),
            "held": [files.digest_bytes(held.astype(np.int64).tobytes()) for _, held in self.parts.turns],
            "search": [request.metric, request.views, sorted(set(request.typed) - {"run"})],
            "settings": {name: str(value) for name, value in base.items() if name != "split"},
        }
        return f"headway-{files.digest_json(facts)[:16]}"


def look(dataset: Dataset, request: Request) -> Generator[Event, None, Ground]:
    """One pass over the images, one more for each view of the training images; then how trials are judged."""
    cache = cache_folder()
    sight = yield from auditing.look(dataset, request.base, cache)
    check_damage(dataset, sight.contents, allow_bad=request.base.allow_bad)
    split, why = auditing.divide(dataset, sight.contents, request.base)
    if split is None:
        raise Refused(why)
    views: list[Columns] = []
    for number, view in enumerate(parse_views(request.views, request.base.seed), start=1):
        seen, _ = yield from look_again(sight.ready, split.train, cache, view=view)
        views.append(seen.columns)
        yield Detail(
            "views", f"{number} of {request.views}: {seen.computed:,} computed, {seen.reused:,} from the cache"
        )
    network = request.base.strategy == "finetune"
    parts = divide(dataset, sight, split, request.base.seed, once=network)
    table = Table.of(sight, split, views, len(dataset))
    how = f"held out in {len(parts.turns)} parts in turn" if len(parts.turns) > 1 else "held out"
    yield Line(
        "search",
        f"trials learn from {len(split.train):,} training images, {parts.judged:,} of them {how}; "
        f"{len(split.val):,} validation images judge the winner, {len(split.test):,} test images the end",
    )
    return Ground(dataset, sight, split, parts, table, request)


@dataclass(frozen=True)
class Judge:
    """How one kind of trial is run and how its winner is judged.

    attempt  settings → the metric after each part or epoch, then the outcome
    final    settings → the outcome on the validation images, and "selection"
    """

    attempt: Callable[[FitSettings], Generator[float, None, Outcome]]
    final: Callable[[FitSettings], tuple[Outcome, Mapping[str, Any]]]


@dataclass(frozen=True)
class Spent:
    """What this process did of a search: trials, and seconds."""

    ran: int
    seconds: float


def judge_of(ground: Ground) -> Judge:
    """Heads on features, or the network itself."""
    import torch

    torch.set_num_threads(ground.sight.ready.session.threads)  # last bits of products depend on them
    if ground.request.base.strategy == "finetune":
        from headway.tuning.network import judge_network

        return judge_network(ground)
    dataset, parts, table, metric = ground.dataset, ground.parts, ground.table, ground.request.metric
    return Judge(
        lambda settings: try_head(table, dataset, parts, settings, metric),
        lambda settings: judge_head(table, dataset, parts, ground.split, settings),
    )


def run_trials(ground: Ground, judge: Judge, kept: Study, place: study.Place) -> Generator[Event, None, Spent]:
    """Trials until there are enough of them or the time is over, other processes' trials counted too."""
    request, started = ground.request, time.monotonic()
    before = len(study.taken(kept))
    if before:
        yield Note(f"going on with a study of {before:,} trials: {place.told}")
    lost = ran = 0
    while True:
        done = len(study.taken(kept))
        over = request.seconds is not None and time.monotonic() - started >= request.seconds
        if done >= request.trials or over:
            break
        yield Progress("search", done, request.trials, unit="trials")
        trial = study.ask(kept, request, place)
        ended = yield from _run(ground, judge, kept, trial)
        lost, ran = 0 if ended else lost + 1, ran + 1
        if lost == _HOPELESS:
            why = study.taken(kept)[-1].user_attrs.get(study.WHY)
            raise HeadwayError(f"{_HOPELESS} trials one after the other failed, the last one so: {why}")
    yield Progress("search", done, done, unit="trials")
    if over and done < request.trials:
        yield Note(f"the search ended by --budget after {done:,} of {request.trials:,} trials")
    return Spent(ran, time.monotonic() - started)


def _run(ground: Ground, judge: Judge, kept: Study, trial: Trial) -> Generator[Event, None, bool]:
    """One trial: whether it came to a value, its own or that of the point where it was pruned."""
    import optuna

    request, state, began = ground.request, optuna.trial.TrialState, time.monotonic()
    options = space.propose(trial, request, several_taps=ground.several_taps)
    facts: dict[str, Any] = {"options": options, "worker": f"{platform.node()}:{os.getpid()}"}
    trying = judge.attempt(request.settings(options))
    outcome, value, step = None, float("nan"), 0
    try:
        while outcome is None:
            try:
                value = next(trying)
            except StopIteration as end:
                outcome = end.value
                break
            step += 1
            trial.report(value, step)
            if trial.should_prune():
                break
    except (HeadwayError, MemoryError) as error:
        trial.set_user_attr(study.WHY, str(error) or "not enough memory")
        kept.tell(trial, state=state.FAIL)
        yield Detail("trial", f"{trial.number}: {record.spelt(options)} failed: {error}")
        return False
    finally:
        trying.close()
    facts["seconds"] = round(time.monotonic() - began, 4)
    if outcome is None:
        trial.set_user_attr(study.FACTS, {**facts, "parts": step})
        kept.tell(trial, state=state.PRUNED)
        yield Detail("trial", f"{trial.number}: {record.spelt(options)} left at {request.metric} {value:.4f}")
        return True
    values = outcome.values()
    trial.set_user_attr(study.FACTS, {**facts, **values})
    kept.tell(trial, values[request.metric])
    yield Detail("trial", f"{trial.number}: {record.spelt(options)}: {request.metric} {values[request.metric]:.4f}")
    return True


def begin(ground: Ground, judge: Judge, kept: Study) -> None:
    """Let the first trial be what the usual settings come to, so that a search never ends below them unknowingly."""
    request = ground.request
    if request.base.strategy == "finetune" or kept.get_trials(deepcopy=False):
        return
    first = request.settings({})
    _, chosen = judge.final(first)
    seen = _Seen()
    space.propose(seen, request, several_taps=ground.several_taps)
    kept.enqueue_trial(space.plain(seen.names, request, chosen), skip_if_exists=True)


class _Seen:
    """A draw that takes the first of everything, to see which names there are."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.names[name] = choices[0]
        return choices[0]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.names[name] = low
        return low

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.names[name] = low
        return low


def conclude(
    ground: Ground, judge: Judge, kept: Study, place: study.Place, spent: Spent
) -> Generator[Event, None, dict[str, Any]]:
    """The winner and the usual settings on the validation images, once each; what tuning.json holds."""
    request = ground.request
    trials = study.taken(kept)
    winner = study.best(trials, request)
    options = dict(study.facts_of(winner)["options"])
    yield Detail("search", f"trial {winner.number} and the usual settings are judged on the validation images")
    ours, _ = judge.final(request.settings(options))
    usual, chosen = judge.final(request.settings({}))
    found = record.facts(
        request, trials, winner, (ours, usual), n_train=len(ground.split.train), judged=ground.parts.judged
    )
    found |= {
        "study": {"place": place.told, "name": kept.study_name},
        "seconds": round(spent.seconds, 2),
        "ran": spent.ran,
        "usual": {**found["usual"], "chosen": {name: chosen.get(name) for name in ("head", "taps", "l2")}},
        "command": request.settings(options).command(),
    }
    with study.quiet():
        found["importance"] = importance(kept, trials, winner)
    yield from record.tell(found)
    return found


def importance(kept: Study, trials: Sequence[FrozenTrial], winner: FrozenTrial) -> dict[str, float]:
    """How much of the spread of values each option explains, among completed trials that have the winner's options.

    By fANOVA (Hutter, Hoos and Leyton-Brown 2014), as Optuna has it; {} where there are too few to tell.
    """
    import optuna

    names = set(winner.params)
    alike = [
        trial
        for trial in trials
        if trial.state == optuna.trial.TrialState.COMPLETE
        and set(trial.params) == names
        and trial.params.get("head") == winner.params.get("head")
    ]
    if len(alike) < record.FEWEST or len({trial.value for trial in alike}) < 2:
        return {}
    among = optuna.create_study(direction=kept.direction)
    among.add_trials(alike)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(among, evaluator=evaluator)
    return {name: float(share) for name, share in found.items() if name != "head"}
