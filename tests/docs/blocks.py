"""Fenced blocks of the documents, and which of them are commands: `python -m tests.docs.blocks` lists them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
GENERATED = ("docs/cli.md", "docs/settings.md")  # compared with what makes them
SHELL, PYTHON = ("", "console", "bash", "sh"), ("python",)
_BLOCK = re.compile(
    r"^(?:<!-- not run(?: here)?: (?P<why>.*?) -->\n)?^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One block. why: the reason why it is not run, "" where it is."""

    page: str
    line: int
    language: str
    text: str
    why: str

    @property
    def commands(self) -> tuple[str, ...]:
        """What a shell would be given, one command each; of a transcript the lines after `$ `."""
        joined = re.sub(r" *\\\n\s*", " ", self.text)
        lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return tuple(typed or lines) if self.language in SHELL else ()


def blocks(path: Path) -> list[Block]:
    """The blocks of a page that are commands or Python."""
    page, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, own.start()) + 1, own["language"], own["text"], own["why"] or "")
        for own in _BLOCK.finditer(text)
    ]
    return [own for own in found if own.language in (*SHELL, *PYTHON) and page not in GENERATED]


def main() -> None:
    for path in PAGES:
        for own in blocks(path):
            told = f"not run: {own.why}" if own.why else "run"
            first = own.commands[:3] if own.commands else own.text.splitlines()[:1]
            sys.stdout.write(f"{own.page}:{own.line}  {own.language or '-'}  {told}\n")
            sys.stdout.writelines(f"    {line}\n" for line in first)


if __name__ == "__main__":
    main()
