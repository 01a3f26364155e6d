"""audit, fetch, convert."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headway.errors import Refused
from headway.terminal.command import Json, Quiet, Verbose, finish, given, screen, takes
from headway.terminal.options import AUDIT
from headway.terminal.outcome import Session
from headway.terminal.screen import table, write_json

Kind = Annotated[
    str, typer.Option("--to", metavar="KIND", help="folders, csv, parquet, webdataset, imagefolder or coco.")
]


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


def fetch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A data set, as cifar10 (--list names them).")] = "",
    *,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="The folder to make.  [default: NAME, in this folder]")
    ] = None,
    to: Kind = "folders",
    listing: Annotated[bool, typer.Option("--list", help="Tell what can be fetched, and its licences.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a well-known data set from where its authors give it, as folders that fit reads. Needs a network.

    The files come through torchvision, which checks them. Its splits are kept, its images are those of the authors.
    The same command goes on after a stop, and does nothing where the folder is there.
    """
    from headway.exchange import catalog

    if listing:
        if json:
            write_json(sys.stdout, {"datasets": catalog.as_json()})
        else:
            typer.echo(table(catalog.rows(), right=("images", "classes", "MB")))
        return
    if not name:
        raise Refused("headway fetch needs NAME. See: headway fetch --list")
    from headway.exchange import fetching

    session: Session = context.obj
    session.resumable = True
    asked = fetching.check(name, out, to)
    finish(context, fetching.fetch(asked), json, screen(json, quiet))


def convert(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="Labelled images, whatever fit reads.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The folder to make. Nothing is overwritten.")],
    *,
    to: Kind = "folders",
    crop: Annotated[
        bool, typer.Option("--crop", help="Of COCO's annotations: an image of each box, cut out, as PNG.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a data set in another form: folders, a list, Parquet, tar shards, COCO. Labels and splits are kept.

    The bytes of images are not changed. Damaged ones are named and set aside.
    """
    from headway.exchange.conversion import Target, check_target, convert_from

    check_target(to, target, source)
    finish(context, convert_from(source, Target(to, Path(target)), crop=crop), json, screen(json, quiet))
