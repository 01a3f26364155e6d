"""`headway view`, from a folder of runs to a server that has ended in good order."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from headway.data.wording import shown
from headway.errors import Refused
from headway.serving.limits import Limits

NEEDED = {"uvicorn": "uvicorn", "jinja2": "jinja2", "yaml": "pyyaml"}


def check_installed(needed: dict[str, str] | None = None) -> None:
    """Raise Refused where the packages of the pages or of their server are missing.

    needed  module → name of its package; None: those of this room
    """
    missing = [name for module, name in (needed or NEEDED).items() if find_spec(module) is None]
    if missing:
        raise Refused(
            f"headway view needs {', '.join(missing)}, not installed here. Try: pip install 'headway[train,serve]'"
        )


def run(
    root: Path, where: tuple[str, int], limits: Limits, *, ready: Callable[[str], None], log: Callable[[str], None]
) -> None:
    """Serve the pages over the runs in `root` until SIGINT or SIGTERM.

    where  address and port
    ready  gets the line that tells where it listens, as soon as requests are taken
    log    gets a line of JSON for every fault of our own

    Raises Refused where the folder or the port cannot be had, or anyone could reach it without a token.
    """
    check_installed()
    from headway.serving import listening
    from headway.serving.logs import event_line
    from headway.serving.running import check_reach
    from headway.viewer.app import App

    host, port = where
    _check_folder(root)
    check_reach(host, limits)
    app = App(root, str(root), limits, lambda id, trace: log(event_line("fault", id=id, trace=trace)))
    opened = listening.open_port(host, port)
    try:
        told = f"view     {listening.address_of(opened)}   ({shown(str(root))}; Ctrl-C stops)"
        listening.serve(app, opened, limits, lambda: ready(told))
    finally:
        opened.close()


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise Refused(
            f"{shown(str(root))} does not exist. Expected a folder of runs, as headway fit makes them in runs/"
        )
    if not root.is_dir():
        raise Refused(f"{shown(str(root))} is a file. Expected a folder of runs, as headway fit makes them in runs/")
