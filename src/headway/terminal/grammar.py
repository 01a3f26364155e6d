"""How words on the command line are read: mistakes become Refused, with the nearest right word; help has sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from headway.errors import Refused, nearest

# typer brings its own copy of click in some releases and takes the installed one in others.
UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])


class Command(TyperCommand):
    """A command whose help groups its options in sections."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer. Raises Refused where a word is wrong or missing."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            raise Refused(usage(error, ctx)) from None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then one section per panel, then what belongs to every command."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                sections.setdefault("Arguments", []).append((_placeholder(param), getattr(param, "help", None) or ""))
            else:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                sections.setdefault(panel, []).append(_record(param))
        sections["Options"] = sections.pop("Options", [])  # the common ones come last
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """[OPTIONS], and the arguments as their help calls them."""
        arguments = [_placeholder(p) for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return ["[OPTIONS]", *arguments]


def _placeholder(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _record(param: Any) -> tuple[str, str]:
    """An option and what it does: our own words, so that help reads the same under every release of typer."""
    flags = ", ".join(param.opts) + ("" if param.is_flag else f" {_placeholder(param)}")
    if param.secondary_opts:
        flags = flags.replace("--", "--[no-]")
    shown = param.default is not None and not param.is_flag
    return flags, (param.help or "") + (f"  [default: {param.default}]" if shown else "")


class Group(TyperGroup):
    """A group of commands that knows the nearest one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer. Raises Refused where a word is wrong or missing."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            raise Refused(usage(error, ctx)) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer. Raises Refused, with the nearest command, where there is none of that name."""
        if args and args[0] not in self.commands:
            near = nearest(args[0], self.commands, n=1)
            hint = f"Did you mean {ctx.command_path} {near[0]} ?" if near else f"There are: {', '.join(self.commands)}"
            raise Refused(f"no command '{args[0]}'. {hint}")
        return super().resolve_command(ctx, args)


def whole(low: int, high: int = 2**31) -> Callable[[str | int], int]:
    """A reader of whole numbers from `low` to `high`, for typer's `parser`."""

    def read(value: str | int) -> int:
        word = str(value)  # typer hands the default through, too
        if not (word.isascii() and word.isdigit() and low <= int(word) <= high):
            limit = f"from {low} to {high}" if high < 2**31 else f"of {low} or more"
            raise typer.BadParameter(f"{word}: expected a whole number {limit}")
        return int(word)

    return read


def usage(error: Exception, ctx: Any) -> str:
    """What click found wrong, in the words of this house."""
    see = f"See: {ctx.command_path} --help"
    param = getattr(error, "param", None)
    text = str(getattr(error, "message", error)).rstrip(".")
    if hasattr(error, "possibilities"):  # no such option
        flags = [flag for known in ctx.command.get_params(ctx) for flag in (*known.opts, *known.secondary_opts)]
        wrong = str(getattr(error, "option_name", ""))
        near = nearest(wrong, flags, n=1)
        return f"no option {wrong}. " + (f"Did you mean {near[0]} ?" if near else see)
    if hasattr(error, "param_type") and param is not None:  # nothing given for an argument that must be there
        return f"{ctx.command_path} needs {_placeholder(param)}. {see}"
    if hasattr(error, "option_name"):  # nothing after an option that takes a value, or a value after a switch
        return f"{error.option_name} {'takes no' if 'not take' in text else 'needs a'} value. {see}"
    if "unexpected extra" in text:
        return f"{ctx.command_path} does not expect {text[text.index(' (') + 2 : -1]}. {see}"
    if param is not None:
        return f"{param.opts[-1]} {text}"
    return f"{text[:1].lower()}{text[1:]}. {see}"
