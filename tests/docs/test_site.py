"""The site of docs/: built strictly and without a network, complete, its generated pages fresh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import headway
from tests.settings_page import page as settings_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


class _Addresses(HTMLParser):
    """Every address that a page makes a browser fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        fetched = tag in ("script", "img", "iframe", "source") or (tag == "link" and told.get("rel") != "canonical")
        self.found += [address for name in ("src", "href") if fetched and (address := told.get(name))]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_site__builds_strictly_and_asks_no_other_machine(tmp_path: Path) -> None:
    done = build(tmp_path / "site")  # a link or an anchor that leads nowhere is a warning, and a warning fails

    assert (done.returncode, [line for line in done.stderr.splitlines() if "WARN" in line or "ERR" in line]) == (0, [])
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    fetched = set()
    for path in pages:
        reader = _Addresses()
        reader.feed(path.read_text(encoding="utf-8"))
        fetched |= {address for address in reader.found if re.match(r"(https?:)?//", address)}
    styles = (tmp_path / "site").rglob("*.css")
    assert fetched == set()
    assert [path.name for path in styles if re.search(r"url\([\"']?https?:|@import", path.read_text())] == []
    told = (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    assert [name for name in headway.__all__ if f'.{name}"' not in told] == []
    assert "Take away" not in told  # nothing private


def test_site__every_page_stands_in_the_navigation() -> None:
    told = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []
        return [page for part in parts for page in pages(part)]

    listed = pages(yaml.safe_load(told)["nav"])
    missing = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - set(listed)
    assert missing == set(), "a page of docs/ takes a line in mkdocs.yml"


def test_settings_page__is_what_the_settings_say() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_page(), "run: make docs"


def test_decisions__have_five_lines_each() -> None:
    heads = ["Why it came up.", "Decided.", "Else.", "Would change it.", "Where."]
    pages = [path for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md"]
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")

    assert len(pages) >= 10
    for path in pages:
        assert re.findall(r"^- \*\*(.*?)\*\*", path.read_text(encoding="utf-8"), re.MULTILINE) == heads, path.name
        assert f"({path.name})" in index
