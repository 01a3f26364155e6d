"""fit, compare, summary."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.errors import Refused
from headway.events import Note
from headway.terminal.command import Json, Quiet, Verbose, finish, given, screen, takes
from headway.terminal.grammar import whole
from headway.terminal.options import COMPARE, FIT, RESUME, SUMMARY
from headway.terminal.outcome import Session
from headway.terminal.screen import Screen, write_json
from headway.world import around

if TYPE_CHECKING:
    from headway.events import Event


@takes((*FIT, RESUME))
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
    typed = given(options)
    resume = typed.pop("resume", None)
    if data is None and resume is None:
        raise Refused(f"headway fit needs DATA. See: {context.command_path} --help")
    from headway.settings import fit_settings

    notes: tuple[str, ...] = ()
    if resume is not None:
        _alone(resume, data, typed)
        from headway.runs import resume_settings

        settings, notes = resume_settings(resume)
    else:
        settings = fit_settings(str(data), **typed)
    session.run = settings.run
    if settings.budget is not None and around().size > 1:
        raise Refused("--budget works in one process: leave it out, or start headway without torchrun")
    from headway import workflow

    if not around().leads:  # one of several processes under torchrun: the first one speaks for all
        session.follow(workflow.following(settings), Screen(StringIO(), StringIO()))
        return
    finish(context, _noting(notes, workflow.fitting(settings)), json, screen(json, quiet, verbose))


def _alone(resume: str, data: str | None, typed: Mapping[str, object]) -> None:
    """Raise Refused where something else was typed beside --resume."""
    words = [("--no-" if value is False else "--") + name.replace("_", "-") for name, value in typed.items()]
    beside = [data, *words] if data is not None else words
    if beside:
        raise Refused(
            f"--resume {resume} goes on with the data and the options of that run: leave out {', '.join(beside)}"
        )


def _noting(notes: Sequence[str], events: Generator[Event, None, dict[str, Any]]) -> Generator[Event, None, Any]:
    """`events`, with notes before them."""
    yield from (Note(note) for note in notes)
    return (yield from events)


@takes(COMPARE)
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

    comparison = compare_settings(data, strategies=strategies, recipes=recipes, **given(options))
    session.run = comparison.run
    from headway import workflow

    if not around().leads:
        for settings in comparison.settings:
            session.follow(workflow.following(settings), Screen(StringIO(), StringIO()))
        return
    finish(context, _noting(comparison.notes, workflow.comparing(comparison)), json, screen(json, quiet, verbose))


@takes(SUMMARY)
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

    settings = fit_settings(".", batch=n_batch, **given(options))
    from headway import workflow

    result = workflow.summarise(settings, classes=n_classes)
    if json:
        write_json(sys.stdout, result)
    else:
        typer.echo(result["text"])
