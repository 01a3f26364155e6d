"""The story of every command, in the order in which it happens. No logic but order; imports inside the functions.

A command is a generator of events that the terminal draws; what it returns is its final JSON.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.errors import Refused
from headway.events import Detail, Event, Line, Note, Opened

if TYPE_CHECKING:
    from headway.backbones.catalog import Backbone
    from headway.choices import Comparison
    from headway.clock import Clock
    from headway.data.dataset import Dataset, Split
    from headway.ranking import Request
    from headway.records import Whole
    from headway.runs import Run
    from headway.settings import FitSettings
    from headway.steps import Made, Seen, Sight
    from headway.tuning.request import Request as Search
    from headway.world import World

Events = Generator[Event, None, dict[str, Any]]


def fitting(settings: FitSettings, *, first: bool = True) -> Events:
    """`headway fit`: from a folder of labelled images to a classifier that is judged and can be shipped.

    first  whether it is what the process was started for: its seconds then count from that start
    """
    from headway.runs import open_run
    from headway.tracking.following import tracked
    from headway.world import join, share

    run = open_run(settings)  # before anything heavy is imported
    yield Opened(run.path)
    world = join(settings.device)
    share(world, run.path if run.result is None else None)
    return (yield from tracked(run, _working(run, world, first)))


def _working(run: Run, world: World, first: bool) -> Events:
    """What is left to do of a run, whatever lies damaged in the cache."""
    from headway.runs import tidy

    if run.result is not None:
        tidy(run.path)
        yield Note(f"{run.path}/ is finished; nothing was done again")
        return run.result
    for note in (*run.settings.notes(), *run.differences):
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
    from headway.projections import check_view
    from headway.telling import told_dataset

    settings = run.settings
    # Asked here too, before anything heavy is imported: what cannot work is refused at once.
    check_view(settings.map)
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
        made, more = yield from _train(dataset, seen, sight, split, run, world, clock)
        clock.lap("train")
        whole = yield from _conclude(dataset, seen, sight, split, made, run, clock)

        from headway import assuring, explaining, records  # not before decoding is under way: they bring torch

        records.ship(whole, run)
        if settings.portable and made.sight.ready.precision == "int8":
            other, judged = yield from precision.make_portable(dataset, split, run, cache)
            assured = yield from assuring.assure(dataset, other, split, judged)
            records.ship(records.Whole(dataset, split, other, judged, assured, other.sight), run, records.PORTABLE)
        yield from explaining.picture_mistakes(run.path, dataset, whole.judged.mistakes, settings.threads)
        clock.lap("export")
        result = records.record(whole, run, clock)
    yield Detail("seconds", ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items()))
    yield from _last_lines(whole, run, more)
    return result


def _last_lines(whole: Whole, run: Run, more: str) -> Generator[Event, None, None]:
    """What to do next, and where everything lies."""
    from headway.advising import told
    from headway.results import suggestion

    if whole.advice is not None and whole.advice["sentences"]:
        yield Line("advice", told(whole.advice))
    if small := suggestion(whole.judged.test):
        yield Line("next", small)
    if more:
        yield Line("more", more)
    yield Line("report", str(run.path / "report.html"))
    yield Line("bundle", f"{run.path / 'bundle'}   (try: headway predict {run.path / 'bundle'} IMAGE)")


def _conclude(
    dataset: Dataset, seen: Seen, sight: Sight | None, split: Split, made: Made, run: Run, clock: Clock
) -> Generator[Event, None, Whole]:
    """Every choice is made: the test set, once; what the classifier promises; what the data and the features say."""
    from headway import advising, assuring, auditing, mapping, repeating, steps
    from headway.records import Whole
    from headway.telling import told_test

    judged = steps.judge(dataset, made.sight, split, made.classifier, run.settings.seed)
    yield Line("test", told_test(judged.test))
    assured = yield from assuring.assure(dataset, made, split, judged)
    clock.lap("evaluate")
    places = yield from mapping.draw_map(dataset, made, judged, assured, run.settings)
    clock.lap("map")
    repeats = yield from repeating.repeat(dataset, sight, split, run.settings, made.account.chosen)
    if repeats is not None:
        clock.lap("repeats")
    advice = advising.conclude(made.evidence, judged.val, dataset.labels[split.train])
    pictured = yield from auditing.beside(dataset, seen.contents, sight, split, run, judged.parts[1])
    clock.lap("audit")
    return Whole(dataset, split, made, judged, assured, sight, repeats, advice, pictured, places)


def _train(
    dataset: Dataset, seen: Seen, sight: Sight | None, split: Split, run: Run, world: World, clock: Clock
) -> Generator[Event, None, tuple[Made, str]]:
    """The probe where there are features, then the network where that is asked for or a budget allows it.

    Beside what was made, a line on what more would cost; "" where there is none.
    """
    from headway import advising, budgeting, roads, steps
    from headway.runs import CHECKPOINTS
    from headway.telling import told_head

    settings, start, evidence, more = run.settings, None, None, ""
    if sight is not None:
        classifier, start = yield from steps.train(dataset, sight, split, settings, run.path / CHECKPOINTS / "head")
        yield Line("head", told_head(start.chosen, start.seconds))
        yield Detail("head", start.chosen["why"])
        evidence = yield from advising.look(dataset, sight, split, start, settings)
    if sight is not None and start is not None and settings.strategy == "probe":
        made = steps.Made(sight, classifier, steps.account(start, classifier))
        ground = budgeting.Ground(dataset, sight, split, start, run)
        if settings.budget is not None:
            purse = budgeting.Purse.open(run, lambda: clock.seconds()["total"])
            made = yield from budgeting.spend(ground, made, purse)
        elif world.size == 1:
            more = budgeting.told_more(ground)
    else:
        made = yield from roads.take(dataset, seen, split, start, run, world)
        yield Detail("training", made.account.chosen["why"])
    return replace(made, evidence=evidence), more


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


def tuning(request: Search) -> Events:
    """`headway tune`: trials on training images, the winner judged on validation images, then fitted as any run."""
    from headway.tuning import story

    if request.join:
        return (yield from story.join(request))
    return (yield from story.tune(request, partial(fitting, first=False)))


def planning(ways: Mapping[str, FitSettings], budget: float | None) -> Events:
    """`headway plan`: what each road would cost here, measured on a few of the images. ways: road → settings."""
    from headway.data.sources import load_dataset
    from headway.telling import told_dataset

    dataset = load_dataset(next(iter(ways.values())).data)
    yield Line("data", told_dataset(dataset))

    from headway.planning import plan_roads

    return (yield from plan_roads(dataset, ways, budget))


def audit_data(settings: FitSettings, write: Path | None = None) -> Events:
    """`headway audit`: what is wrong with the data. The data is never written to; `write`: a list without suspects."""
    from headway.data.sources import load_dataset
    from headway.telling import told_dataset

    dataset = load_dataset(settings.data)
    if write is not None:
        from headway.data.listing import check_list

        check_list(write, dataset, settings.data)
    yield Line("data", told_dataset(dataset))

    from headway import auditing
    from headway.features.store import DamagedShard

    auditing.check(settings)
    while True:
        try:
            result = yield from _audit(dataset, settings, write)
        except DamagedShard as damage:  # removed by now, so this ends
            yield Note(f"{damage}; its images are computed again")
        else:
            return result


def _audit(dataset: Dataset, settings: FitSettings, write: Path | None) -> Events:
    from headway import auditing
    from headway.clock import Clock
    from headway.machine import cache_folder

    clock = Clock()
    sight = yield from auditing.look(dataset, settings, cache_folder())
    clock.lap("features")
    split, why = auditing.divide(dataset, sight.contents, settings)
    if split is None:
        yield Note(f"there is no split: {why}")
    duplicates = yield from auditing.look_for_duplicates(dataset, sight.contents, sight)
    subject = auditing.Subject(dataset, sight.contents, split, sight, sight.ready.session.threads, duplicates)
    findings = yield from auditing.find(subject)
    clock.lap("audit")
    found = auditing.facts(subject, findings)
    yield from auditing.tell(found)
    folder, result = auditing.record(subject, found, settings, clock.seconds())
    written = None
    if write is not None:
        text = auditing.write_clean(write, subject, findings)
        yield Line("written", text)
        written = str(write)
    page = str(folder / "audit.html")
    yield Line("report", page)
    return {**result, "run": str(folder), "page": page, "written": written}


def evaluate_bundle(bundle: str | Path, data: str | Path, *, threads: int | None = None) -> Events:
    """`headway evaluate`: judge a bundle on labelled images, and count how often they were opened."""
    from headway.data.sources import load_dataset
    from headway.deployment.bundle import load_bundle
    from headway.telling import told_dataset, told_test, told_trust

    model = load_bundle(bundle, threads)
    dataset = load_dataset(data)
    yield Line("data", told_dataset(dataset))

    from headway import assessing

    chosen = assessing.choose(dataset, model.classes)
    evaluation, seen = yield from assessing.assess(model, dataset, chosen)
    yield Line("test", told_test(evaluation))
    if seen.confidence["n"]:
        yield Line("trust", told_trust(seen.confidence))
    result = assessing.record(model, dataset, evaluation, seen)
    yield Line("opened", assessing.told_openings(result))
    return result


def export_bundle(bundle: str | Path, kind: str, out: Path | None = None, ort_web: Path | None = None) -> Events:
    """`headway export`: a bundle in another format, whose own runtime must give the bundle's numbers."""
    from headway.formats.writing import export

    return (yield from export(Path(bundle), kind, out, ort_web))


def summarise(settings: FitSettings, *, classes: int) -> dict[str, Any]:
    """`headway summary`: a network layer by layer, with its parameters and megabytes."""
    from headway.training.summary import SummaryRequest, summarise

    return summarise(SummaryRequest.of(settings, classes))


def ranking(data: str | Path, request: Request) -> Events:
    """`headway rank`: several backbones look at some of the images, a probe on each is judged by cross-validation."""
    from headway import ranking
    from headway.data.sources import load_dataset
    from headway.machine import cache_folder
    from headway.telling import told_dataset

    absent = ranking.absent(request)  # asked first: what cannot work is refused at once
    dataset = load_dataset(data)
    yield Line("data", told_dataset(dataset))
    drawn = ranking.draw(dataset, request)
    standings, judged = [], 0
    for rival in request.rivals:
        if rival in absent:
            yield Note(f"{rival} is left out: {absent[rival]}")
            continue
        standing, judged = yield from ranking.stand(dataset, rival, drawn, request, cache_folder())
        standings.append(standing)
    return ranking.told(dataset, standings, absent, judged)


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
