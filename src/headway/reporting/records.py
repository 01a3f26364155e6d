"""What a run folder holds, read once for the report. Only `evaluation.json` must be there."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway import files
from headway.data import arrow
from headway.errors import HeadwayError, Refused

SCHEMA = 1
_LARGEST_THUMBNAIL = 64 * 1024  # bytes; a page with 24 of them stays small whatever the file says


@dataclass(frozen=True)
class Step:
    """One row of history.csv: an L2 candidate (kind "path") or an epoch (kind "epoch"). None = empty cell.

    step     of an epoch its number; 0 = before training
    seconds  of training up to the end of the epoch
    """

    kind: str
    step: float | None
    taps: str
    l2: float | None
    lr: float | None
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    best: bool
    seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """The files of one run folder, parsed; what is missing is empty.

    thumbnails  name of an image → JPEG bytes
    heats       the same, with what spoke for the answer laid over it
    called      predicted class → number of unlabelled images that were given it
    """

    folder: Path
    evaluation: Mapping[str, Any]
    audit: Mapping[str, Any]
    resolved: Mapping[str, Any]
    asked: Mapping[str, Any]
    history: tuple[Step, ...]
    thumbnails: Mapping[str, bytes]
    called: Mapping[str, int]
    heats: Mapping[str, bytes] = field(default_factory=dict)


def kept_step(run: Run) -> Step | None:
    """The row of history.csv that became the head: the best one of the chosen taps and L2."""
    selection = run.evaluation.get("selection") or {}
    best = [step for step in run.history if step.best]
    chosen = [step for step in best if (step.taps, step.l2) == (selection.get("taps"), selection.get("l2"))]
    return next(reversed(chosen or best), None)


def kept_epochs(run: Run) -> tuple[Step, ...]:
    """The epochs of one training: the chosen one where several heads were trained; empty where none ran by epochs."""
    selection = run.evaluation.get("selection") or {}
    groups: dict[tuple[str, float | None], list[Step]] = {}
    for step in run.history:
        if step.kind == "epoch":
            groups.setdefault((step.taps, step.l2), []).append(step)
    chosen = groups.get((str(selection.get("taps")), selection.get("l2")))
    return tuple(chosen or next(reversed(groups.values()), []))


def chosen_setting(run: Run, name: str) -> Any:
    """A setting of the run as it was used, else as it was asked for; None where the run does not tell."""
    used = run.resolved.get("settings") or {}
    return used[name] if isinstance(used, Mapping) and name in used else run.asked.get(name)


def read_run(folder: Path, *, pictures: bool = True) -> Run:
    """Read the files of the run `folder`; without `pictures` no thumbnails.

    Raises Refused where it is no finished run or of a newer schema, HeadwayError where a file is damaged.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        raise Refused(
            f"{folder} has no evaluation.json, so there is nothing to report. Finish the run first: headway fit"
        )
    evaluation = read_object(path)
    if evaluation.get("schema") != SCHEMA:
        raise Refused(
            f"{path} has schema {evaluation.get('schema')}; this headway reads schema {SCHEMA}. "
            "Use the version of headway that wrote the run."
        )
    audit = _optional(folder / "audit.json")
    return Run(
        folder=folder,
        evaluation=evaluation,
        audit=audit,
        resolved=_optional(folder / "resolved.json"),
        asked=_settings(folder / "settings.yaml"),
        history=tuple(_history(folder / "history.csv")),
        thumbnails=read_thumbnails(folder / "thumbnails.parquet") if pictures else {},
        heats=read_thumbnails(folder / "explanations.parquet") if pictures else {},
        called=_called(folder / "predictions.csv") if audit.get("unlabelled") else {},
    )


def _optional(path: Path) -> Mapping[str, Any]:
    return read_object(path) if path.is_file() else {}


def read_object(path: Path) -> Mapping[str, Any]:
    """The JSON object in `path`. Raises HeadwayError where it holds anything else."""
    try:
        value = files.read_json(path)
    except (ValueError, RecursionError) as error:
        raise HeadwayError(f"{path} is damaged, not JSON: {error}. Make it again: headway fit") from error
    if not isinstance(value, dict):
        raise HeadwayError(f"{path} is damaged: it should hold an object. Make it again: headway fit")
    return value


def _settings(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    import yaml

    try:
        value = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        raise HeadwayError(f"{path} is damaged, not YAML: {' '.join(str(error).split())}") from error
    return value if isinstance(value, dict) else {}


def _history(path: Path) -> Iterator[Step]:
    if not path.is_file():
        return
    try:
        for row in files.read_csv(path):
            yield Step(
                kind=row.get("kind", ""),
                step=_cell(row, "step"),
                taps=row.get("taps", ""),
                l2=_cell(row, "l2"),
                lr=_cell(row, "lr"),
                train_loss=_cell(row, "train_loss"),
                train_accuracy=_cell(row, "train_accuracy"),
                val_loss=_cell(row, "val_loss"),
                val_accuracy=_cell(row, "val_accuracy"),
                best=row.get("best", "").lower() in ("true", "1", "yes"),
                seconds=_cell(row, "seconds"),
            )
    except (ValueError, csv.Error) as error:
        raise HeadwayError(f"{path} is damaged: {error}") from error


def _cell(row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column, "")
    value = float(text) if text else None
    return value if value is not None and abs(value) < float("inf") else None


def read_thumbnails(path: Path) -> Mapping[str, bytes]:
    """Name → JPEG. A name may be stored as text or, where it is not UTF-8, as its bytes."""
    if not path.is_file():
        return {}
    import pyarrow as pa

    try:
        table = arrow.read_columns(path, ["name", "jpeg"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise HeadwayError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    pairs = zip(table["name"].to_pylist(), table["jpeg"].to_pylist(), strict=True)
    return {
        os.fsdecode(name): jpeg
        for name, jpeg in pairs
        if name is not None and jpeg is not None and len(jpeg) <= _LARGEST_THUMBNAIL
    }


def _called(path: Path) -> Mapping[str, int]:
    if not path.is_file():
        return {}
    try:
        return Counter(row["predicted"] for row in files.read_csv(path) if row.get("subset") == "unlabelled")
    except (KeyError, csv.Error) as error:
        raise HeadwayError(f"{path} is damaged: {error}") from error
