"""The steps of `fit`, each from values to values. workflow.fitting puts them in order."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones.preprocess import Preprocess
from headway.data.dataset import TEST, TRAIN, UNLABELLED, VAL, Contents, Dataset, Split
from headway.data.split import check_damage, make_split, read_split, write_split
from headway.evaluation.evaluation import Evaluation, evaluate
from headway.events import Event, Line, Note, drain
from headway.exports import Samples
from headway.features.extract import Features, extract
from headway.features.looking import (
    Asked,
    Ready,
    get_ready,
    look_again,
    open_session,
    plain_preprocess,
    prepared_images,
    read_all,
)
from headway.features.views import parse_views
from headway.machine import cache_folder, memory_bytes
from headway.quality.audit import audit
from headway.results import Judged, told_mistakes
from headway.runs import Run
from headway.settings import FitSettings
from headway.telling import told_backbone, told_features, told_network, told_split, told_uneven
from headway.training.classifier import Classifier
from headway.world import ALONE, World, gather, share

if TYPE_CHECKING:
    from headway.advice.evidence import Evidence
    from headway.backbones.opening import BackboneSession
    from headway.training.probe import Probe, ProbeData
    from headway.training.probe_data import Columns

TRAIN_JUDGED = 10_000  # training images that are judged at the end beside validation and test, chosen by content
PARITY_IMAGES = 32  # real validation images that a bundle is held against torch on; one batch of the engines


@dataclass(frozen=True)
class Seen:
    """What a pass over the images shows whether or not a network looked: enough to split them and to train one."""

    session: BackboneSession
    preprocess: Preprocess
    contents: Contents


@dataclass(frozen=True)
class Sight:
    """What one pass gave: the backbone it looked through, the features, and what was seen of each file."""

    ready: Ready
    features: Features
    contents: Contents

    @property
    def seen(self) -> Seen:
        """The same without the features."""
        return Seen(self.ready.session, self.ready.preprocess, self.contents)


@dataclass(frozen=True)
class Account:
    """How a classifier came about, for the record.

    chosen    "selection" of evaluation.json;  history  rows of history.csv, column → value
    training  epochs, kept, stopped, why, seconds where a network was trained; else None
    frozen    digests of what was not to move: before, after, tensors
    tried     with a budget: every road that was tried, what it took, why it stopped; else None
    """

    strategy: str
    chosen: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    seconds: float
    trainable: int
    training: Mapping[str, Any] | None = None
    frozen: Mapping[str, Any] | None = None
    tried: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Made:
    """What a road ends in: a network that looks, the classifier on it, and how it came about.

    evidence  what the pretrained features say of the data, where the road began with them
    """

    sight: Sight
    classifier: Classifier
    account: Account
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Judgement:
    """Some training images, validation and test set judged, and every logit that was needed for it."""

    train: Evaluation
    val: Evaluation
    test: Evaluation
    parts: tuple[Judged, ...]
    mistakes: list[dict[str, Any]]


@contextmanager
def working_cache(run: Path, no_cache: bool) -> Iterator[Path]:
    """The user's cache; with --no-cache one of the run's own, gone when the run ends."""
    if not no_cache:
        yield cache_folder()
        return
    own = run / ".cache"
    own.mkdir(exist_ok=True)
    yield own
    shutil.rmtree(own)  # after a failure it stays: the same command goes on from it


def needs_features(settings: FitSettings) -> bool:
    """Whether the road begins with what the pretrained network sees: the probe, and fine-tuning from it."""
    return settings.strategy != "scratch" and (settings.strategy != "finetune" or settings.head_init == "probe")


def see(
    dataset: Dataset,
    settings: FitSettings,
    run: Run,
    cache: Path,
    world: World = ALONE,
    calibration: NDArray[np.intp] | None = None,
) -> Generator[Event, None, tuple[Seen, Sight | None]]:
    """One pass over the images: through the network where the road begins with features, else by reading alone.

    calibration  training samples by which the network becomes int8; None = fp32
    """
    if not needs_features(settings):
        seen = yield from survey(dataset, settings, run, cache)
        return seen, None
    sight = yield from look(dataset, settings, run, cache, world, calibration)
    return sight.seen, sight


def see_along(
    dataset: Dataset, settings: FitSettings, cache: Path, world: World
) -> Generator[Event, None, BackboneSession]:
    """What a process that does not lead does of `see`: its share of the pass; which network is trained, and on what."""
    if needs_features(settings):
        return (yield from look_along(dataset, settings, cache, world))
    return open_session(asked(settings), cache)


def look(
    dataset: Dataset,
    settings: FitSettings,
    run: Run,
    cache: Path,
    world: World = ALONE,
    calibration: NDArray[np.intp] | None = None,
) -> Generator[Event, None, Sight]:
    """Open the backbone, settle what decides bits, write that down, and run the network once over every image.

    Of several processes each looks at its share; then the leader finds every row in the store that they have in common.
    """
    every, mine = np.arange(len(dataset), dtype=np.intp), _share(dataset, world)
    settled = run.resolved.get("engine", {}).get("name")
    with get_ready(dataset, mine, asked(settings), cache, settled, calibration) as ready:
        facts = ready.facts()
        if ready.left_int8:
            yield Note(f"{settings.backbone} stays in fp32: {ready.left_int8}")
        run.resolve({**facts, "seed": settings.seed, "prepare_seconds": round(ready.seconds, 3)})
        yield Line("backbone", told_backbone(facts, ready.seconds))
        share(world, ready.choice.name)
        features, contents = yield from extract(
            ready.readings, mine, len(dataset), ready.store, ready.engine, ready.batch
        )
        computed = sum(gather(world, features.computed))
        if world.size > 1:
            seconds = features.seconds
            features, contents = yield from look_again(ready, every, cache)
            computed += features.computed  # where the processes have no store in common
            reused = int(contents.accepted.sum()) - computed
            features = replace(features, computed=computed, reused=reused, seconds=seconds + features.seconds)
    dims = [tap.dim for tap in features.taps]
    rate = features.images_per_second
    yield Line("features", told_features(features.computed, features.reused, features.seconds, rate, dims))
    return Sight(ready, features, contents)


def look_along(
    dataset: Dataset, settings: FitSettings, cache: Path, world: World
) -> Generator[Event, None, BackboneSession]:
    """What a process that does not lead does of `look`: its share of the images, by the same engine."""
    mine = _share(dataset, world)
    settled: str = share(world)
    with get_ready(dataset, mine, asked(settings), cache, settled) as ready:
        features, _ = yield from extract(ready.readings, mine, len(dataset), ready.store, ready.engine, ready.batch)
    gather(world, features.computed)
    return ready.session


def _share(dataset: Dataset, world: World) -> NDArray[np.intp]:
    """The samples that this process looks at: every so many-th, or, where neighbours lie in one large file, a run."""
    every = np.arange(len(dataset), dtype=np.intp)
    return np.array_split(every, world.size)[world.rank] if dataset.in_order else every[world.rank :: world.size]


def survey(dataset: Dataset, settings: FitSettings, run: Run, cache: Path) -> Generator[Event, None, Seen]:
    """Read every image once, for a network that is yet to be trained."""
    session = open_session(asked(settings), cache)
    preprocess = plain_preprocess(dataset, session, asked(settings))
    backbone = {"name": settings.backbone, "weights": {"origin": session.weights.origin}}
    run.resolve(
        {"backbone": backbone, "preprocess": preprocess.to_json(), "threads": session.threads, "seed": settings.seed}
    )
    yield Line("backbone", told_network(settings.backbone, session.weights.origin, preprocess.size))
    contents = yield from read_all(dataset, preprocess, cache, session.threads)
    return Seen(session, preprocess, contents)


def asked(settings: FitSettings) -> Asked:
    """The part of the options that says how images are looked at."""
    values = {name: getattr(settings, name) for name in Asked.__dataclass_fields__}
    return Asked(**{**values, "weights": settings.start_weights})


def divide(dataset: Dataset, contents: Contents, settings: FitSettings, run: Run) -> Split:
    """Refuse data that is too damaged; else decide which image is used for what, and write it down."""
    files.write_json(run.path / "audit.json", audit(dataset, contents, None))
    check_damage(dataset, contents, allow_bad=settings.allow_bad, listed=run.path / "audit.json")
    keep = read_split(settings.split) if settings.split is not None else None
    split = make_split(dataset, contents, seed=settings.seed, val=settings.val, test=settings.test, keep=keep)
    files.write_json(run.path / "audit.json", audit(dataset, contents, split))
    write_split(run.path / "split.csv", dataset, contents, split)
    return split


def tell_split(dataset: Dataset, contents: Contents, split: Split, balance: str) -> Iterator[Event]:
    """The lines about the split, where there is something to tell."""
    lines = told_split(dataset, contents, split)
    if uneven := told_uneven(dataset, split, balance):
        lines.append(uneven)
    if lines:
        yield Line("split", "\n".join(lines))


def train(
    dataset: Dataset, sight: Sight, split: Split, settings: FitSettings, folder: Path | None = None
) -> Generator[Event, None, tuple[Classifier, Probe]]:
    """Solve the head on features of training images, everything chosen on validation images.

    folder  for checkpoints, where the head is trained by epochs, and for a scratch file where memory is short
    """
    # Here and not above: it imports torch, and decoding should be under way by then.
    import torch

    from headway.training.probe import HeadSettings, probe

    torch.set_num_threads(sight.ready.session.threads)  # its products' last bits depend on them

    views = []
    for view in parse_views(settings.views, settings.seed) if settings.strategy == "probe" else ():
        seen, _ = yield from look_again(sight.ready, split.train, sight.ready.session.cache, view=view)
        views.append(seen.columns)
    data = probe_data(dataset, sight, split, views)
    head = HeadSettings.from_settings(settings if settings.strategy == "probe" else settings.for_head())
    found = yield from probe(data, head, folder)
    classifier = Classifier(
        sight.ready.trunk, sight.ready.preprocess, found.head, found.temperature, tuple(dataset.classes)
    )
    return classifier, found


def probe_data(dataset: Dataset, sight: Sight, split: Split, views: Sequence[Columns] = ()) -> ProbeData:
    """What a head is trained on and chosen by. views: features of the training images under each of them."""
    from headway.training.probe import ProbeData

    return ProbeData(
        columns=sight.features.columns,
        labels=dataset.labels,
        train=split.train,
        val=split.val,
        taps=tuple((tap.name, tap.dim) for tap in sight.features.taps),
        n_classes=len(dataset.classes),
        views=views,
        memory=memory_bytes(),
        groups=dataset.groups,
    )


def account(found: Probe, classifier: Classifier) -> Account:
    """How the probe came about. The network is a file that nothing trained: its digest is proved once more."""
    before = classifier.trunk.facts["tensors_digest"]
    frozen = {"before": before, "after": files.digest_file(classifier.trunk.tensors), "tensors": None}
    trainable = sum(layer.weight.size + layer.bias.size for layer in classifier.head.layers)
    return Account("probe", found.chosen, found.history, found.seconds, trainable, None, frozen)


def judge(dataset: Dataset, sight: Sight, split: Split, classifier: Classifier, seed: int) -> Judgement:
    """Every choice is made: open the test set, once."""
    sample = train_sample(sight.contents, split)
    parts = tuple(
        Judged(subset, indices, logits_of(classifier, sight.features, indices))
        for subset, indices in ((TRAIN, sample), (VAL, split.val), (TEST, split.test), (UNLABELLED, split.unlabelled))
    )
    train_counts = np.bincount(dataset.labels[split.train], minlength=len(dataset.classes))
    train, val, test = (
        evaluate(
            part.logits,
            dataset.labels[part.indices],
            dataset.classes,
            temperature=classifier.temperature,
            seed=seed,
            train_counts=train_counts,
            groups=dataset.groups[part.indices] if dataset.groups is not None else None,
        )
        for part in parts[:3]
    )
    return Judgement(train, val, test, parts[1:], told_mistakes(dataset, parts[2], classifier.temperature))


def train_sample(contents: Contents, split: Split) -> NDArray[np.intp]:
    """Training images to judge beside validation and test: all, or `TRAIN_JUDGED` of them chosen by content."""
    return chosen_by_content(contents, split.train, TRAIN_JUDGED)


def chosen_by_content(contents: Contents, indices: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """At most `n` of the samples `indices`, ascending; which ones depends on their contents alone."""
    digests = np.ascontiguousarray(contents.digests[indices]).view("S32").reshape(-1)
    return np.sort(indices[np.argsort(digests, kind="stable")[:n]])


def logits_of(
    classifier: Classifier, features: Features, indices: NDArray[np.intp], block: int = 8192
) -> NDArray[np.float32]:
    """Logits (n, C) of samples from their features, read a block at a time so that memory stays bounded."""
    head = classifier.head
    blocks = [
        head.logits(features.columns(head.taps, indices[start : start + block]))
        for start in range(0, len(indices), block)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, len(classifier.classes)), np.float32)


def parity_samples(sight: Sight, indices: NDArray[np.intp], classifier: Classifier) -> Samples:
    """Real images of `indices`, chosen by content, and the logits that torch gives them: what a bundle is held against.

    Torch's features are kept in the store like any other engine's, so a warm run needs no torch network. In int8 the
    reference is what the head was trained on: the features that the pass gave.
    """
    chosen = chosen_by_content(sight.contents, indices, PARITY_IMAGES)
    engine = None if sight.ready.precision == "int8" else "torch"
    reference, contents = drain(look_again(sight.ready, chosen, sight.ready.session.cache, engine=engine))
    seen = chosen[contents.accepted[chosen]]
    images = prepared_images(sight.ready.dataset, seen.tolist(), sight.ready.preprocess)
    return Samples(images, classifier.head.logits(reference.columns(classifier.head.taps, seen)))
