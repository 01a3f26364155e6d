"""The command line: words → settings → workflow, messages and exit codes. Whatever is heavy is imported in a command.

0 done · 1 failed · 2 refused before work started · 75 stopped, the same command goes on · 130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from headway import __version__
from headway.commands import (
    bundles,
    caches,
    data,
    exporting,
    hubs,
    lists,
    planning,
    serving,
    training,
    tuning,
    viewing,
)
from headway.terminal.grammar import Command, Group
from headway.terminal.outcome import run

_PLAIN = {"rich_markup_mode": None, "add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(cls=Group, **_PLAIN)  # type: ignore[arg-type]  # a dict of different types
cache_app = typer.Typer(cls=Group, **_PLAIN)  # type: ignore[arg-type]
app.add_typer(cache_app, name="cache")


def main() -> None:
    """The command line as a function: it ends with SystemExit."""
    sys.exit(run(typer.main.get_command(app), sys.argv[1:]))


def program() -> None:
    """The program `headway`. Leaves without taking torch apart piece by piece, which would take 3 s after a fit."""
    # NumPy's OpenBLAS, not imported yet: its threads spin for 20 ms after each product, on the cores that torch wants
    # next, for a quarter of the time of a small fit. 4 is the shortest there is, as a power of two of clock cycles.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    # GNU OpenMP under torch: its threads spin for a millisecond and more where one waits for the other. On cores that
    # something else uses, too, a step of training took twice the time; on free ones 2,000 is as fast, and 300 is not.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # Python looks for garbage whenever 700 objects more are there; with torch's half a million of them a run of half a
    # minute spent a second on that.
    gc.set_threshold(20_000, 10, 10)
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


for _command in (
    training.fit,
    training.compare,
    tuning.tune,
    planning.plan,
    planning.rank,
    data.audit,
    data.fetch,
    data.convert,
    lists.recipes,
    bundles.predict,
    bundles.explain,
    bundles.evaluate,
    exporting.export,
    serving.serve,
    viewing.view,
    hubs.push,
    hubs.pull,
    training.summary,
    lists.backbones,
):
    app.command(cls=Command)(_command)
for _command in (caches.info, caches.verify, caches.prune):
    cache_app.command(cls=Command)(_command)
