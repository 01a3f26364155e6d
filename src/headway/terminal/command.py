"""What commands have in common: options that several take, the screen they draw on, how their answer is given."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.terminal.options import Option
from headway.terminal.outcome import Session
from headway.terminal.screen import Screen, write_json

if TYPE_CHECKING:
    from headway.events import Event

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, all else on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings, errors and the answer.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="More of what was found and chosen.")]
BundlePath = Annotated[str, typer.Argument(metavar="BUNDLE", help="The bundle of a run.")]
Threads = Annotated[str | None, typer.Option(metavar="N", help="Processor cores to use.  [default: all]")]


def takes(options: Sequence[Option]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `f(context, ..., **options)` these options as typer reads them: by its signature."""

    def signed(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters.values()
        given = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        for option in options:
            words = option.flag + (f"/{option.negative}" if option.negative else "")
            info = typer.Option(words, metavar=option.metavar or None, help=option.told, rich_help_panel=option.section)
            note: Any = Annotated[str | None, info] if option.metavar else Annotated[bool | None, info]
            kind = inspect.Parameter.KEYWORD_ONLY
            given.append(inspect.Parameter(option.name, kind, default=None, annotation=note))
        function.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]  # functions take attributes
        function.__annotations__ = {parameter.name: parameter.annotation for parameter in given}
        return function

    return signed


def given(options: Mapping[str, str | bool | None]) -> dict[str, Any]:
    """What was typed; the defaults stand in `settings` alone."""
    return {name: value for name, value in options.items() if value is not None}


def screen(json: bool, quiet: bool = False, verbose: bool = False) -> Screen:
    """With --json the story goes to standard error, so that standard output holds the object alone."""
    return Screen(sys.stderr if json else sys.stdout, sys.stderr, quiet, verbose)


def finish(context: typer.Context, events: Generator[Event, None, dict[str, Any]], json: bool, shown: Screen) -> Any:
    session: Session = context.obj
    result = session.follow(events, shown)
    if json:
        write_json(sys.stdout, result)
    return result
