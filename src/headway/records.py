"""Writing a run down: bundle, evaluation.json, predictions.csv, history.csv, thumbnails, report."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headway import files
from headway.assuring import Assured
from headway.clock import Clock
from headway.data.dataset import SUBSETS, TEST, Dataset, Split
from headway.data.hugging_face import hub_name
from headway.deployment import manifest
from headway.deployment.card import Card
from headway.evaluation.evaluation import Evaluation
from headway.exports import write_bundle
from headway.machine import versions
from headway.mapping import FeatureMap
from headway.quality.audit import class_counts
from headway.results import (
    PREDICTION_COLUMNS,
    prediction_rows,
    suggestion,
    told_cells,
    told_surest,
    write_thumbnails,
)
from headway.runs import Run
from headway.steps import Account, Judgement, Made, Sight, parity_samples
from headway.training.classifier import Classifier

SCHEMA = 1
PORTABLE = f"bundle/{manifest.PORTABLE}"


@dataclass(frozen=True)
class Whole:
    """Everything of a run, before it is written down.

    first     what the pretrained network saw, where there was a pass through it
    assured   its prediction sets, what it knows, and what their promises came to on the test images
    repeats   accuracy on other splits, where they were tried
    advice    what `advising.conclude` found
    places    the feature map, where one was drawn
    pictured  names of the samples whose thumbnails the report shows beside those of mistakes
    """

    dataset: Dataset
    split: Split
    made: Made
    judged: Judgement
    assured: Assured
    first: Sight | None
    repeats: Mapping[str, Any] | None = None
    advice: Mapping[str, Any] | None = None
    pictured: tuple[str, ...] = ()
    places: FeatureMap | None = None


def ship(whole: Whole, run: Run, place: str = "bundle") -> dict[str, Any]:
    """Write the bundle folder `place` of the run, held against real validation images. Returns what the gate found."""
    dataset, test, made = whole.dataset, whole.judged.test, whole.made
    known: Card = {} if (hub := hub_name(run.settings.data)) is None else {"dataset": hub}
    return write_bundle(
        made.classifier,
        run.path / place,
        samples=parity_samples(made.sight, whole.split.val, made.classifier),
        card={
            **known,
            "name": dataset.name,
            "created": _now(),
            "command": run.settings.command(),
            "data": f"{len(dataset):,} images, {dataset.kind}",
            "counts": class_counts(dataset, whole.split.subsets),
            "n": _sizes(whole.split),
            "test": {"n": test.n, "accuracy": test.accuracy, "interval": list(test.interval)},
            "metrics": {"balanced_accuracy": test.balanced_accuracy, "macro_f1": test.macro_f1},
            "confidence": whole.assured.found,
            "constant_guess": test.guess_accuracy,
            "versions": versions(),
        },
        threads=run.settings.threads,
        confidence=whole.assured.confidence,
    )


def record(whole: Whole, run: Run, clock: Clock) -> dict[str, Any]:
    """Write what the report is drawn from, then the report. Returns the final JSON."""
    from headway.reporting.page import write_report

    dataset, judged, temperature = whole.dataset, whole.judged, whole.made.classifier.temperature
    rows = prediction_rows(dataset, judged.parts, temperature)
    files.write_csv(run.path / "predictions.csv", PREDICTION_COLUMNS, rows)
    _write_history(run.path / "history.csv", whole.made.account)
    test = next(part for part in judged.parts if part.subset == TEST)
    cells = told_cells(dataset, test, temperature)
    surest = told_surest(dataset, test, temperature, judged.mistakes)
    shown = [*judged.mistakes, *surest, *(image for cell in cells for image in cell["images"])]
    if whole.places is not None:
        files.write_json(run.path / "map.json", whole.places.facts)
    mapped = whole.places.pictured if whole.places is not None else ()
    pictures = dict.fromkeys([*(image["name"] for image in shown), *whole.pictured, *mapped])
    write_thumbnails(run.path / "thumbnails.parquet", dataset, list(pictures))
    result = _result(whole, run, clock)
    files.write_json(
        run.path / "evaluation.json",
        {
            "schema": SCHEMA,
            "title": dataset.name,
            "created": _now(),
            "command": run.settings.command(),
            "result": result,
            "classes": list(dataset.classes),
            "subsets": {
                "train": judged.train.to_json(),
                "val": judged.val.to_json(),
                "test": judged.test.to_json(),
            },
            "test_openings": 1,
            "repeats": whole.repeats,
            "confidence": whole.assured.found,
            "selection": dict(whole.made.account.chosen),
            "tried": whole.made.account.tried,
            "model": _model(whole.made.classifier, whole.made.account),
            "mistakes": judged.mistakes,
            "surest": surest,
            "cells": cells,
            "next": suggestion(judged.test),
            "advice": None if whole.advice is None else dict(whole.advice),
            "saved": _saved(whole.first or whole.made.sight),
        },
    )
    write_report(run.path)
    return result


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sizes(split: Split) -> dict[str, int]:
    sizes = {name: int((split.subsets == number).sum()) for number, name in enumerate(SUBSETS)}
    return {**sizes, "set_aside": int((split.subsets < 0).sum())}


def _result(whole: Whole, run: Run, clock: Clock) -> dict[str, Any]:
    sight, judged, account = whole.first or whole.made.sight, whole.judged, whole.made.account
    features, ready, test = sight.features, sight.ready, judged.test
    model = _model(whole.made.classifier, account)
    return {
        "run": str(run.path),
        "bundle": str(run.path / "bundle"),
        "backbone": whole.made.sight.ready.trunk.facts["name"],
        "strategy": account.strategy,
        "parameters": model["parameters"],
        "trainable": model["trainable"],
        "classes": len(whole.dataset.classes),
        "n": _sizes(whole.split),
        "train": _scored(judged.train),
        "val": _scored(judged.val),
        "test": {**_scored(test), "balanced_accuracy": test.balanced_accuracy, "macro_f1": test.macro_f1},
        "confidence": whole.assured.found,
        "seconds": clock.seconds(),
        "features": {
            "computed": features.computed,
            "reused": features.reused,
            "engine": ready.choice.name,
            "precision": ready.precision,
            "prepare_seconds": round(ready.seconds, 3),
            "images_per_second": features.images_per_second,
        },
        "training": None if account.training is None else dict(account.training),
        "frozen": None if account.frozen is None else dict(account.frozen),
    }


def _scored(judged: Evaluation) -> dict[str, Any]:
    return {
        "accuracy": judged.accuracy,
        "interval": list(judged.interval),
        "n": judged.n,
        "loss": judged.log_loss,
    }


def _model(classifier: Classifier, account: Account) -> dict[str, Any]:
    facts: Mapping[str, Any] = classifier.trunk.facts
    dims = {tap.name: tap.dim for tap in classifier.trunk.taps}
    width = sum(dims[tap] for tap in classifier.head.taps)
    head = sum(layer.weight.size + layer.bias.size for layer in classifier.head.layers)
    return {
        "backbone": facts["name"],
        "licence": facts["licence"],
        "weights_origin": facts["weights"]["origin"],
        "weights_digest": facts["weights"]["digest"],
        "parameters": facts["parameters"] + head,
        "trainable": account.trainable,
        "macs": facts["macs"],
        "feature_dim": width,
        "bytes_per_image": 4 * sum(dims.values()),
        "input": classifier.preprocess.size,
        "layers": facts["layers"],
    }


def _saved(sight: Sight) -> dict[str, Any] | None:
    """What the cache saved: the images that were not computed, at the speed at which this machine would have."""
    rate = sight.ready.choice.rates.get(sight.ready.choice.name)
    reused = sight.features.reused
    if not reused or not rate:
        return None
    seconds = round(reused / rate, 1)
    text = f"{reused:,} images came from the feature cache: about {seconds:,.0f} s of computing not spent again"
    return {"images": reused, "seconds": seconds, "text": text}


def _write_history(path: Path, found: Account) -> None:
    columns = (
        *("kind", "step", "taps", "l2", "lr"),
        *("train_loss", "train_accuracy", "val_loss", "val_accuracy", "best", "seconds"),
    )
    rows = ([_cell(row.get(column)) for column in columns] for row in found.history)
    files.write_csv(path, columns, rows)


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return value
