from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.advising import conclude, told
from headway.evaluation.evaluation import evaluate
from tests import make, toy


def test_conclude__without_a_pretrained_network_classes_alone_are_told() -> None:
    y = np.repeat([0, 1, 2], [20, 20, 60])
    said = np.concatenate([[0] * 13, [1] * 7, [0] * 5, [1] * 15, [2] * 60])
    val = evaluate(np.eye(3)[said] * 5, y, ("cat", "lynx", "oak"), temperature=1.0, seed=0)

    advice = conclude(None, val, np.repeat([0, 1, 2], 50))

    assert told(advice) == (
        "label more of cat: recall 0.65 [0.43, 0.82] on 20 validation images, from 50 to learn from\n"
        "cat and lynx are taken for each other 12 times in 40 validation images"
    )
    assert (advice["rule"], advice["evidence"]) == (None, None)


def advice_of(data: Path, run: Path) -> dict[str, Any]:
    toy.fit(data, "--run", run, cwd=run.parent)
    advice: dict[str, Any] = json.loads((run / "evaluation.json").read_text())["advice"]
    return advice


@pytest.mark.slow
def test_advice__labels_of_the_test_change_nothing(tmp_path: Path) -> None:
    counts = {subset: dict.fromkeys("ab", n) for subset, n in {"train": 40, "val": 20, "test": 20}.items()}
    photos = make.split_folders(tmp_path / "photos", counts)
    first = advice_of(photos, tmp_path / "one")
    (photos / "test" / "a").rename(photos / "test" / "c")
    (photos / "test" / "b").rename(photos / "test" / "a")
    (photos / "test" / "c").rename(photos / "test" / "b")

    second = advice_of(photos, tmp_path / "two")

    assert first == second
    assert first["evidence"]["curve"]["points"][-1]["n"] == 80
    assert first["sentences"][0] == first["rule"]["sentence"]
    assert first["sentences"][1].startswith("twice the images would bring about ")


@pytest.mark.slow
@pytest.mark.parametrize("each", [5, 10])
def test_advice__of_five_or_ten_images_a_class_is_given(tmp_path: Path, each: int) -> None:
    photos = make.class_folders(tmp_path / "photos", dict.fromkeys(("circle", "square", "triangle"), each))

    advice = advice_of(photos, tmp_path / "run")

    low, high = advice["evidence"]["probe"]["interval"]
    assert high - low > 0.3
    assert len(advice["sentences"]) >= 2
