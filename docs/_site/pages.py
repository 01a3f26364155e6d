"""Pages that lie outside of docs/ and links between all of them, for mkdocs (`hooks` of mkdocs.yml).

A link in a file is that of the file's own place, so that it works where the source is read; here it becomes the site's.
"""

from __future__ import annotations

import html
import json
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
NOTEBOOKS = {f"examples/{path.name}": f"notebooks/{path.stem}.md" for path in sorted(ROOT.glob("examples/*.ipynb"))}
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside, under their names in the site."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for source, page in NOTEBOOKS.items():
        files.append(File.generated(config, page, content=notebook_page((ROOT / source).read_text(encoding="utf-8"))))
    return files


def notebook_page(text: str) -> str:
    """A notebook as Markdown, with the output that is stored in it."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output) for output in cell.get("outputs", ())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        shown = "".join(data["text/html"])
        return f'<div class="output">{shown}</div>'.replace("\n\n", "\n")  # an empty line would end the block
    text = "".join(data.get("text/plain", output.get("text", "")))
    return f'<div class="output"><pre>{html.escape(text.rstrip())}</pre></div>' if text.strip() else ""


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    place = page.file.src_uri
    if place in NOTEBOOKS.values():
        return markdown
    source = next((own for own, shown in OUTSIDE.items() if shown == place), f"docs/{place}")

    def turned(match: re.Match[str]) -> str:
        target = os.path.normpath(Path(source).parent / match[2])
        where = {**OUTSIDE, **NOTEBOOKS}.get(
            target, target.removeprefix("docs/") if target.startswith("docs/") else None
        )
        if where is None:
            return match[0]
        return f"{match[1]}{os.path.relpath(where, Path(place).parent)}{match[3] or ''}{match[4]}"

    return _LINK.sub(turned, markdown)
