"""Folders of runs to look at: finished, unfinished, nested, foreign, as `headway` leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from headway.comparing import write_comparison
from headway.reporting.page import write_report
from tests.reporting.fixture import write_thumbnails
from tests.reporting.roads import ROADS, Images, build_roads


def build_shelf(root: Path) -> Path:
    """Three runs on the same images, one on others, a comparison of two, an unfinished run, an audit, a stranger."""
    build_roads(root, ROADS, Images())
    build_roads(root, {"others": ROADS["probe"]}, Images(classes=("owls", "hawks"), seed=5, title="birds"))
    inner = build_roads(root / "photos-compare-1", {name: ROADS[name] for name in ("probe", "finetune")}, Images())
    for name in ROADS:
        write_thumbnails(root / name / "thumbnails.parquet", ["cats/0.jpg"], np.random.default_rng(0))
    for run in (*(root / name for name in (*ROADS, "others")), *inner.values()):
        write_report(run)
    write_comparison(root / "photos-compare-1", inner)
    (root / "photos-compare-1" / "comparison.yaml").write_text("data: photos\n")
    (root / "begun").mkdir()
    asked = {"data": "/data/photos", "strategy": "finetune", "backbone": "resnet18", "head": "linear"}
    (root / "begun" / "settings.yaml").write_text(yaml.safe_dump(asked))
    (root / "photos-audit-1").mkdir()
    (root / "photos-audit-1" / "audit.json").write_text(json.dumps({"title": "photos", "found": 1500, "schema": 1}))
    (root / "photos-audit-1" / "audit.html").write_text("<!DOCTYPE html>\n<html><title>audit</title></html>\n")
    (root / "notes" / "deep").mkdir(parents=True)
    (root / "notes" / "todo.txt").write_text("nothing of headway")
    return root


def copied(shelf: Path, to: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(shelf, to, symlinks=True)
    return to
