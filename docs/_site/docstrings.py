"""Docstrings as this project writes them, for mkdocstrings: a column of names and what each is becomes a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

# `name, other  what they are`, its further lines indented.
_ENTRY = re.compile(r"^(?P<names>[\w.]+(?:, [\w.]+)*)  +(?P<text>\S.*)$")


def as_list(text: str) -> str:
    """Lines of two columns as a Markdown list; all else as it is."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            if not inside and lines and lines[-1]:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
            lines.append(f"- {names}: {entry['text']}")
        elif inside and line.startswith("  "):
            lines.append(f"  {line.strip()}")
            continue
        else:
            lines.append(line)
        inside = entry is not None
    return "\n".join(lines)


class Columns(griffe.Extension):
    """Reads every docstring so."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_list(obj.docstring.value)
