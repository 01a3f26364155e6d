"""Bundles of whole runs as `local-dir:` models of the real timm; their cards as the hub's own library reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard

from headway.deployment.bundle import load_bundle
from tests import make
from tests.toy import fit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "words",
    [
        ("--taps", "last", "--optimizer", "adamw", "--epochs", "2"),  # on standardised features
        ("--strategy", "finetune", "--epochs", "1"),
    ],
    ids=["standardised", "finetuned"],
)
def test_local_dir__gives_the_bundles_logits(words: tuple[str, ...], tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", {"a": 14, "b": 14, "c": 14})
    result = fit("photos", *words, cwd=tmp_path)
    bundle = load_bundle(tmp_path / result["bundle"])
    pixels, golden = (np.load(bundle.path / "probe" / f"{name}.npy") for name in ("inputs", "logits"))
    model: Any = timm.create_model(f"local-dir:{bundle.path}", pretrained=True).eval()
    own = bundle.preprocess
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (own.mean, own.std))
    with torch.inference_mode():
        logits = model((x - mean) / std).numpy()
    np.testing.assert_allclose(logits, golden, atol=1e-4 * max(1.0, float(np.abs(golden).max())))
    assert model.pretrained_cfg["label_names"] == ["a", "b", "c"]
    card = ModelCard.load(bundle.path / "README.md")
    (accuracy, *_) = card.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", result["test"]["accuracy"])
    low, high = result["test"]["interval"]
    assert f"(95 % interval {low:.3f} to {high:.3f}, n = {result['test']['n']})" in accuracy.metric_name
    assert card.data.library_name == "timm"
    assert f"Divide them by the temperature, {bundle.temperature:.6g}, before the softmax." in card.text
