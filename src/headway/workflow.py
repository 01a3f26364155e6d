"""The story of every command, in the order in which it happens. No logic but order; imports inside the functions.

A command is a generator of events that the terminal draws; what it returns is its final JSON.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import Refused
from headway.events import Detail, Event, Line, Note, Opened

if TYPE_CHECKING:
    from headway.backbones.catalog import Backbone
    from headway.choices import Comparison
    from headway.clock import Clock
    from headway.data.dataset import Dataset, Split
    from headway.runs import Run
    from headway.settings import FitSettings
    from headway.steps import Made, Seen, Sight
    from headway.world import World

Events = Generator[Event, None, dict[str, Any]]


def fitting(settings: FitSettings, *, first: bool = True) -> Events:
    """`headway fit`: from a folder of labelled images to a classifier that is judged and can be shipped.

    first  whether it is what the process was started for: its seconds then count from that start
    """
    from headway.runs import open_run, tidy
    from headway.world import join, share

    run = open_run(settings)  # before anything heavy is imported
    yield Opened(run.path)
    world = join(settings.device)
    share(world, run.path if run.result is None else None)
    if run.result is not None:
        tidy(run.path)
        yield Note(f"{run.path}/ is finished; nothing was done again")
        return run.result
    for note in (*settings.notes(), *run.differences):
        yield Note(note)

    from headway.clock import Clock
    from headway.features.store import DamagedShard

    while True:
        try:
            result = yield from _fit(run, Clock(first), world)
        except Refused:
            run.discard()
            raise
        except DamagedShard as damage:  # removed by now, so this ends
            if world.size > 1:
                raise  # the others are past the pass: start again together
            yield Note(f"{damage}; its images are computed again")
        else:
            tidy(run.path)
            return result


def _fit(run: Run, clock: Clock, world: World) -> Events:
    from headway.backbones.weights import choose_weights
    from headway.data.sources import load_dataset
    from headway.telling import told_dataset, told_test

    settings = run.settings
    # Asked here too, before anything heavy is imported: what cannot work is refused at once.
    choose_weights(settings.backbone, settings.start_weights, seed=settings.seed, offline=settings.offline)
    dataset = load_dataset(settings.data)
    yield Line("data", told_dataset(dataset))
    clock.lap("data")

    from headway import precision, steps

    with steps.working_cache(run.path, settings.no_cache) as cache:
        calibration = yield from precision.settle(dataset, settings, run, cache, world)
        seen, sight = yield from steps.see(dataset, settings, run, cache, world, calibration)
        split = steps.divide(dataset, seen.contents, settings, run)
        if calibration is not None and sight is not None:
            sight = yield from precision.look_apart(dataset, sight, split, run, world, calibration)
        yield from steps.tell_split(dataset, seen.contents, split, settings.balance)
        clock.lap("features")
        made = yield from _train(dataset, seen, sight, split, run, world)
        clock.lap("train")
        judged = steps.judge(dataset, made.sight, split, made.classifier, settings.seed)  # the test set, once
        yield Line("test", told_test(judged.test))
        clock.lap("evaluate")
        samples = steps.parity_samples(made.sight, split, made.classifier)

        from headway import records, repeating
        from headway.results import suggestion

        repeats = None
        if sight is not None and repeating.repeats(settings, split, sight):
            repeats = yield from repeating.repeat(dataset, sight, split, settings, made.account.chosen)
            clock.lap("repeats")
        whole = records.Whole(dataset, split, made, judged, sight, repeats)
        records.ship(whole, samples, run)
        if settings.portable and made.sight.ready.precision == "int8":
            other, judged_too = yield from precision.make_portable(dataset, split, run, cache)
            samples = steps.parity_samples(other.sight, split, other.classifier)
            records.ship(records.Whole(dataset, split, other, judged_too, other.sight), samples, run, records.PORTABLE)
        clock.lap("export")
        result = records.record(whole, run, clock)
    yield Detail("seconds", ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items()))
    if advice := suggestion(judged.test):
        yield Line("next", advice)
    yield Line("report", str(run.path / "report.html"))
    yield Line("bundle", f"{run.path / 'bundle'}   (try: headway predict {run.path / 'bundle'} IMAGE)")
    return result


def _train(
    dataset: Dataset, seen: Seen, sight: Sight | None, split: Split, run: Run, world: World
) -> Generator[Event, None, Made]:
    """The probe where there are features, then the network where that is asked for."""
    from headway import roads, steps
    from headway.runs import CHECKPOINTS
    from headway.telling import told_head

    settings, start = run.settings, None
    if sight is not None:
        classifier, start = yield from steps.train(dataset, sight, split, settings, run.path / CHECKPOINTS / "head")
        yield Line("head", told_head(start.chosen, start.seconds))
        yield Detail("head", start.chosen["why"])
        if settings.strategy == "probe":
            return steps.Made(sight, classifier, steps.account(start, classifier))
    made = yield from roads.take(dataset, seen, split, start, run, world)
    yield Detail("training", made.account.chosen["why"])
    return made


def following(settings: FitSettings) -> Generator[Event, None, None]:
    """What `fit` is for a process of torchrun that does not lead: its share of the pass and of every batch."""
    from headway import roads, steps
    from headway.data.sources import load_dataset
    from headway.machine import cache_folder
    from headway.world import join, share

    world = join(settings.device)
    path: Path | None = share(world)
    if path is None:
        return  # the run is finished
    dataset = load_dataset(settings.data)
    cache = path / ".cache" if settings.no_cache else cache_folder()
    session = yield from steps.see_along(dataset, settings, cache, world)
    if settings.strategy in ("finetune", "scratch"):
        yield from roads.follow(dataset, session, settings, path, world)


def comparing(comparison: Comparison) -> Events:
    """`headway compare`: several ways on the same split and the same test images, side by side."""
    from headway.comparing import told_comparison, write_comparison
    from headway.runs import open_comparison
    from headway.world import join, share

    place = open_comparison(comparison)
    yield Opened(place.path)
    if place.result is not None:
        world = join(place.settings[0].device)
        for _ in place.settings:
            share(world, None)  # the others ask once for each run
        yield Note(f"{place.path}/ is finished; nothing was done again")
        return place.result
    runs: dict[str, Path] = {}
    try:
        for name, settings in zip(comparison.names, place.settings, strict=True):
            runs[name] = place.path / name
            yield Line("compare", f"{name} ({len(runs)} of {len(comparison.names)})")
            yield from fitting(settings, first=len(runs) == 1)
    except Refused:
        place.discard()
        raise
    yield Opened(place.path)
    result = write_comparison(place.path, runs)
    yield Line("compared", told_comparison(result))
    yield Line("report", str(place.path / "report.html"))
    return result


def evaluate_bundle(bundle: str | Path, data: str | Path, *, threads: int | None = None) -> Events:
    """`headway evaluate`: judge a bundle on labelled images, and count how often they were opened."""
    from headway.data.sources import load_dataset
    from headway.deployment.bundle import load_bundle
    from headway.telling import told_dataset, told_test

    model = load_bundle(bundle, threads)
    dataset = load_dataset(data)
    yield Line("data", told_dataset(dataset))

    from headway import assessing

    chosen = assessing.choose(dataset, model.classes)
    evaluation, seen = yield from assessing.assess(model, dataset, chosen)
    yield Line("test", told_test(evaluation))
    result = assessing.record(model, dataset, evaluation, seen)
    yield Line("opened", assessing.told_openings(result))
    return result


def summarise(settings: FitSettings, *, classes: int) -> dict[str, Any]:
    """`headway summary`: a network layer by layer, with its parameters and megabytes."""
    from headway.training.summary import SummaryRequest, summarise

    return summarise(
        SummaryRequest(
            settings.backbone,
            settings.hidden,
            settings.dropouts,
            n_classes=classes,
            image=settings.image,
            batch=settings.batch,
            strategy=settings.strategy,
            thaw=None if settings.thaw == "all" else int(settings.thaw),
            small_stem=settings.small_stem,
            log_softmax=settings.log_softmax,
        )
    )


def list_backbones(pattern: str = "") -> list[Backbone]:
    """`headway backbones`: the first choice of networks, or every one whose name fits `pattern`."""
    from headway.backbones.catalog import known, matching

    return matching(pattern) if pattern else known()


def cache_info() -> Events:
    """`headway cache info`: where the cache is, what it holds, how large it is."""
    from headway.features.upkeep import info
    from headway.machine import cache_folder

    return (yield from info(cache_folder()))


def cache_verify() -> Events:
    """`headway cache verify`: read everything, check every digest, take out what is damaged."""
    from headway.features.upkeep import verify
    from headway.machine import cache_folder

    return (yield from verify(cache_folder()))


def cache_prune(*, days: int, dry_run: bool) -> Events:
    """`headway cache prune`: remove what was not used for `days` days."""
    from headway.features.upkeep import prune
    from headway.machine import cache_folder

    return (yield from prune(cache_folder(), days=days, dry_run=dry_run))
