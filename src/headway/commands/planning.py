"""plan, rank."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headway.terminal.command import Json, Quiet, Verbose, finish, given, screen, takes
from headway.terminal.grammar import whole
from headway.terminal.options import PLAN, RANK


@takes(PLAN)
def plan(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, manifest or archive, as for fit.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: str | bool | None,
) -> None:
    """Predict what each road would cost here: seconds, memory, disk, and which of them fit into a budget.

    Measures on a few dozen of the images, and remembers what is about this machine and this network. Nothing is
    trained, and no image that the data gives as test is looked at.
    """
    from headway.choices import road_settings
    from headway.settings import fit_settings

    typed = given(options)
    budget = typed.pop("budget", None)
    ways = road_settings(data, **typed)
    seconds = None if budget is None else fit_settings(data, budget=budget).seconds
    from headway import workflow
    from headway.terminal.showing import plan_text

    result = finish(context, workflow.planning(ways, seconds), json, screen(json, quiet, verbose))
    if not json:
        typer.echo(plan_text(result))


@takes(RANK)
def rank(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled images, as for fit.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: str | bool | None,
) -> None:
    """Try several backbones on some of the images, and rank them by what a cross-validated head makes of each.

    The test images of a later fit with the same seed are not among them. A backbone whose weights are not here is named
    with the reason; the others are ranked all the same.
    """
    typed = {**{option.name: option.default for option in RANK if option.metavar}, **given(options)}
    n_images, seed = whole("--images", typed["images"], 20), whole("--seed", typed["seed"], 0)
    threads = None if typed["threads"] == "all" else whole("--threads", typed["threads"], 1)
    from headway import workflow
    from headway.ranking import Request, read_rivals

    request = Request(read_rivals(typed["backbones"]), n_images, seed, threads, bool(typed.get("offline")))
    result = finish(context, workflow.ranking(data, request), json, screen(json, quiet, verbose))
    if not json:
        from headway.terminal.showing import ranking_text

        sys.stdout.write(ranking_text(result) + "\n")
