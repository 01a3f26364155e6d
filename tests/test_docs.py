"""The documents say what the program does: options exist, the page of commands is fresh, examples run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from headway.cli import app
from headway.settings import FitSettings
from tests import make
from tests.cli_page import commands, page

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = ROOT / "README.md"
COMMANDS = dict(commands(typer.main.get_command(app), "headway"))


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of a Markdown page that are marked as `language` ("" = unmarked)."""
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def typed(path: Path) -> list[str]:
    """Every headway command that a page shows: lines of console blocks, and `code` in running text."""
    text = path.read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ") for line in re.sub(r"\\\n\s*", " ", text).splitlines()]
    inline = re.findall(r"`(headway [^`]+)`", text)
    given = (re.search(r"(?:^| -- )(headway [a-z]+ .*)", line) for line in lines)  # torchrun ... -- headway fit ...
    return [*(own[1].removesuffix(" &").split("  #")[0] for own in given if own), *inline]


def named(words: list[str]) -> str | None:
    """The command that `words` begin with; None where they name none (`headway cache`, prose)."""
    return next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in COMMANDS), None)


def unknown(command: str) -> list[str]:
    """Options in `command` that its program does not have."""
    words = shlex.split(command.replace("'", ""), comments=True)
    name = named(words)
    if name is None:
        return []
    flags = {flag for param in COMMANDS[name].params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
    return [word for word in words if word.startswith("--") and word.rstrip(".,").split("=")[0] not in flags]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages__every_option_exists(path: Path) -> None:
    assert {command: unknown(command) for command in typed(path) if unknown(command)} == {}


def test_pages__an_unknown_option_is_found() -> None:
    assert unknown("headway fit photos --epoch 3 --json") == ["--epoch"]
    assert unknown("headway cache prune --day 3") == ["--day"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages__links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))

    assert [link for link in links if not (path.parent / link).exists()] == []


def test_cli_page__is_what_help_says() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page(), "run: make docs"


def test_cli_page__every_option_of_fit() -> None:
    missing = {f"--{name.replace('_', '-')} " for name in FitSettings.model_fields if name != "data"} - {
        f"{flag} " for param in COMMANDS["headway fit"].params for flag in param.opts
    }

    assert missing == set()


def test_makefile__every_target_is_told() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)

    assert targets is not None
    assert [name for name in targets.group(1).split() if not re.search(rf"^{name}:.*## ", text, re.MULTILINE)] == []


@pytest.mark.slow
def test_readme__the_python_story_runs(tmp_path: Path) -> None:
    stories = [block for block in blocks(README, "python") if "headway.extract" in block]
    if not stories:
        pytest.skip("the README tells no story in Python")
    make.class_folders(tmp_path / "photos", {"cats": 40, "dogs": 40})
    make.write(tmp_path / "new.jpg", make.jpeg(kind=1, seed=9_999))

    for story in stories:
        done = subprocess.run([sys.executable, "-c", story], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "accuracy" in done.stdout
