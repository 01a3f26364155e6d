"""The second half of the section on confidence: what was promised, what it came to, where validation was too small."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from headway.reporting.page import draw
from tests.reporting.fixture import PLANS, build_run
from tests.reporting.test_page import change, parsed, words

FOUND: dict[str, Any] = {
    "n": 300,
    "most": 0.99668,
    "least": 0.00332,
    "sets": [
        {"coverage": 0.9, "n": 299, "reached": 0.907, "interval": [0.869, 0.935], "size": 1.25},
        {"coverage": 0.95, "n": 299, "reached": 0.96, "interval": [0.931, 0.977], "size": 1.5},
    ],
    "unknown": [
        {"rate": 0.01, "n": 299, "flagged": 0.013, "interval": [0.005, 0.034]},
        {"rate": 0.05, "n": 299, "flagged": 0.047, "interval": [0.028, 0.077]},
    ],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return build_run(tmp_path / "run", PLANS["two"])


def _section(run: Path, found: object) -> str:
    change(run, "evaluation.json", lambda value: value.update(confidence=found))
    return words(parsed(draw(run)).find(".//section[@id='confidence']"))


def test_trust__numbers_of_the_run(run: Path) -> None:
    section = _section(run, FOUND)
    assert "Prediction sets, on 299 test images promised the label was in classes a set" in section
    assert "0.90 0.907 [0.869, 0.935] 1.25" in section
    assert "0.95 0.960 [0.931, 0.977] 1.50" in section
    assert "0.01 0.013 [0.005, 0.034]" in section
    assert "0.05 0.047 [0.028, 0.077]" in section
    assert "Calibrated on 300 validation images." in section
    assert "are few" not in section


def test_trust__too_few_validation_images_say_so(run: Path) -> None:
    found = copy.deepcopy(FOUND) | {"n": 12, "most": 12 / 13, "least": 1 / 13, "unknown": []}
    del found["sets"][1]
    section = _section(run, found)
    assert (
        "12 validation images are few: they promise a coverage of at most 0.923 and a false-alarm rate of at least "
        "0.077. More of them promise more (--val)."
    ) in section
    assert "Called unknown" not in section


@pytest.mark.parametrize("found", [None, {}])
def test_trust__a_run_of_before_has_none(run: Path, found: object) -> None:
    assert "What it promises" not in _section(run, found)
