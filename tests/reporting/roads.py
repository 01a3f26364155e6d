"""Runs of several roads on the same made-up images, as `fit` leaves them: what a comparison is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from headway import files
from tests.reporting import facts
from tests.reporting.fixture import TWO, Plan, judge, softmax, write_json, write_predictions

HISTORY = "kind step taps l2 lr train_loss train_accuracy val_loss val_accuracy best seconds".split()  # noqa: SIM905


@dataclass(frozen=True)
class Road:
    """One made-up run. `skill` is how far the right logit stands out, `twist` how much its mistakes are its own."""

    strategy: str
    skill: float = 4.0
    twist: float = 0.5
    epochs: int = 0
    seconds: float = 10.0  # of an epoch, or of solving
    passed: float = 9.8
    reused: bool = False
    resumed: bool = False
    head_init: str = "probe"


ROADS = {
    "probe": Road("probe", 4.0, seconds=1.1),
    "finetune": Road("finetune", 4.6, epochs=5, seconds=23.0, reused=True, passed=0.6),
    "scratch": Road("scratch", 2.0, 1.0, epochs=12, seconds=31.0, passed=1.9),
}
SIX = {
    "fast": Road("probe", 3.6, seconds=0.9, reused=True, passed=0.4),
    "best": Road("finetune", 4.6, epochs=8, seconds=30.0, reused=True, passed=0.5),
    "seed-a-finetune": Road("finetune", 4.5, epochs=25, seconds=41.0, head_init="random", passed=1.2),
    "seed-a-probe": Road("probe", 3.4, epochs=25, seconds=0.4),
    "seed-b-transfer": Road("probe", 3.5, epochs=10, seconds=0.7, reused=True, passed=0.4),
    "seed-b-cnn": Road("scratch", 1.6, 1.0, epochs=10, seconds=18.0, passed=2.1),
}


@dataclass(frozen=True)
class Images:
    """The data that all runs of a comparison have in common."""

    classes: tuple[str, ...] = TWO
    test: tuple[int, ...] = (150, 150)
    seed: int = 0
    title: str = "photos"
    groups: bool = False  # every three test images are one group

    @property
    def y(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.classes)), self.test)

    @property
    def names(self) -> list[str]:
        return [f"{self.classes[label]}/{index}.jpg" for index, label in enumerate(self.y.tolist())]


def build_roads(folder: Path, roads: Mapping[str, Road], images: Images) -> dict[str, Path]:
    """One finished run folder for each road, all on the same images: name → folder."""
    rng = np.random.default_rng(images.seed)
    y, size = images.y, len(images.classes)
    common = rng.normal(0, 1.3, (len(y), size))
    runs = {}
    for name, road in roads.items():
        logits = common + road.twist * rng.normal(0, 1.0, (len(y), size))
        logits[np.arange(len(y)), y] += road.skill
        runs[name] = build_road(folder / name, road, images, logits)
    return runs


def build_road(folder: Path, road: Road, images: Images, logits: NDArray[np.float64]) -> Path:
    """Write the files of one run but bundle/ and report.html; logits (N, C) are those of the test images."""
    folder.mkdir(parents=True)
    y, classes = images.y, images.classes
    fitted = logits[::2] + np.where(np.eye(len(classes))[y[::2]] > 0, 1.5, 0.0)
    subsets = {
        "train": judge(fitted, y[::2], classes),
        "val": judge(logits[1::3], y[1::3], classes),
        "test": judge(logits, y, classes),
    }
    for key, own, labels in (("train", fitted, y[::2]), ("val", logits[1::3], y[1::3]), ("test", logits, y)):
        p = softmax(own / 1.31)
        subsets[key]["log_loss"] = float(-np.log(p[np.arange(len(labels)), labels]).mean())
    history = _history(road, subsets["val"]["accuracy"])
    selection, total = _selection(road, history, subsets["val"]), len(y)
    n = {"train": total * 4, "val": subsets["val"]["n"], "test": total, "set_aside": 2}
    saved = {"images": total * 5, "seconds": 7.0, "text": facts.SAVED} if road.reused else None
    write_json(
        folder / "evaluation.json",
        {
            "schema": 1,
            "title": images.title,
            "created": "2026-11-23T12:00:00Z",
            "command": f"headway fit {images.title}/ --strategy {road.strategy}",
            "result": _result(road, images, n, subsets, history),
            "classes": list(classes),
            "subsets": subsets,
            "test_openings": 1,
            "selection": selection,
            "model": {**facts.model(), **_sizes(road)},
            "mistakes": [],
            "next": None,
            "saved": saved,
        },
    )
    write_json(folder / "audit.json", facts.audit(classes, images.test, images.names, 0))
    write_json(folder / "resolved.json", {k: v for k, v in facts.resolved(images.title).items() if k != "settings"})
    asked = {"data": f"{images.title}/", "strategy": road.strategy, "seed": 0, "head_init": road.head_init}
    asked |= {"thaw": "all", "augment": "none" if road.strategy == "probe" else "crop", "freeze_bn": False}
    (folder / "settings.yaml").write_text(yaml.safe_dump(asked))
    files.write_csv(folder / "history.csv", HISTORY, [[row[column] for column in HISTORY] for row in history])
    write_predictions(folder / "predictions.csv", Plan(classes), images.names, y, logits)
    write_split(folder / "split.csv", images)
    (folder / "report.html").write_text("the run's own report")
    return folder


def write_split(path: Path, images: Images, moved: int = 0) -> None:
    """split.csv: every test image, and four training images for each of them; `moved` of these are elsewhere."""
    rows: list[Sequence[object]] = []
    for index, name in enumerate(images.names):
        group = index // 3 if images.groups else ""
        rows.append((name, "", "test", hashlib.sha256(name.encode()).hexdigest(), group))
        for copy in range(4):
            other = f"train/{copy}/{name}"
            subset = "val" if len(rows) < moved else "train"
            rows.append((other, "", subset, hashlib.sha256(other.encode()).hexdigest(), ""))
    files.write_csv(path, ("name", "label", "subset", "digest", "group"), rows)


def _history(road: Road, accuracy: float) -> list[dict[str, Any]]:
    if not road.epochs:
        solved = ("path", 0, "all", 0.003, "", 0.02, 0.999, 0.08, accuracy, True, "")
        return [dict(zip(HISTORY, solved, strict=True))]
    rows = []
    first = 0 if road.strategy == "finetune" and road.head_init == "probe" else 1
    kept = max(first, road.epochs - 2)
    chance = accuracy - 0.02 if first == 0 else 0.4 * accuracy
    for epoch in range(first, road.epochs + 1):
        away = np.exp(-3.0 * epoch / road.epochs)
        val = accuracy - (accuracy - chance) * away - 0.002 * abs(epoch - kept)
        train = None if epoch == 0 else min(1.0, val + 0.04 * epoch / road.epochs)
        loss, own = 0.06 + 1.2 * (accuracy - val + 0.03), 1.1 * away + 0.02
        cells = (epoch, "last", "", 1e-3, "" if epoch == 0 else own, "" if train is None else train, loss, val)
        rows.append(dict(zip(HISTORY, ("epoch", *cells, epoch == kept, (epoch + 0.1) * road.seconds), strict=True)))
    return rows


def _selection(road: Road, history: list[dict[str, Any]], val: Mapping[str, Any]) -> dict[str, Any]:
    by_epochs = bool(road.epochs)
    own = {"taps": "last" if by_epochs else "all", "l2": None if by_epochs else 0.003}
    loss = next(row["val_loss"] for row in history if row["best"])
    candidate = {**own, "val_log_loss": loss, "val_accuracy": val["accuracy"], "iterations": 30, "chosen": True}
    why = _why(road, history) if by_epochs else facts.WHY_PATH
    paired = None
    if road.strategy == "finetune":
        paired = {"names": ["finetune", "probe"], "measure": "log-loss", "n": val["n"], "difference": -0.012}
        paired |= {"interval": [-0.03, 0.006], "p_value": 0.19}
    return {"strategy": road.strategy, "head": "linear", **own, "why": why, "candidates": [candidate], "paired": paired}


def _why(road: Road, history: list[dict[str, Any]]) -> str:
    kept = next(row for row in history if row["best"])
    return f"Epoch {kept['step']} is kept: the best val.accuracy, {kept['val_accuracy']:.4f}; all epochs were trained."


def _sizes(road: Road) -> dict[str, Any]:
    sizes = {"probe": (3_374_858, 9_794), "finetune": (3_374_858, 3_374_858), "scratch": (846_308, 846_308)}
    parameters, trainable = sizes[road.strategy]
    named = {"backbone": "cnn", "weights_origin": "none"} if road.strategy == "scratch" else {}
    return {"parameters": parameters, "trainable": trainable, **named}


def _result(
    road: Road,
    images: Images,
    n: Mapping[str, int],
    subsets: Mapping[str, Mapping[str, Any]],
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    base = facts.result(images.title, n, len(images.classes))
    scores = {
        key: {name: own[name] for name in ("accuracy", "interval", "n")} | {"loss": own["log_loss"]}
        for key, own in subsets.items()
    }
    network = road.strategy != "probe"
    looped = float(history[-1]["seconds"]) if network else 0.0
    train = looped * (0.3 if road.resumed else 1.0) + 3.0 if network else road.seconds * max(1, road.epochs)
    total = sum(n[key] for key in ("train", "val", "test"))
    features = {"computed": 0 if road.reused else total, "reused": total if road.reused else 0}
    spent = {"data": 0.4, "features": road.passed, "train": train, "evaluate": 0.3, "export": 1.2}
    training: dict[str, Any] = {
        "epochs": road.epochs,
        "kept": next((row["step"] for row in history if row["best"]), 0),
        "stopped": "epochs",
        "why": _why(road, history),
        "seconds": looped,
        "lr": 1e-3,
        "fed": "images",
        "micro_batches": [],
    }
    digest = {"before": "5d" * 32, "after": "5d" * 32, "tensors": 0 if network else None}
    return {
        **base,
        **{key: value for key, value in _sizes(road).items() if key != "weights_origin"},
        "strategy": road.strategy,
        **scores,
        "seconds": {"total": sum(spent.values()) + 1000.0, **spent},  # a process of several runs started long ago
        "features": {**base["features"], **features},
        "training": training if network else None,
        "frozen": digest,
    }
