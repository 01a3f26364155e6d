"""`plan`: what each road would cost on this machine, measured on a few of the user's images."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any

from headway.advice import cost, gauge, measuring, plan
from headway.advice.cost import Cost, Regime, Speeds, Work
from headway.data.dataset import TEST, TRAIN, UNASSIGNED, VAL, Dataset
from headway.defaults import SOLVED
from headway.events import Detail, Event, Line
from headway.features.looking import Ready, get_ready, open_session, reading_store
from headway.machine import cache_folder, machine, memory_bytes, process_seconds
from headway.repeating import REPEATS, few_to_judge_by
from headway.settings import FitSettings
from headway.steps import asked
from headway.telling import told_backbone


def plan_roads(
    dataset: Dataset, ways: Mapping[str, FitSettings], budget: float | None
) -> Generator[Event, None, dict[str, Any]]:
    """Measure and predict; returns the final JSON. ways: road → its settings, from cheap to dear."""
    start, cache = process_seconds(), cache_folder()
    first = next(iter(ways.values()))
    settings = next((way for road, way in ways.items() if road != "scratch"), first)
    notebook = gauge.open_notebook(open_session(asked(settings), cache), settings.image)
    library, build = notebook.measured("imports", lambda: _imports(settings), seconds=2)
    indices = measuring.sampled(dataset, measuring.IMAGES)
    with get_ready(dataset, indices, asked(settings), cache) as ready:
        yield Line("backbone", told_backbone(ready.facts(), ready.seconds))
    decode, images = measuring.decoding(dataset, indices, ready.preprocess, ready.session.threads)
    work, lookup = _work(dataset, ready, settings)
    known = gauge.Known(images, decode, start, lookup, library, build)
    trained = {road: way for road, way in ways.items() if road != "probe"}
    speeds = yield from gauge.gauged(ready, work, {road: _way(way) for road, way in trained.items()}, known, notebook)
    costs = [
        cost.predict(road, work, speeds, Regime.of(way) if road in trained else None) for road, way in ways.items()
    ]
    for one in costs:
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.phases.items())
        yield Detail("cost", f"{plan.NAMES[one.road]}: {phases}")
    return _result(work, speeds, costs, ways, budget)


def _imports(settings: FitSettings) -> list[float]:
    """Seconds of importing torch, then of building the network as a module of it."""
    began = time.perf_counter()
    import torch  # noqa: F401

    imported = time.perf_counter()
    open_session(asked(settings), cache_folder()).module()
    return [imported - began, time.perf_counter() - imported]


def _way(settings: FitSettings) -> gauge.Way:
    """How a road is measured; the network of its own weights, random ones from scratch."""
    from headway.training.finetune import RoadSettings

    session = open_session(asked(settings), cache_folder())
    return gauge.Way(session, RoadSettings.from_settings(settings, session.threads, session.device))


def _work(dataset: Dataset, ready: Ready, settings: FitSettings) -> tuple[Work, float]:
    """What there is to do, before any image is read: sizes by what the data gives and what is cut; seconds of a look
    into the store."""
    n = len(dataset)
    sought = measuring.sampled(dataset, measuring.SOUGHT)
    stores = [ready.store, reading_store(ready.session.cache, ready.preprocess)]
    lookup, known, read = measuring.looking_up(dataset, sought, stores, ready.session.threads)
    train, val, test, unlabelled = expected_sizes(dataset, settings.val, settings.test)
    cut = bool((dataset.given == UNASSIGNED).all()) and settings.split is None  # by headway, which may cut otherwise
    taps = {tap.name: tap.dim for tap in ready.trunk.taps}
    side = ready.preprocess.size
    work = Work(
        train,
        val,
        test,
        unlabelled,
        classes=len(dataset.classes),
        known=round(known * n),
        read=round(read * n),
        taps=(taps["last"], sum(taps.values())),
        side=side,
        weights=ready.trunk.tensors.stat().st_size,
        held=(memory_bytes() or 0) > 8 * train * side**2 * 3,
        repeats=REPEATS if cut and settings.head in SOLVED and few_to_judge_by(train, val, test) else 0,
    )
    return work, lookup


def expected_sizes(dataset: Dataset, val: float, test: float) -> tuple[int, int, int, int]:
    """(train, val, test, unlabelled) images as a split would have them, nothing set aside."""
    unlabelled = int((dataset.labels < 0).sum())
    given = dataset.given[dataset.labels >= 0]
    sizes = {subset: int((given == subset).sum()) for subset in (TRAIN, VAL, TEST)}
    free = int((given == UNASSIGNED).sum())
    pool = sizes[TRAIN] + free
    cut = {subset: 0 if sizes[subset] else round(share * pool) for subset, share in ((VAL, val), (TEST, test))}
    return max(1, pool - cut[VAL] - cut[TEST]), sizes[VAL] + cut[VAL], sizes[TEST] + cut[TEST], unlabelled


def _result(
    work: Work, speeds: Speeds, costs: list[Cost], ways: Mapping[str, FitSettings], budget: float | None
) -> dict[str, Any]:
    """The final JSON."""
    rows = [
        {
            "road": one.road,
            "epochs": None if one.road == "probe" else ways[one.road].epochs,
            "seconds": round(one.seconds, 2),
            "memory_bytes": one.memory,
            "disk_bytes": one.disk,
            "fits": None if budget is None else one.seconds <= budget,
            "phases": {name: round(seconds, 3) for name, seconds in one.phases.items()},
            "command": ways[one.road].command(),
        }
        for one in costs
    ]
    return {
        "roads": rows,
        "budget": budget,
        "would": plan.told_plan({one.road: one.seconds for one in costs}, budget),
        "images": {"train": work.train, "val": work.val, "test": work.test, "known": work.known},
        "reference_seconds": round(speeds.reference, 5),
        "speeds": {name: value for name, value in vars(speeds).items() if isinstance(value, float)},
        "machine": machine(),
    }
