"""A made-up run with a feature map: places of its test images by class, in as many views as are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from headway import files
from tests.reporting.fixture import Plan, build_run, write_json


def mapped_run(folder: Path, plan: Plan, views: tuple[str, ...] = ("pca", "discriminant"), most: int = 2000) -> Path:
    """As `build_run`, with map.json of at most `most` of its test images."""
    run = build_run(folder, plan)
    rows = [row for row in files.read_csv(run / "predictions.csv") if row["subset"] == "test"]
    some = rows[:: -(-len(rows) // most)]
    place = {name: number for number, name in enumerate(plan.classes)}
    rng = np.random.default_rng(plan.seed)
    centres = rng.normal(0, 6, (len(plan.classes), 2))
    labels = [place[row["label"]] for row in some]
    value: dict[str, Any] = {
        "schema": 1,
        "subset": "test",
        "n": len(some),
        "of": len(rows),
        "width": 1280,
        "neighbours": 10,
        "chance": 0.5,
        "features": 0.94,
        "views": {
            view: {
                "held": [] if view == "umap" else [0.08, 0.04],
                "agreement": 0.7 + 0.1 * number,
                "places": (centres[labels] + rng.normal(0, 1, (len(some), 2))).round(3).tolist(),
            }
            for number, view in enumerate(views)
        },
        "classes": list(plan.classes),
        "names": [row["name"] for row in some],
        "labels": labels,
        "predicted": [place[row["predicted"]] for row in some],
        "probabilities": [round(float(row["probability"]), 4) for row in some],
    }
    write_json(run / "map.json", value)
    return run


def read_map(run: Path) -> dict[str, Any]:
    """The content of map.json."""
    value: dict[str, Any] = json.loads((run / "map.json").read_text())
    return value
