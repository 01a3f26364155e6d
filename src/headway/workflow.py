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
    from headway.runs import Run
    from headway.settings import FitSettings

Events = Generator[Event, None, dict[str, Any]]


def fitting(settings: FitSettings) -> Events:
    """`headway fit`: from a folder of labelled images to a classifier that is judged and can be shipped."""
    from headway.runs import open_run

    run = open_run(settings)  # before anything heavy is imported
    yield Opened(run.path)
    if run.result is not None:
        yield Note(f"{run.path}/ is finished; nothing was done again")
        return run.result
    for note in settings.notes():
        yield Note(note)

    from headway.features.store import DamagedShard

    while True:
        try:
            return (yield from _fit(run))
        except Refused:
            run.discard()
            raise
        except DamagedShard as damage:  # removed by now, so this ends
            yield Note(f"{damage}; its images are computed again")


def _fit(run: Run) -> Events:
    from headway.backbones.weights import choose_weights
    from headway.clock import Clock
    from headway.data.sources import load_dataset
    from headway.telling import told_dataset, told_head, told_test

    settings, clock = run.settings, Clock()
    # Asked here too, before anything heavy is imported: what cannot work is refused at once.
    choose_weights(settings.backbone, settings.weights, seed=settings.seed, offline=settings.offline)
    dataset = load_dataset(settings.data)
    yield Line("data", told_dataset(dataset))
    clock.lap("data")

    from headway import steps

    with steps.working_cache(run.path, settings.no_cache) as cache:
        sight = yield from steps.look(dataset, settings, run, cache)
        split = steps.divide(dataset, sight.contents, settings, run)
        yield from steps.tell_split(dataset, sight.contents, split)
        clock.lap("features")
        classifier, found = yield from steps.train(dataset, sight, split, settings, cache)
        yield Line("head", told_head(found.chosen, found.seconds))
        yield Detail("head", found.chosen["why"])
        clock.lap("train")
        judged = steps.judge(dataset, sight, split, classifier, settings.seed)  # the test set, once
        yield Line("test", told_test(judged.test))
        clock.lap("evaluate")
        samples = steps.parity_samples(sight, split, classifier, cache)

        from headway import records
        from headway.results import suggestion

        made = records.Made(dataset, sight, split, classifier, found, judged)
        records.ship(made, samples, run)
        clock.lap("export")
        result = records.record(made, run, clock)
    yield Detail("seconds", ", ".join(f"{name} {value:.1f}" for name, value in result["seconds"].items()))
    if advice := suggestion(judged.test):
        yield Line("next", advice)
    yield Line("report", str(run.path / "report.html"))
    yield Line("bundle", f"{run.path / 'bundle'}   (try: headway predict {run.path / 'bundle'} IMAGE)")
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
    from headway.training.summary import summarise_network

    return summarise_network(
        settings.backbone,
        settings.hidden,
        settings.dropouts,
        n_classes=classes,
        image=settings.image,
        batch=settings.batch,
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
