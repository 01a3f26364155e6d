"""cache info, cache verify, cache prune."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.terminal.command import Json, finish, screen
from headway.terminal.grammar import whole


def info(context: typer.Context, json: Json = False) -> None:
    """Tell where the cache is, what it holds and how large it is."""
    from headway import workflow

    finish(context, workflow.cache_info(), json, screen(json))


def verify(context: typer.Context, json: Json = False) -> None:
    """Read all of the cache and check every digest; what is damaged is taken out. Ends with 1 where something was."""
    from headway import workflow

    result = finish(context, workflow.cache_verify(), json, screen(json))
    if result["damaged"]:
        raise typer.Exit(1)


def prune(
    context: typer.Context,
    days: Annotated[str, typer.Option(metavar="N", help="Remove what was not used for N days.")] = "30",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove what has not been used for a while. --days 0 removes everything."""
    n_days = whole("--days", days, 0)
    from headway import workflow

    finish(context, workflow.cache_prune(days=n_days, dry_run=dry_run), json, screen(json))
