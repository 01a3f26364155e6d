"""Run folders as `fit` leaves them, made from a seed with numpy alone: no model, no other room of headway."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.reporting import facts

TWO = ("cats", "dogs")
BLOOD = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
_FIRST = "amber birch cedar delta ember fjord grove heron ivory juniper".split()  # noqa: SIM905
_SECOND = "arch bell comb dome edge fern gate hill isle jetty".split()  # noqa: SIM905
HUNDRED = tuple(f"{first} {second}" for first in _FIRST for second in _SECOND)


@dataclass(frozen=True)
class Plan:
    """What the run should look like. `skill` is how far the right logit stands out; 6 is hard to beat."""

    classes: tuple[str, ...] = TWO
    test: tuple[int, ...] = (150, 150)
    skill: float = 4.3
    road: str = "path"  # or "epochs"
    title: str = "photos"
    seed: int = 0
    unlabelled: int = 0
    file_name: str = "{label}/{label}.{index}.jpg"


PLANS = {
    "two": Plan(),
    "four": Plan(BLOOD, (22, 3, 4, 48), 2.4, "path", "blood-cells", 1, unlabelled=12),
    "hundred": Plan(HUNDRED, (100,) * 100, 4.6, "epochs", "cifar100", 2),
}


def build_run(folder: Path, plan: Plan) -> Path:
    """Write every file of a run but split.csv, bundle/ and report.html into `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(plan.seed)
    y = np.repeat(np.arange(len(plan.classes)), plan.test)  # (N,)
    logits = _logits(rng, y, len(plan.classes), plan.skill)  # (N, C)
    names = [plan.file_name.format(label=plan.classes[label], index=index) for index, label in enumerate(y)]
    mistakes, surest = _mistakes(names, y, logits, plan.classes)
    history, selection = _history(plan)
    subsets = {"val": judge(logits[::3], y[::3], plan.classes), "test": judge(logits, y, plan.classes)}
    cells = _cells(names, y, logits, plan.classes)
    found = {"mistakes": mistakes, "surest": surest, "cells": cells}
    write_json(folder / "evaluation.json", {**_evaluation(plan, subsets, selection), **found})
    write_json(folder / "audit.json", facts.audit(plan.classes, plan.test, names, plan.unlabelled))
    write_json(folder / "resolved.json", facts.resolved(plan.title))
    (folder / "settings.yaml").write_text(
        yaml.safe_dump({"data": f"{plan.title}/", "head": selection["head"], "seed": 0})
    )
    (folder / "history.csv").write_text(_csv(history))
    write_predictions(folder / "predictions.csv", plan, names, y, logits)
    pictured = [one["name"] for one in mistakes + surest] + [one["name"] for cell in cells for one in cell["images"]]
    write_thumbnails(folder / "thumbnails.parquet", list(dict.fromkeys(pictured)), rng)
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=True, allow_nan=False))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def wilson(k: float, n: float) -> list[float] | None:
    if not n:
        return None
    z, p = 1.959964, k / n
    middle, half = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return [float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n))]


def judge(logits: NDArray[np.float64], y: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """What an evaluation holds, for logits (N, C) and labels (N,)."""
    n, size = len(y), len(classes)
    said = logits.argmax(axis=1)
    confusion = np.zeros((size, size), dtype=int)
    np.add.at(confusion, (y, said), 1)
    support, predicted, right = confusion.sum(1), confusion.sum(0), np.diag(confusion)
    recall, precision = right / np.maximum(support, 1), right / np.maximum(predicted, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    share = support / n
    averages = {
        "micro": {"precision": right.sum() / n, "recall": right.sum() / n, "f1": right.sum() / n, "support": n},
        "macro": {"precision": precision.mean(), "recall": recall.mean(), "f1": f1.mean(), "support": n},
        "weighted": {"precision": precision @ share, "recall": recall @ share, "f1": f1 @ share, "support": n},
    }
    top = np.argsort(-logits, axis=1)[:, :5]
    often = int(support.argmax())
    enough = bool(support.min() >= 30)
    return {
        "n": n,
        "correct": int(right.sum()),
        "accuracy": right.sum() / n,
        "interval": wilson(right.sum(), n),
        "constant_guess": {"class": classes[often], "accuracy": support[often] / n},
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "macro_f1_interval": [float(f1.mean()) - 0.012, min(1.0, float(f1.mean()) + 0.011)] if enough else None,
        "balanced_accuracy_interval": [float(recall.mean()) - 0.01, float(recall.mean()) + 0.01] if enough else None,
        "macro_note": None if enough else "An interval of macro-F1 would not be honest at this n.",
        "top5": float((top == y[:, None]).any(axis=1).mean()) if size > 10 else None,
        "log_loss": 0.1,
        "brier": 0.05,
        "per_class": [
            {
                "class": classes[c],
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "recall_interval": wilson(right[c], support[c]),
                "f1": float(f1[c]),
                "support": int(support[c]),
                "predicted": int(predicted[c]),
            }
            for c in range(size)
        ],
        "averages": {
            key: {k: float(v) if k != "support" else int(v) for k, v in row.items()} for key, row in averages.items()
        },
        "confusion": confusion.tolist(),
        "text": "not shown",
        "calibration": _calibration(logits, y),
    }


def _calibration(logits: NDArray[np.float64], y: NDArray[np.int64], temperature: float = 1.31) -> dict[str, Any]:
    p = softmax(logits / temperature)
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    bins: list[dict[str, Any]] = []
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        inside = (sure > low) & (sure <= high)
        some = bool(inside.any())
        bins.append(
            {
                "low": low,
                "high": high,
                "n": int(inside.sum()),
                "confidence": float(sure[inside].mean()) if some else None,
                "accuracy": float(right[inside].mean()) if some else None,
            }
        )
    return {
        "temperature": temperature,
        "before": _losses(softmax(logits), y),
        "after": {
            **_losses(p, y),
            "ece": sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins if b["n"]) / len(y),
        },
        "ece_floor": 0.7 / float(np.sqrt(len(y))),
        "bins": bins,
    }


def _losses(p: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, float]:
    truth = np.eye(p.shape[1])[y]
    own = p[np.arange(len(y)), y]
    gap = float(abs(p.max(axis=1).mean() - (p.argmax(axis=1) == y).mean()))
    return {"nll": float(-np.log(own).mean()), "brier": float(((p - truth) ** 2).sum(axis=1).mean()), "ece": gap}


def _logits(rng: np.random.Generator, y: NDArray[np.int64], size: int, skill: float) -> NDArray[np.float64]:
    logits = rng.normal(0, 1.3, (len(y), size))
    logits[np.arange(len(y)), y] += skill
    if size > 10:  # neighbours are alike, some more than others
        logits[np.arange(len(y)), (y + 1) % size] += 1.5 + (y % 7) / 4
    return np.asarray(logits * 1.31 * skill / 1.69)  # too sure by the factor 1.31: what a temperature should find


def _mistakes(
    names: list[str], y: NDArray[np.int64], logits: NDArray[np.float64], classes: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The worst 24 mistakes, and of the others the surest 12."""
    p = softmax(logits / 1.31)
    said, sure = p.argmax(axis=1), p.max(axis=1)
    wrong = sorted(np.flatnonzero(said != y), key=lambda row: p[row, y[row]])
    found = [
        {
            "name": names[row],
            "label": classes[y[row]],
            "predicted": classes[said[row]],
            "probability": float(sure[row]),
            "probability_of_label": float(p[row, y[row]]),
        }
        for row in wrong
    ]
    return found[:24], sorted(found[24:], key=lambda one: -one["probability"])[:12]


def _cells(
    names: list[str], y: NDArray[np.int64], logits: NDArray[np.float64], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Up to 8 (of many classes 4) images of each cell, wrong ones first; at most 300 wrong and 100 right."""
    p = softmax(logits / 1.31)
    said, most = p.argmax(axis=1), 4 if len(classes) > 10 else 8
    pairs = [(true, called) for true in range(len(classes)) for called in range(len(classes))]
    rows = {pair: np.flatnonzero((y == pair[0]) & (said == pair[1])) for pair in pairs}
    wrong = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: (-len(rows[pair]), pair))
    chosen = [pair for pair in wrong if len(rows[pair])][: 300 // most]
    chosen += [pair for pair in pairs if pair[0] == pair[1]][:50]
    return [
        {
            "label": classes[true],
            "predicted": classes[called],
            "n": len(rows[true, called]),
            "images": [
                {"name": names[row], "probability": float(p[row].max())}
                for row in rows[true, called][: most if true != called else 2]
            ],
        }
        for true, called in chosen
    ]


def _history(plan: Plan) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    chosen: dict[str, Any] = {"head": "mlp:256", "taps": "last", "l2": None, "why": facts.WHY_EPOCHS}
    if plan.road == "epochs":
        return [_epoch(index) for index in range(1, 25)], {**chosen, "candidates": [], "paired": None}
    rows, candidates = [], []
    for taps, base in (("last", 0.062), ("all", 0.041)):
        for step, l2 in enumerate((1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)):
            away = abs(np.log10(l2) - np.log10(0.003))
            loss, accuracy = base + 0.021 * away**1.7, 0.987 - 0.006 * away - (0.004 if taps == "last" else 0)
            best = taps == "all" and l2 == 0.003
            rows.append(_row("path", step, taps, l2, None, loss * 0.4, min(1.0, accuracy + 0.01), loss, accuracy, best))
            measured = {"val_log_loss": loss, "val_accuracy": accuracy, "iterations": 12 + 9 * step}
            candidates.append({"taps": taps, "l2": l2, **measured, "chosen": best})
    paired = {
        "names": ["all", "last"],
        "measure": "log-loss",
        "n": 100,
        "difference": -0.0211,
        "interval": [-0.0342, -0.0087],
        "p_value": 0.0012,
    }
    chosen = {"head": "linear", "taps": "all", "l2": 0.003, "why": facts.WHY_PATH}
    return rows, {**chosen, "candidates": candidates, "paired": paired}


def _epoch(index: int) -> dict[str, Any]:
    lr = 0.001 * (1 + np.cos(np.pi * index / 24)) / 2
    train, val = 3.6 * np.exp(-index / 5) + 0.55, 2.6 * np.exp(-index / 4) + 0.92 + 0.004 * max(0, index - 19)
    return _row(
        "epoch",
        index,
        "last",
        None,
        lr,
        train,
        1 - 0.21 * train,
        val,
        0.95 - 0.22 * val + 0.01 * np.sin(index),
        index == 19,
    )


def _row(*cells: Any) -> dict[str, Any]:
    columns = "kind step taps l2 lr train_loss train_accuracy val_loss val_accuracy best".split()  # noqa: SIM905
    return dict(zip(columns, ["" if cell is None else cell for cell in cells], strict=True))


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _evaluation(plan: Plan, subsets: dict[str, Any], selection: dict[str, Any]) -> dict[str, Any]:
    total = sum(plan.test)
    n = {"train": total * 4, "val": subsets["val"]["n"], "test": total, "set_aside": 2}
    return {
        "schema": 1,
        "title": plan.title,
        "created": "2026-11-23T12:00:00Z",
        "command": f"headway fit {plan.title}/ --seed 0",
        "result": facts.result(plan.title, n, len(plan.classes)),
        "classes": list(plan.classes),
        "subsets": subsets,
        "test_openings": 1,
        "selection": selection,
        "model": facts.model(),
        "next": facts.NEXT,
        "saved": {"images": total * 5, "seconds": 81.0, "text": facts.SAVED},
    }


def write_predictions(
    path: Path, plan: Plan, names: list[str], y: NDArray[np.int64], logits: NDArray[np.float64]
) -> None:
    from headway.files import write_csv

    p = softmax(logits / 1.31)
    said = p.argmax(axis=1)
    rows: list[Sequence[object]] = [
        (names[i], "test", plan.classes[y[i]], plan.classes[said[i]], p[i].max(), p[i, y[i]]) for i in range(len(y))
    ]
    rows += [(f"new/{i}.jpg", "unlabelled", "", plan.classes[said[i]], p[i].max(), "") for i in range(plan.unlabelled)]
    write_csv(path, ["name", "subset", "label", "predicted", "probability", "probability_of_label"], rows)


def write_thumbnails(path: Path, names: list[str], rng: np.random.Generator) -> None:
    """Names as bytes: a name that is not UTF-8 cannot be a Parquet string."""
    content = [thumbnail(rng) for _ in names]
    table = pa.table(
        {"name": pa.array([os.fsencode(name) for name in names], pa.binary()), "jpeg": pa.array(content, pa.binary())}
    )
    pq.write_table(table, path)


def thumbnail(rng: np.random.Generator) -> bytes:
    """A JPEG of 96 x 72 pixels: a round thing on a ground, in muted colours."""
    ground, thing, spot = (tuple(int(v) for v in rng.integers(40, 215, 3)) for _ in range(3))
    image = Image.new("RGB", (96, 72), ground)
    pen = ImageDraw.Draw(image)
    x, y, r = rng.integers(30, 66), rng.integers(26, 46), rng.integers(14, 24)
    pen.ellipse((int(x - r), int(y - r), int(x + r), int(y + r)), fill=thing)
    pen.ellipse((int(x - r // 3), int(y - r // 3), int(x + r // 3), int(y + r // 3)), fill=spot)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()
