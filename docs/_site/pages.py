"""Pages that lie outside of docs/ and links between all of them, for mkdocs (`hooks` of mkdocs.yml).

A link in a file is that of the file's own place, so that it works where the source is read; here it becomes the site's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/ARCHITECTURE.md",
    "CONTRIBUTING.md": "project/CONTRIBUTING.md",
    "CHANGELOG.md": "project/CHANGELOG.md",
    "benchmarks/RESULTS.md": "project/RESULTS.md",
}
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside, under their names in the site."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    place = page.file.src_uri
    source = next((own for own, shown in OUTSIDE.items() if shown == place), f"docs/{place}")

    def turned(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), match[2]))
        where = OUTSIDE.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if where is None:
            return match[0]
        return f"{match[1]}{os.path.relpath(where, os.path.dirname(place) or '.')}{match[3] or ''}{match[4]}"

    return _LINK.sub(turned, markdown)
