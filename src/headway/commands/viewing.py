"""view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headway.commands.serving import log_line, say, token_of
from headway.terminal.command import given, takes
from headway.terminal.grammar import whole
from headway.terminal.options import VIEW


@takes(VIEW)
def view(
    runs: Annotated[str, typer.Argument(metavar="[RUNS]", help="The folder of runs.  [default: runs]")] = "runs",
    **options: str | bool | None,
) -> None:
    """Show the runs of a folder on a local page: a table, runs beside each other, their reports. Writes nothing."""
    from headway.serving.limits import Limits
    from headway.viewer import running

    typed = given(options)
    running.check_installed()
    from headway.serving.listening import allowed_hosts

    port = whole("--port", typed.get("port", "8100"), 0)
    host = typed.get("host", "127.0.0.1")
    limits = Limits(max_body=10_000, token=token_of(typed.get("token")), hosts=allowed_hosts(host))
    running.run(Path(runs), (host, port), limits, ready=say, log=log_line)
