"""tune."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.terminal.command import Json, Quiet, Verbose, finish, given, screen, takes
from headway.terminal.options import TUNE
from headway.terminal.outcome import Session


@takes(TUNE)
def tune(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, manifest or archive, as for fit.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: str | bool | None,
) -> None:
    """Search for the best settings, judge the winner on images that the search never saw, and fit it.

    With --strategy probe (the default) the network looks once at each image, and trials train heads on what it saw.
    With finetune each trial trains the network. An option of fit that is typed is fixed; the others are searched.
    The same command goes on with a search that was stopped. Needs the extra [tune].
    """
    session: Session = context.obj
    session.resumable = True
    from headway.tuning.request import read_request

    request = read_request(data, **given(options))
    session.run = request.base.run
    from headway import workflow

    finish(context, workflow.tuning(request), json, screen(json, quiet, verbose))
