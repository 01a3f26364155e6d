"""push, pull."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.terminal.command import BundlePath, Json, Quiet, Verbose, finish, screen

Repo = Annotated[str, typer.Argument(metavar="REPO", help="A model repository on the hub: user/name.")]


def push(
    context: typer.Context,
    bundle: BundlePath,
    repo: Repo,
    *,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it.  [default: private]")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put a bundle into a model repository on the Hugging Face hub, which is made where it is not there."""
    from headway.ecosystem import hub

    finish(context, hub.push(bundle, repo, public=public), json, screen(json, quiet, verbose))


def pull(
    context: typer.Context,
    repo: Repo,
    folder: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="Where to.  [default: the repository's name]")
    ] = None,
    *,
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="A branch, tag or commit.  [default: main]")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch a bundle from a model repository on the Hugging Face hub, and check every file of it."""
    from headway.ecosystem import hub

    finish(context, hub.pull(repo, folder, revision=revision), json, screen(json, quiet, verbose))
