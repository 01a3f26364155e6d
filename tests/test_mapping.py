"""The feature map of real runs: map.json agrees with the other files of the run, and is left out when asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway import files, mapping
from headway.reporting.records import read_thumbnails
from tests import make, toy


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.class_folders(tmp_path_factory.mktemp("data") / "photos", {"circle": 40, "square": 40, "triangle": 40})


def rows_of(run: Path, subset: str = "test") -> dict[str, Any]:
    return {row["name"]: row for row in files.read_csv(run / "predictions.csv") if row["subset"] == subset}


def test_map__agrees_with_the_predictions_of_the_run(photos: Path, tmp_path: Path) -> None:
    toy.fit(photos, "--run", tmp_path / "run", cwd=tmp_path)
    value, rows = json.loads((tmp_path / "run" / "map.json").read_text()), rows_of(tmp_path / "run")

    assert (value["subset"], value["n"], value["of"]) == ("test", 18, 18)
    assert sorted(value["names"]) == sorted(rows)
    for name, label, said, sure in zip(
        value["names"], value["labels"], value["predicted"], value["probabilities"], strict=True
    ):
        assert value["classes"][label] == rows[name]["label"]
        assert value["classes"][said] == rows[name]["predicted"]
        assert sure == pytest.approx(float(rows[name]["probability"]), abs=1e-4)
    assert list(value["views"]) == ["pca", "discriminant"]
    for view in value["views"].values():
        assert np.array(view["places"]).shape == (18, 2)
        assert 0 < sum(view["held"]) <= 1
        assert view["held"] == sorted(view["held"], reverse=True)
    assert value["views"]["discriminant"]["agreement"] > value["chance"] == pytest.approx(5 / 17)
    assert set(value["names"]) <= set(read_thumbnails(tmp_path / "run" / "thumbnails.parquet"))
    assert "What it sees" in (tmp_path / "run" / "report.html").read_text()

    toy.fit(photos, "--run", tmp_path / "none", "--map", "none", cwd=tmp_path)
    assert not (tmp_path / "none" / "map.json").exists()
    assert "What it sees" not in (tmp_path / "none" / "report.html").read_text()


@pytest.mark.slow
def test_map__umap_is_a_view_more_and_the_same_every_time(photos: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from headway.events import drain\n"
        "from headway.settings import fit_settings\n"
        "from headway.workflow import fitting\n"
        "for name in ('one', 'two'):\n"  # in one process, as UMAP compiles itself in each
        "    toy = dict(backbone='test_resnet', weights='none', image=64, threads=1, engine='onnxruntime')\n"
        "    drain(fitting(fit_settings(sys.argv[1], run=name, map='umap', **toy)))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(photos)], cwd=tmp_path, check=True, timeout=280)
    value = json.loads((tmp_path / "one" / "map.json").read_text())
    assert list(value["views"]) == ["pca", "discriminant", "umap"]
    assert value["views"]["umap"]["held"] == []
    assert value["views"]["umap"]["agreement"] > value["chance"]
    assert "Sizes of groups, and distances between them, mean nothing." in (tmp_path / "one/report.html").read_text()
    assert (tmp_path / "one" / "map.json").read_bytes() == (tmp_path / "two" / "map.json").read_bytes()


def test_evenly__of_each_class_as_many_by_content_alone() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [50, 7, 400])
    rng.shuffle(labels)
    ranks = rng.permutation(len(labels))

    rows = mapping.evenly(labels, ranks, 100)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert Counter(labels[rows].tolist()) == {0: 47, 1: 7, 2: 46}
    for label in range(3):
        own, kept = np.flatnonzero(labels == label), rows[labels[rows] == label]
        assert set(kept.tolist()) == set(own[np.argsort(ranks[own])][: len(kept)].tolist())

    order = rng.permutation(len(labels))  # the same images under other names
    assert set(order[mapping.evenly(labels[order], ranks[order], 100)].tolist()) == set(rows.tolist())
    assert mapping.evenly(labels, ranks, 1000).tolist() == list(range(len(labels)))


def test_pictured__mistakes_first_the_surest_before_others() -> None:
    rng = np.random.default_rng(1)
    places, sure = rng.normal(0, 1, (1000, 2)), rng.uniform(0, 1, 1000)
    wrong = rng.uniform(0, 1, 1000) < 0.4
    rows = mapping.pictured(places, wrong, sure)

    mistakes = np.flatnonzero(wrong)
    assert len(set(rows.tolist())) == len(rows) == 300
    assert rows[:200].tolist() == mistakes[np.argsort(-sure[mistakes])][:200].tolist()
    assert len(mapping.pictured(places[:50], wrong[:50], sure[:50])) == 50
