"""rank."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headway.terminal.command import Json, Quiet, Threads, Verbose, finish, screen
from headway.terminal.grammar import whole


def rank(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled images, as for fit.")],
    backbones: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Names, as headway backbones lists them; NAME=none for random weights, NAME=FILE for those of a file.",
        ),
    ] = "tf_efficientnet_lite0,tf_efficientnet_lite1,tf_efficientnet_lite2",
    images: Annotated[str, typer.Option(metavar="N", help="Look at no more images than this.")] = "1000",
    seed: Annotated[str, typer.Option(metavar="N", help="That of fit: its test images are left alone.")] = "0",
    threads: Threads = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no hub.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Try several backbones on some of the images, and rank them by what a cross-validated head makes of each.

    The test images of a later fit with the same seed are not among them. A backbone whose weights are not here is named
    with the reason; the others are ranked all the same.
    """
    n_images, n_seed = whole("--images", images, 20), whole("--seed", seed, 0)
    n_threads = None if threads is None else whole("--threads", threads, 1)
    from headway import workflow
    from headway.ranking import Request, read_rivals

    request = Request(read_rivals(backbones), n_images, n_seed, n_threads, offline)
    result = finish(context, workflow.ranking(data, request), json, screen(json, quiet, verbose))
    if not json:
        from headway.terminal.showing import ranking_text

        sys.stdout.write(ranking_text(result) + "\n")
