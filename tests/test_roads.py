"""The roads beside the probe, through the real command line: what they begin with, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.settings import fit_settings
from headway.steps import asked
from tests import make, toy

QUICK = ("--epochs", "3", "--batch", "16")


def test_scratch__asks_for_random_weights_of_a_network_that_has_others() -> None:
    assert asked(fit_settings("photos", strategy="scratch")).weights == "none"
    assert asked(fit_settings("photos", strategy="finetune")).weights is None


@pytest.mark.slow
def test_thaw_every__what_never_thaws_has_the_same_digest(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 30, "square": 30}, size=(48, 40))
    result = toy.fit(photos, "--strategy", "finetune", "--thaw-every", "2", *QUICK, cwd=tmp_path)

    assert result["frozen"]["before"] == result["frozen"]["after"]
    assert result["frozen"]["tensors"] > 0
    assert result["trainable"] < result["parameters"]


@pytest.mark.slow
def test_finetune__a_kept_start_is_the_probe(tmp_path: Path) -> None:
    """With a rate too small to change anything, epoch 0 is kept as the first of equals: it answers as the probe."""
    photos = make.class_folders(tmp_path / "photos", {"circle": 40, "square": 40}, size=(48, 40))
    probe = toy.fit(photos, "--taps", "last", cwd=tmp_path)
    tuned = toy.fit(photos, "--strategy", "finetune", "--lr", "1e-30", "--optimizer", "sgd", *QUICK, cwd=tmp_path)
    curve = json.loads((tmp_path / tuned["run"] / "evaluation.json").read_text())

    assert tuned["training"]["kept"] == 0
    assert curve["selection"]["why"].startswith("The state before the first step of 3 has the best val.loss")
    assert tuned["val"]["accuracy"] == probe["val"]["accuracy"]
    assert tuned["val"]["loss"] == pytest.approx(probe["val"]["loss"], abs=1e-4)
