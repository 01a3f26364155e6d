"""In which numbers the frozen network of a probe computes: fp32, or int8 where that is asked for or pays."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.openvino_graph import EXTRA
from headway.backbones.quantise import IMAGES
from headway.data.dataset import Contents, Dataset, Split
from headway.data.images import BadImage
from headway.data.split import make_split, read_split
from headway.errors import Refused
from headway.evaluation.compare import PairedTest, paired_test
from headway.events import Event, Line, Note, Progress, drain
from headway.features.extract import Features, extract
from headway.features.looking import get_ready
from headway.features.reading import content_digest
from headway.machine import version
from headway.runs import CHECKPOINTS, Run
from headway.settings import FitSettings
from headway.steps import Judgement, Made, Sight, account, asked, chosen_by_content, judge, look, train
from headway.telling import told_test
from headway.world import World, threads_of

TRIED = (3_000, 2_000)  # training and validation images on which `auto` compares the two, at most
MARGIN = 0.01  # a loss of accuracy that the interval must leave out, for int8 to count as no worse
_CHUNK = 256  # samples that one thread reads before the next


def settle(
    dataset: Dataset, settings: FitSettings, run: Run, cache: Path, world: World
) -> Generator[Event, None, NDArray[np.intp] | None]:
    """The training samples by which the network becomes int8; None where it computes in fp32.

    As asked; `auto` tries both on a part of the images, once in a run.

    Raises Refused where several processes are to share it, or the data cannot be split.
    """
    if settings.strategy != "probe" or settings.precision not in ("int8", "auto"):
        return None
    hindrance = ""
    if world.size > 1:
        hindrance = "works in one process: leave it out, or start headway without torchrun"
    elif version("openvino") is None:
        hindrance = f"needs OpenVINO, which is not installed: {EXTRA}"
    if hindrance:
        if settings.precision == "int8":
            raise Refused(f"--precision int8 {hindrance}")
        yield Note(f"in fp32, as int8 {hindrance}")
        return None
    contents = read_digests(dataset, threads_of(settings.threads))
    keep = read_split(settings.split) if settings.split is not None else None
    split = make_split(dataset, contents, seed=settings.seed, val=settings.val, test=settings.test, keep=keep)
    calibration = safest(contents, split.train, settings.seed, IMAGES)
    if settings.precision == "auto":
        settled = run.resolved.get("precision")
        if settled is None:
            settled = yield from _compare(dataset, contents, split, settings, cache, calibration)
            run.resolve({"precision": settled})
        yield Line("precision", f"{settled['name']}: {settled['why']}")
        if settled["name"] == "fp32":
            return None
    return calibration


def look_apart(
    dataset: Dataset, sight: Sight, split: Split, run: Run, world: World, calibration: NDArray[np.intp]
) -> Generator[Event, None, Sight]:
    """The same sight where only training images decided its int8 numbers; else the pass again, by such images.

    Which image trains is known only after the pass; the calibration began with those that were all but sure to.
    """
    if sight.ready.precision == "fp32" or np.isin(calibration, split.train).all():
        return sight
    others = int((~np.isin(calibration, split.train)).sum())
    yield Note(
        f"{others} of the {len(calibration)} images that set the ranges of int8 turned out not to train (damaged files "
        "or copies moved the split): the pass is done again without them"
    )
    better = safest(sight.contents, split.train, run.settings.seed, IMAGES)
    return (yield from look(dataset, run.settings, run, sight.ready.session.cache, world, better))


def make_portable(
    dataset: Dataset, split: Split, run: Run, cache: Path
) -> Generator[Event, None, tuple[Made, Judgement]]:
    """The same probe on fp32 features, for machines that lack the engine of int8: one more pass, and judged too."""
    yield Note("--portable: the pass once more, in fp32")
    every = np.arange(len(dataset), dtype=np.intp)
    settled = run.resolved.get("portable", {}).get("name")
    with get_ready(dataset, every, asked(run.settings), cache, settled) as ready:
        run.resolve({"portable": ready.facts()["engine"]})
        features, contents = yield from extract(ready.readings, every, len(dataset), ready.store, ready.engine)
    sight = Sight(ready, features, contents)
    classifier, found = yield from train(dataset, sight, split, run.settings, run.path / CHECKPOINTS / "portable")
    judged = judge(dataset, sight, split, classifier, run.settings.seed)
    yield Line("portable", told_test(judged.test))
    return Made(sight, classifier, account(found, classifier)), judged


def read_digests(dataset: Dataset, threads: int) -> Contents:
    """What the bytes of every sample tell, nothing decoded: all that can be read count as accepted."""
    n = len(dataset)
    digests, reasons = np.zeros((n, 32), np.uint8), {}

    def read(start: int) -> None:
        for index in range(start, min(n, start + _CHUNK)):
            try:
                digests[index] = np.frombuffer(content_digest(dataset.source.read(index)), np.uint8)
            except (BadImage, OSError) as error:
                reasons[index] = str(error)

    with ThreadPoolExecutor(threads, "headway-digest") as pool:
        list(pool.map(read, range(0, n, _CHUNK)))
    accepted = np.ones(n, bool)
    accepted[list(reasons)] = False
    return Contents(accepted, reasons, digests, digests, np.zeros((n, 2), np.int32))


def safest(contents: Contents, train: NDArray[np.intp], seed: int, n: int) -> NDArray[np.intp]:
    """At most `n` of the samples `train`, ascending: those that would stay in training if the data changed a little.

    A split cuts validation and test from the smallest sha256(seed, digest) upwards; these have the largest.
    """
    salt = seed.to_bytes(8, "big", signed=True)
    keys = [hashlib.sha256(salt + contents.digests[index].tobytes()).digest() for index in train]
    order = sorted(range(len(train)), key=keys.__getitem__)
    return np.sort(train[order[-n:]])


def _compare(
    dataset: Dataset,
    contents: Contents,
    split: Split,
    settings: FitSettings,
    cache: Path,
    calibration: NDArray[np.intp],
) -> Generator[Event, None, dict[str, Any]]:
    """Whether int8 saves more than finding out costs, and if so whether validation shows a loss: {name, why, ...}."""
    parts = (split.train, split.val)
    train, val = (chosen_by_content(contents, part, n) for part, n in zip(parts, TRIED, strict=True))
    tried = np.sort(np.concatenate([train, val]))
    with get_ready(dataset, tried, asked(settings), cache, None, calibration) as ready:
        if ready.precision == "fp32":
            return {"name": "fp32", "why": f"the network does not run in int8: {ready.left_int8}"}
        saved, cost = _gain(len(dataset), len(tried), ready.choice.rates)
        if saved <= cost:
            why = f"on {len(dataset):,} images int8 would save {max(0, saved):.0f} s, and proving it costs {cost:.0f} s"
            return {"name": "fp32", "why": why, "rates": dict(ready.choice.rates)}
        rates = dict(ready.choice.rates)
        coarse, seen = yield from _renamed(extract(ready.readings, tried, len(dataset), ready.store, ready.engine))
    with get_ready(dataset, tried, asked(settings), cache) as ready:
        fine, _ = yield from _renamed(extract(ready.readings, tried, len(dataset), ready.store, ready.engine))
    train, val = (part[seen.accepted[part]] for part in (train, val))
    test = paired_test(*(_right(dataset, features, train, val, settings) for features in (coarse, fine)))
    found = {"rates": rates, "train": len(train), "paired": test.to_json()}
    return {**_verdict(test), **found}


def _gain(n: int, tried: int, rates: Mapping[str, float]) -> tuple[float, float]:
    """Seconds that int8 saves on the rest of `n` images, and that trying the slower of the two costs."""
    plain = next(rate for name, rate in rates.items() if name.endswith(" fp32"))
    each = 1 / plain - 1 / rates["openvino"]
    return (n - tried) * each, tried / plain


def _verdict(test: PairedTest) -> dict[str, Any]:
    """int8 where its loss is shown to be below the margin."""
    low, high = test.interval
    difference = f"{test.difference:+.3f} [{low:+.3f}, {high:+.3f}] on {test.n:,} validation images"
    told = f"accuracy {test.a:.3f} in int8, {test.b:.3f} in fp32, difference {difference}"
    if low > -MARGIN and test.better != "b":
        return {"name": "int8", "why": f"{told}: no loss of {MARGIN:g}"}
    return {"name": "fp32", "why": f"{told}: a loss of {MARGIN:g} is not ruled out"}


def _right(
    dataset: Dataset, features: Features, train: NDArray[np.intp], val: NDArray[np.intp], settings: FitSettings
) -> NDArray[np.bool_]:
    """(n_val,) which validation images a head on these features gets right."""
    from headway.training.probe import HeadSettings, ProbeData, probe

    taps = tuple((tap.name, tap.dim) for tap in features.taps)
    data = ProbeData(features.columns, dataset.labels, train, val, taps, len(dataset.classes))
    found = drain(probe(data, HeadSettings.from_settings(settings), None))
    right: NDArray[np.bool_] = found.val_logits.argmax(axis=1) == dataset.labels[val]
    return right


def _renamed(
    steps: Generator[Progress, None, tuple[Features, Contents]],
) -> Generator[Progress, None, tuple[Features, Contents]]:
    """The pass over a part, so called that nobody takes it for the whole one."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            found: tuple[Features, Contents] = end.value
            return found
        yield Progress("precision", step.done, step.total, step.set_aside)
