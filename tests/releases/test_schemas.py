"""A bundle of every released schema still predicts what it predicted: tests/bundles/schema-N, never made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headway.deployment.bundle import load_bundle
from headway.deployment.manifest import SCHEMA

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
RELEASED = sorted(BUNDLES.glob("schema-*"), key=lambda path: int(path.name.removeprefix("schema-")))


def test_schemas__every_one_up_to_the_present_has_a_bundle() -> None:
    kept = [int(path.name.removeprefix("schema-")) for path in RELEASED]

    assert kept == list(range(1, SCHEMA + 1)), "keep a bundle of the new schema: CONTRIBUTING.md, Releases"


@pytest.mark.parametrize("kept", RELEASED, ids=lambda path: path.name)
def test_schemas__an_old_bundle_predicts_what_it_did(kept: Path) -> None:
    told = json.loads((kept / "answers.json").read_text())
    bundle = load_bundle(kept / "bundle", threads=1)  # holds its own golden outputs, too

    assert bundle.digest == told["digest"], "a released bundle is never made again"
    assert len(told["answers"]) == len(list((kept / "images").iterdir())) > 1
    for expected in told["answers"]:
        found = bundle.predict(kept / "images" / expected["name"], top=3, coverage=0.9, unknown=0.05).to_json()
        assert [one["label"] for one in found["top"]] == [one["label"] for one in expected["top"]]
        shares = [[one["probability"] for one in answer["top"]] for answer in (found, expected)]
        np.testing.assert_allclose(shares[0], shares[1], atol=1e-4)
        assert found["set"] == expected["set"]
        assert found["digest"] == expected["digest"]
        assert found["unknown"] == pytest.approx(expected["unknown"], abs=0.05)
