"""predict, explain, evaluate."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from headway import files
from headway.errors import Refused
from headway.events import Progress
from headway.terminal.command import BundlePath, Json, Quiet, Threads, Verbose, finish, given, screen, takes
from headway.terminal.grammar import share, whole
from headway.terminal.options import CONFIDENCE, EXPLANATION
from headway.terminal.screen import printable, write_json

if TYPE_CHECKING:
    from headway.explanation.answers import Explained

Answer = TypeVar("Answer")


@takes(CONFIDENCE)
def predict(
    context: typer.Context,
    bundle: BundlePath,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns; - = standard input.")
    ],
    *,
    csv: Annotated[bool, typer.Option("--csv", help="A table with a header instead of lines.")] = False,
    top: Annotated[str, typer.Option(metavar="N", help="How many classes to tell for an image.")] = "5",
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Copy each image to DIR/<class>/.")] = None,
    json: Json = False,
    **options: str | bool | None,
) -> None:
    """Say what is on images. Ends with 1 where one could not be read; the others are answered all the same."""
    if json and csv:
        raise Refused("--json and --csv are two answers to one question. Leave one out.")
    n_top = whole("--top", top, 1)
    shares = {name: share(f"--{name}", word) for name, word in given(options).items()}
    from headway.deployment import bundle as bundles
    from headway.deployment import inputs, outputs, predictor
    from headway.deployment.confidence import Levels, check_levels

    levels = Levels(**shares)
    found = inputs.expand(images, sys.stdin.buffer)
    model = bundles.load_bundle(bundle)
    check_levels(model.confidence, levels, model.path)
    predictions = predictor.predict(model, found.items, top=n_top, levels=levels)
    if out is not None:
        predictions = outputs.write_sorted(predictions, Path(out), found, model.classes)
    if not (json or sys.stdout.isatty()):
        predictions = _counted(predictions, len(found.items))
    if json:
        answers = list(_counted(predictions, len(found.items)))
        known = {"path": str(model.path), "digest": model.digest}
        write_json(sys.stdout, outputs.as_json(known, answers, levels))
        failed = sum(answer.error is not None for answer in answers)
    else:
        failed = 0
        sys.stdout.write(files.csv_line(outputs.csv_columns(n_top, levels)) if csv else "")
        width = min(40, max(len(printable(item.name)) for item in found.items))
        for answer in predictions:
            failed += answer.error is not None
            row = outputs.csv_row(answer, n_top, levels) if csv else []
            sys.stdout.write(files.csv_line(row) if csv else outputs.line(answer, n_top, width) + "\n")
    if failed:
        raise typer.Exit(1)


@takes(EXPLANATION)
def explain(
    context: typer.Context,
    bundle: BundlePath,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns; - = standard input.")
    ],
    *,
    name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class to explain.  [default: the answer]")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Hold the maps against those of shuffled weights.")] = False,
    json: Json = False,
    **options: str | bool | None,
) -> None:
    """Show where in images the evidence for a class lies. Ends with 1 where an image could not be read."""
    from headway.deployment import bundle as bundles
    from headway.deployment import inputs
    from headway.explanation import answers, sanity
    from headway.explanation.opening import open_explainer

    found, place = inputs.expand(images, sys.stdin.buffer), Path(str(options["out"] or "explained"))
    answers.check_out(place, found)
    model = bundles.load_bundle(bundle)
    label = None if name is None else answers.class_index(model, name)
    explainer = open_explainer(model, given(options).get("tap"))
    answers.check_class(explainer, model, name)
    width = min(40, max(len(printable(item.name)) for item in found.items))
    explained: list[Explained] = []
    made = answers.explain_items(explainer, model, found.items, place, label)
    for one in made if not json and sys.stdout.isatty() else _counted(made, len(found.items), "explain"):
        explained.append(one if len(explained) < sanity.MOST_IMAGES else replace(one, pixels=None))
        if not json:
            sys.stdout.write(answers.told(one, width) + "\n")
    checked = sanity.check_explained(explainer, model, explained) if check else None
    if json:
        told = None if checked is None else checked.to_json()
        write_json(sys.stdout, answers.as_json(model, explainer, explained, told))
    elif checked is not None:
        sys.stdout.write(f"{checked}\n")
    if any(one.error is not None for one in explained):
        raise typer.Exit(1)


def _counted(answers: Iterator[Answer], total: int, label: str = "predict") -> Iterator[Answer]:
    """Hand answers on; after two seconds, tell on standard error how far they are."""
    drawn, start = screen(json=True), time.monotonic()
    try:
        for done, answer in enumerate(answers, 1):
            if time.monotonic() - start > 2 and done < total:
                drawn.show(Progress(label, done, total))
            yield answer
    finally:
        drawn.close()


def evaluate(
    context: typer.Context,
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled images, as for fit.")],
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Judge a bundle on labelled images (those of the test set, where there is one), and count that it was opened."""
    n_threads = None if threads is None else whole("--threads", threads, 1)
    from headway import workflow

    events = workflow.evaluate_bundle(bundle, data, threads=n_threads)
    finish(context, events, json, screen(json, quiet, verbose))
