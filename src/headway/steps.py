"""The steps of `fit`, each from values to values. workflow.fitting puts them in order."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data.dataset import TEST, UNLABELLED, VAL, Contents, Dataset, Split
from headway.data.split import check_damage, make_split, read_split, write_split
from headway.evaluation.evaluation import Evaluation, evaluate
from headway.events import Event, Line, drain
from headway.exports import Samples
from headway.features.extract import Features, extract
from headway.features.looking import Asked, Ready, get_ready, look_again, prepared_images
from headway.features.views import parse_views
from headway.machine import cache_folder
from headway.quality.audit import audit
from headway.results import Judged, told_mistakes
from headway.runs import Run
from headway.settings import FitSettings
from headway.telling import told_backbone, told_features, told_split
from headway.training.classifier import Classifier

if TYPE_CHECKING:
    from headway.training.probe import Probe

PARITY_IMAGES = 32  # real validation images that a bundle is held against torch on; one batch of the engines


@dataclass(frozen=True)
class Sight:
    """What one pass gave: the backbone it looked through, the features, and what was seen of each file."""

    ready: Ready
    features: Features
    contents: Contents


@dataclass(frozen=True)
class Judgement:
    """Validation and test set judged, and every logit that was needed for it."""

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


def look(dataset: Dataset, settings: FitSettings, run: Run, cache: Path) -> Generator[Event, None, Sight]:
    """Open the backbone, settle what decides bits, write that down, and run the network once over every image."""
    asked = Asked(**{name: getattr(settings, name) for name in Asked.__dataclass_fields__})
    indices = np.arange(len(dataset), dtype=np.intp)
    settled = run.resolved.get("engine", {}).get("name")
    with get_ready(dataset, indices, asked, cache, settled) as ready:
        facts = ready.facts()
        run.resolve({**facts, "seed": settings.seed, "prepare_seconds": round(ready.seconds, 3)})
        yield Line("backbone", told_backbone(facts, ready.seconds))
        features, contents = yield from extract(ready.readings, indices, len(dataset), ready.store, ready.engine)
    dims = [tap.dim for tap in features.taps]
    rate = features.images_per_second
    yield Line("features", told_features(features.computed, features.reused, features.seconds, rate, dims))
    return Sight(ready, features, contents)


def divide(dataset: Dataset, contents: Contents, settings: FitSettings, run: Run) -> Split:
    """Refuse data that is too damaged; else decide which image is used for what, and write it down."""
    files.write_json(run.path / "audit.json", audit(dataset, contents, None))
    check_damage(dataset, contents, allow_bad=settings.allow_bad, listed=run.path / "audit.json")
    keep = read_split(settings.split) if settings.split is not None else None
    split = make_split(dataset, contents, seed=settings.seed, val=settings.val, test=settings.test, keep=keep)
    files.write_json(run.path / "audit.json", audit(dataset, contents, split))
    write_split(run.path / "split.csv", dataset, contents, split)
    return split


def tell_split(dataset: Dataset, contents: Contents, split: Split) -> Iterator[Event]:
    """The lines about the split, where there is something to tell."""
    lines = told_split(dataset, contents, split)
    if lines:
        yield Line("split", "\n".join(lines))


def train(
    dataset: Dataset, sight: Sight, split: Split, settings: FitSettings, cache: Path
) -> Generator[Event, None, tuple[Classifier, Probe]]:
    """Solve the head on features of training images, everything chosen on validation images."""
    # Here and not above: it imports torch, and decoding should be under way by then.
    from headway.training.probe import HeadSettings, ProbeData, probe

    views = []
    for view in parse_views(settings.views, settings.seed):
        seen, _ = yield from look_again(sight.ready, split.train, cache, view=view)
        views.append(seen.columns)
    data = ProbeData(
        columns=sight.features.columns,
        labels=dataset.labels,
        train=split.train,
        val=split.val,
        taps=tuple((tap.name, tap.dim) for tap in sight.features.taps),
        n_classes=len(dataset.classes),
        views=views,
    )
    found = yield from probe(data, HeadSettings.from_settings(settings))
    classifier = Classifier(
        sight.ready.trunk, sight.ready.preprocess, found.head, found.temperature, tuple(dataset.classes)
    )
    return classifier, found


def judge(dataset: Dataset, sight: Sight, split: Split, classifier: Classifier, seed: int) -> Judgement:
    """Every choice is made: open the test set, once."""
    parts = tuple(
        Judged(subset, indices, logits_of(classifier, sight.features, indices))
        for subset, indices in ((VAL, split.val), (TEST, split.test), (UNLABELLED, split.unlabelled))
    )
    train_counts = np.bincount(dataset.labels[split.train], minlength=len(dataset.classes))
    val, test = (
        evaluate(
            part.logits,
            dataset.labels[part.indices],
            dataset.classes,
            temperature=classifier.temperature,
            seed=seed,
            train_counts=train_counts,
            groups=dataset.groups[part.indices] if dataset.groups is not None else None,
        )
        for part in parts[:2]
    )
    return Judgement(val, test, parts, told_mistakes(dataset, parts[1], classifier.temperature))


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


def parity_samples(sight: Sight, split: Split, classifier: Classifier, cache: Path) -> Samples:
    """Real validation images, chosen by content, and the logits that torch gives them: what a bundle is held against.

    Torch's features are kept in the store like any other engine's, so a warm run needs no torch network.
    """
    digests = np.ascontiguousarray(sight.contents.digests[split.val]).view("S32").reshape(-1)
    chosen = np.sort(split.val[np.argsort(digests, kind="stable")[:PARITY_IMAGES]])
    reference, contents = drain(look_again(sight.ready, chosen, cache, engine="torch"))
    seen = chosen[contents.accepted[chosen]]
    images = prepared_images(sight.ready.dataset, seen.tolist(), sight.ready.preprocess)
    return Samples(images, classifier.head.logits(reference.columns(classifier.head.taps, seen)))
