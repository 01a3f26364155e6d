"""The notebooks of examples/: each runs on a real kernel, and what is stored in them is output of theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks import NOTEBOOKS, executed


def stored(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def shape(notebook: Any) -> list[list[str]]:
    """What each code cell gave: kinds of output and of what they hold. What libraries warn of is the machine's."""
    return [
        [
            kind
            for output in cell["outputs"]
            if output.get("name") != "stderr"
            for kind in (output["output_type"], *sorted(output.get("data", {})))
        ]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_notebooks__there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["clean-data", "first-classifier", "three-roads"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks__hold_their_output_and_nothing_of_a_machine(path: Path) -> None:
    text, cells = path.read_text(encoding="utf-8"), [c for c in stored(path)["cells"] if c["cell_type"] == "code"]

    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells) >= 3
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|usr|work|Users|opt)/[^\s\"<]*", text) == []
    assert len(text) < 200_000


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks__run_to_their_end(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    assert shape(executed(path, tmp_path)) == shape(stored(path))  # a cell that fails raises
