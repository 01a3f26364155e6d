"""Trials that train the network: each epoch is reported, and a trial that falls behind is ended there."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import TRAIN, UNASSIGNED, VAL
from headway.evaluation.calibrate import fit_temperature
from headway.evaluation.metrics import score
from headway.events import drain
from headway.settings import FitSettings
from headway.steps import train
from headway.training.balance import shift
from headway.tuning.objective import Outcome, Trying
from headway.world import ALONE

if TYPE_CHECKING:
    from headway.training.finetune import Brief, Prepared, RoadSettings
    from headway.training.heads import Layer
    from headway.tuning.searching import Ground, Judge


@dataclass(frozen=True)
class Trained:
    """A network that was trained on the first part's rest; logits (m, C) of the part held out."""

    prepared: Prepared
    brief: Brief
    road: RoadSettings
    held: NDArray[np.float32]


def judge_network(ground: Ground) -> Judge:
    """How trials of fine-tuning are run. The head that they begin with is solved once."""
    from headway.tuning.searching import Judge

    known: dict[str, tuple[Layer, ...]] = {}
    return Judge(
        lambda settings: _attempt(ground, settings, known),
        lambda settings: (_final(ground, settings, known), _chosen(settings)),
    )


def _attempt(ground: Ground, settings: FitSettings, known: dict[str, tuple[Layer, ...]]) -> Trying:
    with _folder() as place:
        trained = yield from _train(ground, settings, known, Path(place))
    return _outcome(ground, trained, trained.held, ground.parts.turns[0][1], settings)


def _final(ground: Ground, settings: FitSettings, known: dict[str, tuple[Layer, ...]]) -> Outcome:
    """Trained once more, calibrated on the part held out, judged on the validation images."""
    from headway.training.finetune import PLAIN, images
    from headway.training.judging import predict
    from headway.training.task import Rows

    with _folder() as place:
        trained = drain(_train(ground, settings, known, Path(place)))
    val = ground.split.val
    feed = drain(images(ground.dataset, trained.brief, trained.road, val, PLAIN))
    rows = Rows(feed, ground.dataset.labels[val].astype(np.int64))
    logits = predict(trained.prepared.model, rows, trained.road.loop.batch, ALONE)
    return _outcome(ground, trained, logits, val, settings)


def _train(
    ground: Ground, settings: FitSettings, known: dict[str, tuple[Layer, ...]], place: Path
) -> Generator[float, None, Trained]:
    """Train as `roads.teach` does, without a run folder. Yields the metric of the part held out after each epoch."""
    from headway.training import loop
    from headway.training.finetune import Brief, RoadSettings, prepare, rate
    from headway.training.judging import predict

    dataset, sight, (learn, held) = ground.dataset, ground.sight, ground.parts.turns[0]
    subsets = np.full(len(dataset), UNASSIGNED, np.int8)
    subsets[learn], subsets[held] = TRAIN, VAL
    split = replace(ground.split, subsets=subsets)
    session = replace(sight.ready.session, _module=None)  # a network of its own: training changes it
    layers = None
    if settings.head_init == "probe":
        key = f"{settings.head} {settings.l2}"
        if key not in known:
            known[key] = drain(train(dataset, sight, split, settings))[1].head.layers
        layers = known[key]
    brief = Brief(sight.contents, split, sight.ready.preprocess, len(dataset.classes), layers)
    road = RoadSettings.from_settings(settings, session.threads, session.device)
    prepared = drain(prepare(dataset, session.module(), brief, road, place))
    lr, _ = rate(prepared.task, road, None, ALONE)
    steps = loop.train(prepared.task, replace(road.loop, lr=lr), ALONE)
    labels = dataset.labels[held]
    try:
        while True:
            try:
                value = next(steps)
            except StopIteration as end:
                prepared.task.model.load_state_dict(end.value.state)
                break
            if isinstance(value, loop.Epoch) and value.epoch:
                yield _so_far(value, prepared, road, labels, ground.request.metric)
    finally:
        steps.close()
    prepared.task.model.eval()
    logits = predict(prepared.task.model, prepared.task.val, road.loop.batch, ALONE)
    return Trained(prepared, brief, road, logits)


def _so_far(epoch: Any, prepared: Prepared, road: RoadSettings, labels: NDArray[Any], metric: str) -> float:
    if metric == "log-loss":
        return float(epoch.val_loss)
    if metric == "accuracy":
        return float(epoch.val_accuracy)
    from headway.training.judging import predict

    logits = predict(prepared.task.model, prepared.task.val, road.loop.batch, ALONE)
    return Outcome(score(logits, labels), labels).values()[metric]


def _outcome(
    ground: Ground, trained: Trained, logits: NDArray[np.float32], indices: NDArray[np.intp], settings: FitSettings
) -> Outcome:
    """Calibrated, and shifted where `balance` asks for it, on the part held out."""
    learn, held = ground.parts.turns[0]
    own, labels = trained.held, ground.dataset.labels
    if settings.balance == "logit":
        counts = np.bincount(labels[learn], minlength=len(ground.dataset.classes))
        added = shift(counts, fit_temperature(own, labels[held]))
        own, logits = own + added, logits + added
    return Outcome(score(logits, labels[indices], fit_temperature(own, labels[held])), labels[indices])


def _chosen(settings: FitSettings) -> Mapping[str, Any]:
    return {"head": settings.head, "taps": "last", "l2": None}


def _folder() -> tempfile.TemporaryDirectory[str]:
    """For activations of a frozen front, while one trial lasts."""
    return tempfile.TemporaryDirectory(prefix="headway-trial-", ignore_cleanup_errors=True)
