"""The roads beside the probe: a network is trained on images, and what comes out is looked through like any other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import Dataset, Split
from headway.errors import HeadwayError
from headway.evaluation.calibrate import fit_temperature
from headway.evaluation.compare import paired_test
from headway.evaluation.metrics import score
from headway.events import Event, Line, Note, Progress
from headway.features.looking import look_again, ready_again
from headway.runs import CHECKPOINTS, WORK, Run
from headway.settings import FitSettings
from headway.steps import Account, Made, Seen, Sight, logits_of, train_sample
from headway.telling import told_epoch, told_training
from headway.training.classifier import Classifier
from headway.world import ALONE, World, share

if TYPE_CHECKING:
    from headway.backbones.opening import BackboneSession
    from headway.training.finetune import Brief, Prepared, RoadSettings
    from headway.training.loop import Trained
    from headway.training.probe import Probe


@dataclass(frozen=True)
class Place:
    """Where a training happens: the run's folder and settings, and this process among those that train together.

    lr      the learning rate that an earlier start of the run found, or None
    enough  asked after every step: whether the time for training is used up; None = there is no end to it
    """

    path: Path
    settings: FitSettings
    world: World
    lr: float | None
    enough: Callable[[], bool] | None = None

    @property
    def activations(self) -> Path:
        """For what a frozen front gives; each process has its own."""
        return self.path / WORK / f"activations-{self.world.rank}"


@dataclass(frozen=True)
class Taught:
    """A network that was trained.

    frozen  digest of every frozen parameter and buffer, before and after training
    tried   learning rates and losses of the range test, where there was one
    """

    prepared: Prepared
    trained: Trained
    frozen: Mapping[str, Any]
    lr: float
    tried: tuple[tuple[float, float], ...]
    seconds: float


def take(
    dataset: Dataset,
    seen: Seen,
    split: Split,
    start: Probe | None,
    run: Run,
    world: World = ALONE,
    enough: Callable[[], bool] | None = None,
) -> Generator[Event, None, Made]:
    """Train the network on its images, from the solved head `start` or a random one; then look through it.

    enough  see Place
    """
    from headway.training.finetune import Brief

    layers = start.head.layers if start is not None else None
    brief = share(world, Brief(seen.contents, split, seen.preprocess, len(dataset.classes), layers))
    place = Place(run.path, run.settings, world, share(world, run.resolved.get("lr")), enough)
    taught = yield from teach(dataset, brief, seen.session, place)
    if taught.tried:
        run.resolve({"lr": taught.lr, "lr_tried": [list(pair) for pair in taught.tried]})
    sight, plain = yield from settle(dataset, brief, taught, seen.session, place)
    labels, logits = dataset.labels[split.val], logits_of(plain, sight.features, split.val)
    account = _account(taught, logits, labels, start, run.settings)
    if run.settings.balance == "logit":
        from headway.training.balance import shifted

        counts = np.bincount(dataset.labels[split.train], minlength=len(dataset.classes))
        head, logits = shifted(plain.head, logits, labels, counts)
        plain = replace(plain, head=head)
    return Made(sight, replace(plain, temperature=fit_temperature(logits, labels)), account)


def follow(
    dataset: Dataset, session: BackboneSession, settings: FitSettings, path: Path, world: World
) -> Generator[Event, None, None]:
    """What a process that does not lead does of `take`: its share of every batch."""
    brief: Brief = share(world)
    place = Place(path, settings, world, share(world))
    yield from teach(dataset, brief, session, place)


def teach(dataset: Dataset, brief: Brief, session: BackboneSession, place: Place) -> Generator[Event, None, Taught]:
    """Train the network of `session`: alone, or as one of several processes."""
    from headway.training import loop
    from headway.training.finetune import RoadSettings, loop_key, prepare, rate

    started = time.monotonic()
    road = RoadSettings.from_settings(place.settings, session.threads, session.device)
    prepared = yield from prepare(dataset, session.module(), brief, road, place.activations)
    norms = loop.told_norms(prepared.task.model, road.loop, place.world)
    for text in (*loop.told_conflicts(road.loop), *([norms] if norms else [])):
        yield Note(text)
    whole, trainable = prepared.model.count()
    yield Line("training", told_training(trainable, whole, prepared.fed, road.loop.batch, road.loop.epochs))
    lr, tried = rate(prepared.task, road, place.lr, place.world)
    if tried:
        yield Line("lr", f"{lr:.3g}, found by a range test of {len(tried)} rates")
    before = _frozen(prepared, road)
    key = loop_key(brief, dataset.labels, road)
    kept, loop_settings = place.path / CHECKPOINTS / "network", replace(road.loop, lr=lr)
    steps = loop.train(prepared.task, loop_settings, place.world, kept, key, place.enough)
    trained = yield from _told(steps, road.loop.epochs)
    prepared.task.model.load_state_dict(trained.state)
    prepared.model.to("cpu").eval()
    after = _frozen(prepared, road)
    if after != before:
        raise HeadwayError("a frozen part of the network changed while training. This is a fault of headway.")
    frozen = {"before": before["digest"], "after": after["digest"], "tensors": before["tensors"]}
    return Taught(prepared, trained, frozen, lr, tried, time.monotonic() - started)


def _frozen(prepared: Prepared, road: RoadSettings) -> dict[str, Any]:
    """Digest of what stays frozen from the first step to the last, whatever is thawed between."""
    from headway.training.staged import frozen_digest

    model, now = prepared.model, prepared.model.n_live
    if road.loop.thaw_every:
        model.thaw(1 + (road.loop.epochs - 1) // road.loop.thaw_every)
    found = frozen_digest(model)
    model.thaw(now)
    return found


def _told(steps: Generator[Any, None, Trained], epochs: int) -> Generator[Event, None, Trained]:
    """What the loop yields, as events."""
    from headway.training.history import measured
    from headway.training.loop import Epoch, Resumed, Step

    try:
        while True:
            try:
                value = next(steps)
            except StopIteration as end:
                trained: Trained = end.value
                break
            if isinstance(value, Step):
                yield Progress("training", value.done, value.total, unit=f"batches of epoch {value.epoch}/{epochs}")
            elif isinstance(value, Resumed):
                yield Note(value.text)
            elif isinstance(value, Epoch):
                yield measured("network", value)
                yield Line(f"epoch {value.epoch}/{epochs}", told_epoch(value))
    finally:
        steps.close()  # left before its end, it saves where it stands
    yield Line("trained", trained.why)
    return trained


def settle(
    dataset: Dataset, brief: Brief, taught: Taught, base: BackboneSession, place: Place
) -> Generator[Event, None, tuple[Sight, Classifier]]:
    """Make of a trained network what every road ends in: a graph that engines run, features of it, a Classifier.

    Its temperature is 1 yet.
    """
    from headway.backbones.opening import trained_session
    from headway.backbones.prepare import keep_trained
    from headway.training.head_layers import head_layers
    from headway.training.heads import Head

    model, module, work = taught.prepared.model, taught.prepared.trunk, place.path / WORK
    work.mkdir(exist_ok=True)
    trunk = keep_trained(work / "trained", module, base.facts())
    session = trained_session(work / "cache", trunk, module, base.threads, base.device)
    ready = ready_again(dataset, session, brief.preprocess, work / "cache", place.settings.engine)
    split = brief.split
    parts = (train_sample(brief.contents, split), split.val, split.test, split.unlabelled)
    features, _ = yield from look_again(ready, np.sort(np.concatenate(parts)), work / "cache")
    sight = Sight(ready, features, brief.contents)
    head = Head(place.settings.head, ("last",), head_layers(model.head))
    return sight, Classifier(trunk, brief.preprocess, head, 1.0, tuple(dataset.classes))


def _account(
    taught: Taught, logits: NDArray[np.float32], labels: NDArray[Any], start: Probe | None, settings: FitSettings
) -> Account:
    """How the network came about; `logits` and `labels` of the validation images."""
    from headway.training.history import epoch_rows, selection

    trained, scores = taught.trained, score(logits, labels)
    rows = epoch_rows(trained.epochs, settings.keep, "last")
    chosen = {"strategy": settings.strategy, **selection(settings.head, "last", trained, scores)}
    if start is not None and len(labels) > 1:
        paired = paired_test(scores.loss, score(start.val_logits, labels).loss)
        sentence = paired.sentence("the fine-tuned network", "the probe it began from")
        chosen["why"] += f" On the validation images: {sentence}."
        chosen["paired"] = {"names": ["finetune", "probe"], **paired.to_json()}
    last = trained.epochs[-1]
    training = {
        "epochs": last.epoch,
        "kept": next(row["step"] for row in rows if row["best"]),
        "stopped": trained.stopped,
        "why": trained.why,
        "seconds": round(last.seconds, 3),
        "lr": taught.lr,
        "fed": taught.prepared.fed,
        "micro_batches": [list(change) for change in trained.micro_batches],
    }
    _, trainable = taught.prepared.model.count()
    return Account(settings.strategy, chosen, rows, taught.seconds, trainable, training, taught.frozen)
