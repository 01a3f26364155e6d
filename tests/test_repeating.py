"""Other splits of the same few images: the summary against its formula, and when they are tried."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headway.repeating import summary
from tests import make, toy


def test_summary__is_the_corrected_interval_of_nadeau_and_bengio() -> None:
    from scipy import stats

    accuracies = [0.8, 0.9, 0.85, 0.95, 0.9]
    found = summary(accuracies, 15, 85)

    error = np.sqrt((1 / 5 + 15 / 85) * np.var(accuracies, ddof=1))
    low, high = stats.t.interval(0.95, 4, loc=0.88, scale=error)
    assert found["interval"] == pytest.approx([low, min(1, high)])
    assert (found["n"], found["accuracy"]) == (5, accuracies)
    assert found["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert found["sentence"] == (
        f"on 5 other splits of these images the same head reaches accuracy 0.880 on average "
        f"[{low:.3f}, {min(1, high):.3f}], from 0.800 to 0.950"
    )


def test_summary__keeps_within_shares() -> None:
    assert summary([1.0, 0.99, 1.0], 20, 80)["interval"][1] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--head", "prototype"),
        ("--balance", "logit"),
        ("--balance", "weights"),
        ("--head", "mlp:8", "--balance", "logit", "--epochs", "3"),
        ("--strategy", "finetune", "--head", "prototype", "--balance", "logit", "--epochs", "1", "--thaw", "1"),
    ],
)
def test_fit__every_head_ships_what_was_judged(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The parity gate is inside: a bundle that says anything else would not be written."""
    photos = make.class_folders(tmp_path / "photos", {"circle": 60, "square": 15})

    words = (*words, "--engine", "onnxruntime")  # measured anew for a trained network, another one may come out

    toy.fit(photos, "--run", tmp_path / "one", *words, cwd=tmp_path)
    toy.fit(photos, "--run", tmp_path / "two", *words, cwd=tmp_path)

    one, two = (toy.same_bits(tmp_path / name) for name in ("one", "two"))
    del one["history.csv"], two["history.csv"]  # it tells seconds of epochs
    assert one == two
    evaluation = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    solved = "mlp:8" not in words and "finetune" not in words
    assert (evaluation["repeats"] is not None) == solved
    rows = (tmp_path / "one" / "predictions.csv").read_text().splitlines()[1:]
    tested = {row.split(",")[0]: row.split(",")[3] for row in rows if row.split(",")[1] == "test"}
    paths = [str(photos / name) for name in tested]
    told = json.loads(toy.headway("predict", tmp_path / "one" / "bundle", *paths, "--json", cwd=tmp_path).stdout)
    assert [one["label"] for one in told["predictions"]] == list(tested.values())
