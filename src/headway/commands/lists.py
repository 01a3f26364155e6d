"""recipes, backbones."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from headway.terminal.command import Json
from headway.terminal.screen import write_json


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
