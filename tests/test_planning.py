"""`headway plan`: sizes before any image is read, and the command itself on a toy network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headway.data.sources import load_dataset
from headway.data.split import make_split
from headway.planning import expected_sizes
from headway.precision import read_digests
from tests import make, toy


@pytest.mark.parametrize("brought", [(), ("test",), ("val", "test")])
def test_expected_sizes__as_a_split_has_them(brought: tuple[str, ...], tmp_path: Path) -> None:
    """Against the split itself, which rounds class by class: an image a class and subset at most."""
    counts = {"train": {"a": 40, "b": 23}, "val": {"a": 9, "b": 8}, "test": {"a": 7, "b": 11}}
    if brought:
        place = make.split_folders(tmp_path / "photos", {name: counts[name] for name in ("train", *brought)})
    else:
        place = make.class_folders(tmp_path / "photos", counts["train"])
    dataset = load_dataset(place)
    split = make_split(dataset, read_digests(dataset, 1), seed=0, val=0.1, test=0.2)

    found = expected_sizes(dataset, 0.1, 0.2)
    sizes = (len(split.train), len(split.val), len(split.test), len(split.unlabelled))
    assert sum(found) == len(dataset)
    assert np.abs(np.subtract(found, sizes)).max() <= 2


@pytest.mark.slow
def test_plan__cold_then_after_a_run(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 20, "square": 20}, size=(48, 40))
    words = ("plan", photos, *toy.BACKBONE, "--epochs", "2", "--budget", "1h", "--json")
    cold = json.loads(toy.headway(*words, cwd=tmp_path).stdout)
    before = toy.tree_digest(photos)
    toy.fit(photos, cwd=tmp_path)
    warm = json.loads(toy.headway(*words, cwd=tmp_path).stdout)

    assert [row["road"] for row in warm["roads"]] == ["probe", "last", "full", "scratch"]
    assert [row["epochs"] for row in warm["roads"]] == [None, 2, 2, 2]
    assert cold["images"]["known"] == 0
    assert warm["images"]["known"] == 40
    for row in warm["roads"]:
        assert row["seconds"] == pytest.approx(sum(row["phases"].values()), abs=0.02)
        assert row["fits"] is (row["seconds"] <= 3600)
        assert row["memory_bytes"] > 0
    assert warm["roads"][2]["command"].endswith("--epochs 2 --threads 1 --engine onnxruntime")
    assert toy.tree_digest(photos) == before
    told = toy.headway(*words[:-1], cwd=tmp_path).stdout.splitlines()
    assert told[-7].split() == ["road", "epochs", "time", "memory", "disk", "fits"]
    assert told[-1].startswith("within 1 h 00 min the probe, then ")


@pytest.mark.slow
def test_plan__a_budget_that_is_none(tmp_path: Path) -> None:
    done = toy.headway("plan", tmp_path, "--budget", "soon", cwd=tmp_path, check=2)

    assert done.stderr == "headway: --budget soon: expected a time as 90s, 10m or 2h\n"
