"""What a run tells a tracker, read from its files: settings, curves, final figures. Files stay the truth.

Names of figures have a slash, by which TensorBoard and MLflow group them: val/loss, test/accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import files
from headway.events import Measured
from headway.settings import FitSettings

# What lies in a run folder and is small, in the order in which it is told.
FILES = (
    *("report.html", "settings.yaml", "resolved.json", "evaluation.json", "predictions.csv", "history.csv"),
    *("split.csv", "audit.json", "map.json"),
)


@dataclass(frozen=True)
class Point:
    """One figure. step: the epoch of a curve, the number of the candidate of an L2 path; 0 for a final figure."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Ended:
    """A finished run, as its files tell it.

    settings  name → what was asked, as words and numbers
    curves    of history.csv
    final     of the classifier that was kept: on the test images, and on those that it was trained and chosen by
    summary   a few lines of Markdown
    """

    path: Path
    settings: Mapping[str, str | int | float | bool]
    curves: tuple[Point, ...]
    final: tuple[Point, ...]
    summary: str


def ended(path: Path, settings: FitSettings) -> Ended:
    """What stands in the files of the finished run in `path`."""
    evaluation = files.read_json(path / "evaluation.json")
    return Ended(
        path,
        plain(settings),
        tuple(curves(path / "history.csv")),
        tuple(final(evaluation["result"])),
        summary(evaluation),
    )


def plain(settings: FitSettings) -> dict[str, str | int | float | bool]:
    """Every setting but where the run lies and who is told of it; lists as words, nothing as "none"."""
    told: dict[str, str | int | float | bool] = {}
    for name, value in settings.model_dump(mode="json", exclude={"run", "track"}).items():
        if isinstance(value, list):
            told[name] = ",".join(map(str, value))
        else:
            told[name] = "none" if value is None else value
    return told


def measured(event: Measured) -> list[Point]:
    """The figures of an epoch that has just ended: the same that history.csv will hold."""
    return [
        Point(name.replace("_", "/"), event.step, value)
        for name, value in event.values.items()
        if math.isfinite(value)  # before the first step there is no training loss
    ]


def curves(path: Path) -> Iterator[Point]:
    """The rows of history.csv: epochs, or the candidates of the path over L2, which have names of their own."""
    for row in files.read_csv(path):
        prefix = "" if row["kind"] == "epoch" else f"path_{row['taps']}/"
        columns = ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
        for column in columns if row["kind"] == "epoch" else ("l2", *columns[1:]):
            if row[column]:
                name = prefix + column if prefix else column.replace("_", "/")
                yield Point(name, int(row["step"]), float(row[column]))


def final(result: Mapping[str, Any]) -> Iterator[Point]:
    """The figures that a run ends in, from the "result" of its evaluation.json."""
    test = result["test"]
    values = {f"test/{name}": test[name] for name in ("accuracy", "loss", "balanced_accuracy", "macro_f1")}
    values["test/accuracy_low"], values["test/accuracy_high"] = test["interval"]
    values["test/n"] = test["n"]
    for subset in ("train", "val"):
        for name in ("accuracy", "loss"):
            values[f"kept/{subset}_{name}"] = result[subset][name]
    values["seconds/total"] = result["seconds"]["total"]
    for name, value in values.items():
        if value is not None and math.isfinite(value):
            yield Point(name, 0, float(value))


def summary(evaluation: Mapping[str, Any]) -> str:
    """What a person should read first."""
    result = evaluation["result"]
    test, (low, high) = result["test"], result["test"]["interval"]
    return (
        f"{result['backbone']}, {result['strategy']}, {result['classes']} classes: test accuracy "
        f"{test['accuracy']:.4f} [{low:.4f}, {high:.4f}] on {test['n']:,} images.\n\n"
        f"    {evaluation['command']}"
    )
