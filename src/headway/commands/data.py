"""audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.terminal.command import Json, Quiet, Verbose, finish, given, screen, takes
from headway.terminal.options import AUDIT
from headway.terminal.outcome import Session


@takes(AUDIT)
def audit(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, manifest or archive, as for fit.")],
    *,
    write: Annotated[
        str | None,
        typer.Option(metavar="FILE.csv", help="Write a list of all images but the suspects, which fit reads."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: str | bool | None,
) -> None:
    """Say what is wrong with the data: labels, leaks, shortcuts, outliers, broken and odd images.

    Makes a folder with audit.html and audit.json. Nothing is mended, and the data is never written to.
    """
    session: Session = context.obj
    session.resumable = True  # what was seen is in the cache
    from headway.settings import fit_settings

    settings = fit_settings(data, **given(options))
    from headway import workflow

    events = workflow.audit_data(settings, None if write is None else Path(write))
    finish(context, events, json, screen(json, quiet, verbose))
