"""What fit promises is what the bundle says of the very images that calibrated it, on every road."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import headway
from headway.assuring import tried
from headway.deployment.bundle import load_bundle
from headway.deployment.confidence import CARRIES_NONE, Confidence, Levels
from headway.deployment.predictor import Item, predict
from headway.deployment.sets import calibrated_sets, class_scores
from tests import make, toy

CLASSES = {"circle": 60, "square": 60}


def _validation(run: Path, photos: Path) -> list[Path]:
    with (run / "split.csv").open(newline="") as stream:
        return [photos / row["name"] for row in csv.DictReader(stream) if row["subset"] == "val"]


def _check(run: Path, photos: Path) -> None:
    """Each validation image was as strange in the pass as it is to the bundle: its rate is its place among them all."""
    bundle, names = load_bundle(run / "bundle", 1), _validation(run, photos)
    answers = list(predict(bundle, [Item(str(name), name) for name in names], levels=Levels(0.5, 0.5)))
    n = len(names)
    assert bundle.confidence.sets is not None
    assert bundle.confidence.sets.n == n
    rates = sorted(answer.strangeness.rate for answer in answers if answer.strangeness is not None)
    np.testing.assert_allclose(rates, np.arange(2, n + 2) / (n + 1), atol=1.5 / (n + 1))
    inside = [name.parent.name in (answer.labels or ()) for name, answer in zip(names, answers, strict=True)]
    assert sum(inside) >= np.ceil((n + 1) / 2)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="probe"),
        pytest.param(("--head", "mlp:8", "--epochs", "2"), id="mlp", marks=pytest.mark.slow),
        pytest.param(("--strategy", "finetune", "--epochs", "1"), id="finetune", marks=pytest.mark.slow),
    ],
)
def test_assure__a_bundle_finds_its_validation_images_as_strange_as_the_pass(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    photos = make.class_folders(tmp_path / "photos", CLASSES, size=(48, 40))
    result = toy.fit(photos, "--run", tmp_path / "run", "--val", "0.2", *words, cwd=tmp_path)
    _check(tmp_path / "run", photos)
    found = result["confidence"]
    assert (found["n"], found["sets"][-1]["n"]) == (result["n"]["val"], result["n"]["test"])
    assert 0 <= found["unknown"][0]["flagged"] <= 1


def test_tried__counts_what_can_be_counted_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    sets = calibrated_sets(np.array([0.0] * 17 + [0.5, 0.6]))  # of 19: 0.9 takes the 18th, 0.95 the 19th
    found = tried(Confidence(sets), shares, np.array([0, 1, 0]), np.empty(0))
    low, high = found["sets"]
    assert (low["coverage"], low["reached"], low["size"]) == (0.9, 1 / 3, 1.0)
    assert (high["coverage"], high["reached"], high["size"]) == (0.95, 2 / 3, 4 / 3)
    assert (found["n"], found["most"], found["unknown"]) == (19, 0.95, [])
    assert class_scores(shares)[1, 1] == 0.6
    assert tried(CARRIES_NONE, shares, np.zeros(3, int), np.empty(0))["sets"] == []


@pytest.mark.slow
def test_probe__from_python_carries_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos = make.class_folders(tmp_path / "photos", CLASSES, size=(48, 40))
    features = headway.extract(photos, backbone="test_resnet", weights="none", image=64, threads=1)
    trained = headway.probe(features, headway.split(features, val=0.2))
    headway.save_bundle(trained, tmp_path / "b")
    answer = headway.load_bundle(tmp_path / "b").predict(photos / "circle" / "0000.jpg", coverage=0.9, unknown=0.05)
    assert answer.labels
    assert answer.strangeness is not None
