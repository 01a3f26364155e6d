"""The command line: words → settings → workflow, messages and exit codes. Whatever is heavy is imported in a command.

0 done · 1 failed · 2 refused before work started · 75 stopped, the same command goes on · 130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway import __version__, files
from headway.errors import Refused
from headway.events import Note, Progress
from headway.terminal.grammar import Command, Group, whole
from headway.terminal.options import COMPARE, FIT, RESUME, SUMMARY, Option
from headway.terminal.outcome import Session, run
from headway.terminal.screen import Screen, printable, write_json
from headway.world import around

if TYPE_CHECKING:
    from headway.deployment.predictor import Prediction
    from headway.events import Event

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, all else on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings, errors and the answer.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="More of what was found and chosen.")]
BundlePath = Annotated[str, typer.Argument(metavar="BUNDLE", help="The bundle of a run.")]
Threads = Annotated[str | None, typer.Option(metavar="N", help="Processor cores to use.  [default: all]")]

_PLAIN = {"rich_markup_mode": None, "add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(cls=Group, **_PLAIN)  # type: ignore[arg-type]  # a dict of different types
cache_app = typer.Typer(cls=Group, **_PLAIN)  # type: ignore[arg-type]
app.add_typer(cache_app, name="cache")


def main() -> None:
    """The command line as a function: it ends with SystemExit."""
    sys.exit(run(typer.main.get_command(app), sys.argv[1:]))


def program() -> None:
    """The program `headway`. Leaves without taking torch apart piece by piece, which would take 3 s after a fit."""
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"headway {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def headway(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version and stop.")
    ] = False,
) -> None:
    """From a folder of labelled images to a classifier you can ship."""
    _help_alone(context)


@cache_app.callback(invoke_without_command=True)
def cache(context: typer.Context) -> None:
    """What is kept between runs: features and prepared networks."""
    _help_alone(context)


def _help_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _takes(options: Sequence[Option]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `f(context, ..., **options)` these options as typer reads them: by its signature."""

    def signed(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters.values()
        given = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        for option in options:
            words = option.flag + (f"/{option.negative}" if option.negative else "")
            info = typer.Option(words, metavar=option.metavar or None, help=option.told, rich_help_panel=option.section)
            note: Any = Annotated[str | None, info] if option.metavar else Annotated[bool | None, info]
            kind = inspect.Parameter.KEYWORD_ONLY
            given.append(inspect.Parameter(option.name, kind, default=None, annotation=note))
        function.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]  # functions take attributes
        function.__annotations__ = {parameter.name: parameter.annotation for parameter in given}
        return function

    return signed


def _given(options: Mapping[str, str | bool | None]) -> dict[str, Any]:
    """What was typed; the defaults stand in `settings` alone."""
    return {name: value for name, value in options.items() if value is not None}


@app.command(cls=Command)
@_takes((*FIT, RESUME))
def fit(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="A folder, manifest or archive.")] = None,
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: str | bool | None,
) -> None:
    """Train a classifier on labelled images, judge it, and write report and bundle.

    DATA is a folder per class (in train, val and test folders or not), a flat folder of cat.0.jpg, cat.1.jpg, ..., a
    CSV or Parquet file (path,label[,split][,group]), Parquet with images inside, tar shards (a .tar, a folder of
    them, "shard-{000..009}.tar"), or CIFAR's own archives. Shards, Parquet and CSV may lie in object storage, too
    (s3://, gs://, https://).

    Three defaults with bars between them are those of probe | finetune | scratch.
    """
    session: Session = context.obj
    session.resumable = True
    given = _given(options)
    resume = given.pop("resume", None)
    if data is None and resume is None:
        raise Refused(f"headway fit needs DATA. See: {context.command_path} --help")
    from headway.settings import fit_settings

    notes: tuple[str, ...] = ()
    if resume is not None:
        _alone(resume, data, given)
        from headway.runs import resume_settings

        settings, notes = resume_settings(resume)
    else:
        settings = fit_settings(str(data), **given)
    session.run = settings.run
    from headway import workflow

    if not around().leads:  # one of several processes under torchrun: the first one speaks for all
        session.follow(workflow.following(settings), Screen(StringIO(), StringIO()))
        return
    _finish(context, _noting(notes, workflow.fitting(settings)), json, _screen(json, quiet, verbose))


def _alone(resume: str, data: str | None, given: Mapping[str, object]) -> None:
    """Raise Refused where something else was typed beside --resume."""
    typed = [("--no-" if value is False else "--") + name.replace("_", "-") for name, value in given.items()]
    beside = [data, *typed] if data is not None else typed
    if beside:
        raise Refused(
            f"--resume {resume} goes on with the data and the options of that run: leave out {', '.join(beside)}"
        )


def _noting(notes: Sequence[str], events: Generator[Event, None, dict[str, Any]]) -> Generator[Event, None, Any]:
    """`events`, with notes before them."""
    yield from (Note(note) for note in notes)
    return (yield from events)


@app.command(cls=Command)
@_takes(COMPARE)
def compare(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, manifest or archive, as for fit.")],
    *,
    strategies: Annotated[
        str | None,
        typer.Option(metavar="S,S", help="Compare probe, finetune, scratch.", rich_help_panel="What to compare"),
    ] = None,
    recipes: Annotated[
        str | None,
        typer.Option(metavar="R,R", help="Compare recipes: names or files.", rich_help_panel="What to compare"),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: str | bool | None,
) -> None:
    """Train in several ways on the same split, judge them on the same images, and tell which differences are shown.

    An option goes to every way that understands it: --thaw to finetune alone, --epochs to all that train by epochs.
    What recipes say of the split is taken from the first one. The same command goes on with what is missing.
    """
    session: Session = context.obj
    session.resumable = True
    from headway.choices import compare_settings

    comparison = compare_settings(data, strategies=strategies, recipes=recipes, **_given(options))
    session.run = comparison.run
    from headway import workflow

    if not around().leads:
        for settings in comparison.settings:
            session.follow(workflow.following(settings), Screen(StringIO(), StringIO()))
        return
    _finish(context, _noting(comparison.notes, workflow.comparing(comparison)), json, _screen(json, quiet, verbose))


@app.command(cls=Command)
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A recipe, or a file with one.")] = None,
    json: Json = False,
) -> None:
    """List the named settings that --recipe takes, or show one: every setting, who says so, and what to expect."""
    from headway.terminal import showing

    if name is None:
        found = showing.recipes()
        if json:
            write_json(sys.stdout, {"recipes": found})
        else:
            typer.echo(showing.recipes_text(found))
    else:
        one = showing.recipe(name)
        if json:
            write_json(sys.stdout, one)
        else:
            typer.echo(showing.recipe_text(one))


@app.command(cls=Command)
def predict(
    context: typer.Context,
    bundle: BundlePath,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns; - = standard input.")
    ],
    csv: Annotated[bool, typer.Option("--csv", help="A table with a header instead of lines.")] = False,
    top: Annotated[str, typer.Option(metavar="N", help="How many classes to tell for an image.")] = "5",
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Copy each image to DIR/<class>/.")] = None,
    json: Json = False,
) -> None:
    """Say what is on images. Ends with 1 where one could not be read; the others are answered all the same."""
    if json and csv:
        raise Refused("--json and --csv are two answers to one question. Leave one out.")
    n_top = whole("--top", top, 1)
    from headway.deployment import bundle as bundles
    from headway.deployment import inputs, outputs, predictor

    found = inputs.expand(images, sys.stdin.buffer)
    model = bundles.load_bundle(bundle)
    predictions = predictor.predict(model, found.items, top=n_top)
    if out is not None:
        predictions = outputs.write_sorted(predictions, Path(out), found, model.classes)
    if not (json or sys.stdout.isatty()):
        predictions = _counted(predictions, len(found.items))
    if json:
        answers = list(_counted(predictions, len(found.items)))
        write_json(sys.stdout, outputs.as_json({"path": str(model.path), "digest": model.digest}, answers))
        failed = sum(answer.error is not None for answer in answers)
    else:
        failed = 0
        sys.stdout.write(files.csv_line(outputs.csv_columns(n_top)) if csv else "")
        width = min(40, max(len(printable(item.name)) for item in found.items))
        for answer in predictions:
            failed += answer.error is not None
            line = files.csv_line(outputs.csv_row(answer, n_top)) if csv else outputs.line(answer, n_top, width) + "\n"
            sys.stdout.write(line)
    if failed:
        raise typer.Exit(1)


def _counted(answers: Iterator[Prediction], total: int) -> Iterator[Prediction]:
    """Hand answers on; after two seconds, tell on standard error how far they are."""
    screen, start = _screen(json=True), time.monotonic()
    try:
        for done, answer in enumerate(answers, 1):
            if time.monotonic() - start > 2 and done < total:
                screen.show(Progress("predict", done, total))
            yield answer
    finally:
        screen.close()


@app.command(cls=Command)
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
    _finish(context, events, json, _screen(json, quiet, verbose))


@app.command(cls=Command)
@_takes(SUMMARY)
def summary(
    *,
    classes: Annotated[str, typer.Option(metavar="N", help="Number of classes.")] = "2",
    batch: Annotated[str, typer.Option(metavar="N", help="Images at a time, for the megabytes.")] = "1",
    json: Json = False,
    **options: str | bool | None,
) -> None:
    """Print a network layer by layer, with its parameters and megabytes."""
    n_classes, n_batch = whole("--classes", classes, 2), whole("--batch", batch, 1)
    from headway.settings import fit_settings

    settings = fit_settings(".", batch=n_batch, **_given(options))
    from headway import workflow

    result = workflow.summarise(settings, classes=n_classes)
    if json:
        write_json(sys.stdout, result)
    else:
        typer.echo(result["text"])


@app.command(cls=Command)
def backbones(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern as *resnet*.")] = "",
    json: Json = False,
) -> None:
    """List the networks that images can be seen through, and which of them work here and now without a network."""
    from headway import workflow

    rows = workflow.list_backbones(pattern)
    if json:
        write_json(sys.stdout, {"backbones": [asdict(row) for row in rows]})
    else:
        from headway.terminal.showing import backbones_text

        typer.echo(backbones_text(rows))


@cache_app.command(cls=Command)
def info(context: typer.Context, json: Json = False) -> None:
    """Tell where the cache is, what it holds and how large it is."""
    from headway import workflow

    _finish(context, workflow.cache_info(), json, _screen(json))


@cache_app.command(cls=Command)
def verify(context: typer.Context, json: Json = False) -> None:
    """Read all of the cache and check every digest; what is damaged is taken out. Ends with 1 where something was."""
    from headway import workflow

    result = _finish(context, workflow.cache_verify(), json, _screen(json))
    if result["damaged"]:
        raise typer.Exit(1)


@cache_app.command(cls=Command)
def prune(
    context: typer.Context,
    days: Annotated[str, typer.Option(metavar="N", help="Remove what was not used for N days.")] = "30",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove what has not been used for a while. --days 0 removes everything."""
    n_days = whole("--days", days, 0)
    from headway import workflow

    _finish(context, workflow.cache_prune(days=n_days, dry_run=dry_run), json, _screen(json))


def _screen(json: bool, quiet: bool = False, verbose: bool = False) -> Screen:
    """With --json the story goes to standard error, so that standard output holds the object alone."""
    return Screen(sys.stderr if json else sys.stdout, sys.stderr, quiet, verbose)


def _finish(context: typer.Context, events: Generator[Event, None, dict[str, Any]], json: bool, screen: Screen) -> Any:
    session: Session = context.obj
    result = session.follow(events, screen)
    if json:
        write_json(sys.stdout, result)
    return result
