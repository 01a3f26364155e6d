"""Displays of results: every number as the house prints it, hostile names as text, plain representations short."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.displays.judgement import ShownEvaluation, shown_evaluation
from headway.displays.outcomes import Audited, Compared, Fitted, Planned
from headway.evaluation.evaluation import evaluate

HOSTILE = '<script>alert("x")</script>\u202e&'


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(shown: str) -> _Tags:
    """The tags and text of a display: well-formed, and of the kinds that a display needs."""
    reader = _Tags()
    reader.feed(shown)
    assert reader.open == []
    figures = {"svg", "line", "rect", "circle", "text", "g", "title", "path", "a"}
    assert reader.tags <= {"div", "style", "p", "table", "thead", "tbody", "tr", "th", "td"} | figures
    assert "\u202e" not in shown
    return reader


def judgement(n_classes: int = 3) -> ShownEvaluation:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % n_classes
    logits = rng.normal(0, 1, (60, n_classes)) + 2.0 * np.eye(n_classes)[labels]
    names = [HOSTILE, *(f"class {number}" for number in range(1, n_classes))]
    return shown_evaluation(evaluate(logits, labels, names, temperature=1.0, seed=0))


def fitted(folder: Path) -> Fitted:
    test = {"accuracy": 0.9, "interval": [0.8, 0.95], "n": 60}
    return Fitted(
        run=str(folder), bundle=str(folder / "bundle"), backbone=HOSTILE, strategy="probe", test=test,
        n={"train": 100, "val": 20, "test": 60, "unlabelled": 0, "set_aside": 1}, seconds={"total": 3.2},
    )  # fmt: skip


def compared() -> Compared:
    def choice(name: str, accuracy: float) -> dict[str, Any]:
        test = {"accuracy": accuracy, "interval": [accuracy - 0.1, accuracy + 0.05], "n": 60}
        return {"name": name, "test": test, "val": None, "trainable": 3_400_000, "seconds": {"total": 80.0}}

    pair = {"a": HOSTILE, "b": "scratch", "difference": 0.2, "mcnemar": {"interval": [0.1, 0.3]}, "better": HOSTILE}
    verdict = {"sentences": [f"{HOSTILE} is best."]}
    choices = [choice(HOSTILE, 0.9), choice("scratch", 0.7)]
    return Compared(choices=choices, pairs=[pair], verdict=verdict, notes=[])


def planned() -> Planned:
    def road(name: str, seconds: float, fits: bool | None) -> dict[str, Any]:
        return {"road": name, "seconds": seconds, "memory_bytes": 1.2e9, "disk_bytes": 27e6, "fits": fits}

    return Planned(roads=[road("probe", 17.0, True), road("full", 90.0, False)], budget=60.0, would="the probe")


def audited() -> Audited:
    item = {"name": HOSTILE, "label": "a", "subset": "train", "suggested": "b", "probability_wrong": 0.9}
    labels = {
        "judged": 50,
        "found": 1,
        "in_doubt": 0,
        "expected": 0.02,
        "expected_interval": [0.0, 0.05],
        "left_out": [],
    }
    return Audited(found=50, labels={**labels, "items": [item]}, page="audit.html", written="clean.csv")


def test_evaluation__is_drawn_with_the_numbers_that_it_prints() -> None:
    shown = judgement()
    text = "".join(read(shown._repr_html_()).text)
    low, high = shown.interval

    assert f"accuracy {shown.accuracy:.3f} [{low:.3f}, {high:.3f}] on 60 images" in text
    for own in shown.per_class:
        assert f"{own.recall:.3f}" in text
    assert repr(shown) == f"<Evaluation: {shown}>"


def test_evaluation__is_otherwise_the_same() -> None:
    shown = judgement()

    assert type(shown).from_json(shown.to_json()) == shown
    assert json.dumps(shown.to_json())


def test_evaluation__of_many_classes_shows_the_worst() -> None:
    text = "".join(read(judgement(40)._repr_html_()).text)

    assert "30 of 40 classes" in text
    assert "Confusion" not in text


def test_fit__without_its_folder_still_shows_its_headline(tmp_path: Path) -> None:
    made = fitted(tmp_path / "moved")
    text = "".join(read(made._repr_html_()).text)

    assert "accuracy 0.900 [0.800, 0.950] on 60 test images" in text
    assert "1 set aside" in text
    assert repr(made) == f"<Fitted: accuracy 0.900 [0.800, 0.950] on 60 test images, {tmp_path / 'moved'}>"


def test_fit__with_its_folder_shows_its_classes(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps({"subsets": {"test": judgement().to_json()}}))

    assert "class 2" in "".join(read(fitted(tmp_path)._repr_html_()).text)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"subsets": {"test": {"n": 1}}}', '{"subsets": {"test": null}}'])
def test_fit__with_a_damaged_folder_still_shows_its_headline(content: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(content)

    assert "accuracy 0.900" in "".join(read(fitted(tmp_path)._repr_html_()).text)


def test_compare__tells_ways_pairs_and_verdict() -> None:
    text = "".join(read(compared()._repr_html_()).text)

    assert "0.900 [0.800, 0.950]" in text
    assert "0.200 [0.100, 0.300]" in text
    assert "is best." in text
    assert "3.4 M" in text


def test_plan__tells_every_road() -> None:
    text = "".join(read(planned()._repr_html_()).text)

    assert "1 min 30 s" in text
    assert "1.2 GB" in text
    assert repr(planned()) == "<Planned: the probe 17 s, all of the network 1 min 30 s>"


def test_audit__tells_what_was_found_and_what_was_written() -> None:
    text = "".join(read(audited()._repr_html_()).text)

    assert "50 images looked at" in text
    assert "clean.csv" in text
    assert repr(audited()) == "<Audited: 50 images, likely label errors>"


@pytest.mark.parametrize(
    "shown", [judgement(), compared(), audited(), fitted(Path(HOSTILE))], ids=lambda own: type(own).__name__
)
def test_displays__hostile_names_stay_text(shown: Any) -> None:
    drawn = shown._repr_html_()

    assert "alert" in drawn
    assert "<script" not in drawn
    read(drawn)


@pytest.mark.parametrize(
    "made", [compared(), audited(), planned(), fitted(Path("run"))], ids=lambda own: type(own).__name__
)
def test_outcomes__are_the_object_of_json(made: Any) -> None:
    assert json.loads(json.dumps(made)) == dict(made) == copy.deepcopy(made)
    assert len(repr(made)) < 200
