"""docs/cli.md, made from --help: `python -m tests.cli_page > docs/cli.md` (`make docs`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from headway.cli import app

HEAD = """# The command line

Made by `make docs` from `--help`. Every command takes `--json`: one JSON object on standard output, all else on
standard error; where a command fails, the object is `{"error": ..., "exit_code": ...}`.

| exit code | means |
|---|---|
| 0 | done; `fit` may have set damaged images aside, and names them; `serve` ended by Ctrl-C or SIGTERM |
| 1 | failed; `predict`: an image could not be read, the others are answered |
| 2 | refused before work started |
| 75 | stopped (Ctrl-C, SIGTERM, disk full), and the same command goes on from there |
| 130, 143 | Ctrl-C, SIGTERM in a command that has nothing to go on from |
"""


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command under `group` with its full name, groups aside."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in commands(typer.main.get_command(app), "headway"):
        text = command.get_help(command.context_class(command, info_name=name, terminal_width=100))
        parts.append(f"\n## {name}\n\n```\n{text.strip()}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
