"""How words on the command line are read: mistakes become Refused, with the nearest right word; help has sections."""

from __future__ import annotations

import math
import re
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from headway.errors import Refused, nearest

# typer brings its own copy of click in some releases and takes the installed one in others.
UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])


def as_typed(param: Any) -> Any:
    """`param`, handing on what was typed: in this house every value is text until `settings` or a command reads it.

    typer's own conversion would give the same, but some releases import pydantic for it, half of what --help takes.
    """
    if "process_value" not in vars(param):
        convert = param.process_value

        def process(ctx: Any, value: Any) -> Any:
            absent = value is None and not param.required and param.nargs == 1
            several = isinstance(value, tuple | list) and len(value) > 0 and all(isinstance(v, str) for v in value)
            if not (absent or several or isinstance(value, str | bool)):
                return convert(ctx, value)  # among others: what must be there and is not
            value = list(value) if several else value
            return value if param.callback is None else param.callback(ctx, param, value)

        param.process_value = process
    return param


class Command(TyperCommand):
    """A command whose help groups its options in sections."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer, their values as typed."""
        return [as_typed(param) for param in super().get_params(ctx)]

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

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer, their values as typed."""
        return [as_typed(param) for param in super().get_params(ctx)]

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


def whole(option: str, word: str, low: int) -> int:
    """The whole number that was typed for `option`. Raises Refused below `low`, or where it is none."""
    if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) >= low):
        raise Refused(f"{option} {word}: expected a whole number of {low} or more")
    return int(word)


def size(option: str, word: str) -> int:
    """The bytes of "20MB", "500kB", "1GB" or a plain number that was typed for `option`. Raises Refused else."""
    found = re.fullmatch(r"([0-9]{1,12})(|k|M|G)(?:B|b)?", word.replace("KB", "kB"))
    if found is None or int(found[1]) == 0:
        raise Refused(f"{option} {word}: expected a size, as 20MB")
    return int(found[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[2]]


def share(option: str, word: str) -> float:
    """The number between 0 and 1 that was typed for `option`. Raises Refused where it is none."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise Refused(f"{option} {word}: expected a number between 0 and 1, as 0.95")
    return value


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
    return f"{text[:1].lower()}{text[1:]}. {see}"
