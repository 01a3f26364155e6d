"""The section of the report about a search, drawn from tuning.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.errors import HeadwayError
from headway.reporting.page import draw
from tests.reporting.fixture import PLANS, build_run
from tests.reporting.test_page import parsed, words

JUDGED = {"n": 300, "accuracy": 0.98, "interval": [0.957, 0.991], "log_loss": 0.0512, "balanced_accuracy": 0.98}


def _trial(number: int, state: str, value: float | None, **drawn: Any) -> dict[str, Any]:
    return {
        "number": number,
        "state": state,
        "value": value,
        "seconds": 0.25,
        "why": None,
        "options": drawn,
        "drawn": drawn,
    }


FOUND: dict[str, Any] = {
    "schema": 1,
    "metric": "log-loss",
    "falling": True,
    "strategy": "probe",
    "n": {"train": 1400, "judged": 1400, "val": 300},
    "counts": {"complete": 3, "pruned": 1, "fail": 1},
    "seconds": 41.5,
    "ran": 5,
    "winner": {"trial": 2, "value": 0.0123, "options": {"head": "linear", "l2": 0.01}, "judged": JUDGED},
    "usual": {"judged": {**JUDGED, "accuracy": 0.97}},
    "told": "no difference shown between the winner and the usual settings: p=0.4",
    "importance": {"l2": 0.75, "taps": 0.25},
    "trials": [
        _trial(0, "complete", 0.02, head="linear", l2=0.1, taps="last"),
        _trial(1, "pruned", 0.05, head="linear", l2=1.0, taps="all"),
        _trial(2, "complete", 0.0123, head="linear", l2=0.01, taps="all"),
        _trial(3, "complete", 0.03, head="<b>mlp</b>", width=64, taps="last"),
        _trial(4, "fail", None, head="linear", l2=5.0, taps="last"),
    ],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return build_run(tmp_path / "run", PLANS["two"])


def test_search__a_run_that_was_not_searched_for_has_no_such_section(run: Path) -> None:
    page = parsed(draw(run))

    assert page.find(".//section[@id='search']") is None
    assert "tuning.json" not in words(page)


def test_search__numbers_of_the_search(run: Path) -> None:
    (run / "tuning.json").write_text(json.dumps(FOUND))

    page = draw(run)
    section = parsed(page).find(".//section[@id='search']")
    text = words(section)

    assert "5 settings were tried in 41.5 s by a search, 1 of them left early." in text
    assert "judged on 1,400 training images that it did not learn from" in text
    assert "log-loss 0.0123, the best of 3: that number flatters it and is no result" in text
    assert "No difference shown between the winner and the usual settings: p=0.4." in text
    assert "the winner 0.980 [0.957, 0.991] 0.0512 the usual settings 0.970" in text
    assert "l2 75 % taps 25 %" in text
    assert "<b>mlp" not in page
    assert draw(run) == page
    # One mark for each trial with a value, of each figure that it belongs to: history, l2 or width, head, taps.
    assert section is not None
    marks = [mark.get("class", "") for mark in section.iter() if mark.tag.endswith("circle")]
    assert sum("trial" in mark for mark in marks) == 4 + 3 + 4 + 4
    assert sum(mark == "ring" for mark in marks) == 1 + 3


def test_search__a_damaged_file_is_told_with_its_name(run: Path) -> None:
    (run / "tuning.json").write_text(json.dumps({**FOUND, "winner": None}))

    with pytest.raises(HeadwayError, match=r"tuning\.json is damaged .* Make it again: headway tune"):
        draw(run)
