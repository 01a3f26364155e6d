"""Judge a bundle on labelled images: the same numbers as in training, from the runtime that users run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.assuring import tried
from headway.data.dataset import TEST, Dataset
from headway.data.images import shown
from headway.deployment.bundle import Bundle
from headway.deployment.predictor import probabilities
from headway.errors import HeadwayError, Refused, nearest
from headway.evaluation.evaluation import Evaluation, evaluate
from headway.events import Event, Progress
from headway.features.reading import Reading, Readings, ReadTask
from headway.features.scaling import open_scaler
from headway.machine import usable_cores, versions
from headway.results import PREDICTION_COLUMNS, Judged, prediction_rows

_BATCH = 32
_AHEAD = 8


@dataclass(frozen=True)
class Chosen:
    """Which samples are judged, and their labels as the bundle numbers its classes. Both (n,)."""

    indices: NDArray[np.intp]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Seen:
    """What the bundle said. indices (n,) of the images that could be read, logits (n, C); reasons of the others.

    confidence  what its promises came to, as `assuring.tried`
    """

    indices: NDArray[np.intp]
    logits: NDArray[np.float32]
    reasons: dict[str, str]
    confidence: dict[str, Any]


def choose(dataset: Dataset, classes: tuple[str, ...]) -> Chosen:
    """The test images where the data brings some, else every labelled one; classes are matched by name.

    Raises Refused where the data has a class that the bundle does not know, or no labelled image.
    """
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        hints = [f" (nearest: {close[0]})" if (close := nearest(name, classes, 1)) else "" for name in unknown[:5]]
        listed = ", ".join(f"{shown(name)}{hint}" for name, hint in zip(unknown, hints, strict=False))
        raise Refused(
            f"{dataset.name} has {len(unknown)} classes that this bundle does not know: {listed}.\n"
            f"  It knows {len(classes)}: {', '.join(map(shown, classes[:8]))}{', ...' if len(classes) > 8 else ''}\n"
            f"  Rename the folders or labels, or leave these classes out."
        )
    labelled = dataset.labels >= 0
    brought = labelled & (dataset.given == TEST)
    indices = np.flatnonzero(brought if brought.any() else labelled)
    if not len(indices):
        raise Refused(f"{dataset.name} has no labelled images to judge a bundle on.")
    number = np.array([classes.index(name) for name in dataset.classes], np.int32)
    return Chosen(indices, number[dataset.labels[indices]])


def assess(bundle: Bundle, dataset: Dataset, chosen: Chosen) -> Generator[Event, None, tuple[Evaluation, Seen]]:
    """Run the bundle over the chosen images and judge what it says. Damaged images are set aside by name."""
    seen: list[int] = []
    logits: list[NDArray[np.float32]] = []
    strange: list[NDArray[np.float64]] = []
    reasons: dict[str, str] = {}
    batch: list[Reading] = []
    unknown = bundle.confidence.unknown

    def run() -> None:
        images = np.stack([reading.image for reading in batch if reading.image is not None])
        said, features = bundle.both(images)
        logits.append(said)
        strange.append(np.empty(0) if unknown is None else unknown.score(features, said))
        seen.extend(reading.index for reading in batch)
        batch.clear()

    task = ReadTask(dataset, bundle.preprocess, scaler=open_scaler())
    with Readings(task, chosen.indices, threads=usable_cores(), ahead=_AHEAD) as readings:
        for done, reading in enumerate(readings, 1):
            if reading.image is None:
                reasons[dataset.names[reading.index]] = reading.reason
            else:
                batch.append(reading)
            if len(batch) == _BATCH:
                run()
                yield Progress("evaluate", done, len(chosen.indices), len(reasons))
    if batch:
        run()
    if not seen:
        raise HeadwayError(f"none of the {len(chosen.indices):,} images of {dataset.name} can be read.")
    yield Progress("evaluate", len(chosen.indices), len(chosen.indices), len(reasons))
    indices, found = np.array(seen, np.intp), np.concatenate(logits)
    labels = chosen.labels[np.searchsorted(chosen.indices, indices)]
    evaluation = evaluate(found, labels, bundle.classes, temperature=bundle.temperature, seed=0)
    shares = probabilities(found, bundle.temperature)
    confidence = tried(bundle.confidence, shares, labels, np.concatenate(strange))
    return evaluation, Seen(indices, found, reasons, confidence)


def record(bundle: Bundle, dataset: Dataset, evaluation: Evaluation, seen: Seen) -> dict[str, Any]:
    """Write evaluation.json, predictions.csv and the count of openings to runs/<data>-evaluated/. Returns the JSON."""
    folder = Path("runs") / f"{Path(dataset.name).stem or 'data'}-evaluated"
    folder.mkdir(parents=True, exist_ok=True)
    openings = _count(folder / "openings.json", bundle.digest)
    known = {name: number for number, name in enumerate(bundle.classes)}
    labels = np.array([known.get(name, -1) for name in dataset.classes], np.int32)
    renumbered = Dataset(
        dataset.name,
        dataset.kind,
        dataset.names,
        np.where(dataset.labels >= 0, labels[dataset.labels], -1).astype(np.int32),
        dataset.given,
        dataset.groups,
        bundle.classes,
        dataset.source,
    )
    rows = prediction_rows(renumbered, [Judged(TEST, seen.indices, seen.logits)], bundle.temperature)
    files.write_csv(folder / "predictions.csv", PREDICTION_COLUMNS, rows)
    result = {
        "bundle": str(bundle.path),
        "bundle_digest": bundle.digest,
        "data": dataset.name,
        "n": {"test": evaluation.n, "set_aside": len(seen.reasons)},
        "test": {"accuracy": evaluation.accuracy, "interval": list(evaluation.interval), "n": evaluation.n},
        "confidence": seen.confidence,
        "openings": openings,
        "output": str(folder),
        "versions": versions(),
    }
    set_aside = [{"name": name, "reason": why} for name, why in seen.reasons.items()]
    files.write_json(folder / "evaluation.json", {**result, "set_aside": set_aside, "evaluation": evaluation.to_json()})
    return result


def _count(path: Path, digest: str) -> int:
    """How often this bundle has been judged here, this time included."""
    try:
        counts: dict[str, int] = files.read_json(path)
    except (OSError, ValueError):
        counts = {}
    counts[digest] = counts.get(digest, 0) + 1
    files.write_json(path, counts)
    return counts[digest]


def told_openings(result: dict[str, Any]) -> str:
    """How often these images were opened by this bundle, and where it is written."""
    times = "once" if result["openings"] == 1 else f"{result['openings']} times"
    warning = "" if result["openings"] == 1 else "; choosing by this number makes it too good"
    return f"{times} by this bundle{warning}   ({result['output']}/evaluation.json)"
