"""Two or more runs beside each other, as a page shows them: what they came to, what differs, how they learned."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headway.comparing import flat_line
from headway.errors import HeadwayError
from headway.evaluation.bootstrap import told_p
from headway.reporting import figures, panels
from headway.reporting.curves import Frame, Line, chart
from headway.reporting.records import Run, Step, chosen_setting, kept_epochs, read_run
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, count, interval, is_number, number, seconds, shortened
from headway.viewer.folders import open_plain
from headway.viewer.listing import Row, share, word
from headway.viewer.pairs import Pairing, pair_up, told_verdict
from headway.viewer.soundness import LARGEST

MOST_RUNS = 8  # beside each other; as many colours are told apart
MOST_SETTINGS = 200
_READ = (
    "evaluation.json",
    "audit.json",
    "resolved.json",
    "settings.yaml",
    "history.csv",
    "predictions.csv",
    "split.csv",
)
_FRAME = Frame(424.0, 290.0, 46.0, 116.0, 30.0, 42.0)
_LETTERS = 14  # of a name at the end of its line
_FEW = 3  # runs up to which training is drawn beside validation


@dataclass(frozen=True)
class Side:
    """One run of a comparison. `place` numbers its colour from 0; `report` is an address, empty without one."""

    id: str
    name: str
    place: int
    report: str
    made: str
    test: str
    bounds: str
    n: str
    bar: Safe
    val: str
    train: str
    loss: str
    seconds: str
    parameters: str


@dataclass(frozen=True)
class Told:
    """One paired test, or why there is none."""

    a: str
    b: str
    verdict: str
    images: str
    alone: str
    difference: str
    intervals: tuple[str, str]
    bar: Safe | None
    p_value: str
    p_holm: str


@dataclass(frozen=True)
class Beside:
    """The whole page. `settings` and `conditions` hold what differs alone: its name, and the value of each run.

    parent  the folder that all of them lie in; their names leave it out
    words   the paired tests in words, where they do not already stand above
    """

    parent: str
    verdict: tuple[str, ...]
    sides: tuple[Side, ...]
    axis: tuple[str, str]
    pairs: tuple[Told, ...]
    span: tuple[str, str]
    many: bool
    words: tuple[str, ...]
    panels: tuple[Safe, ...]
    both: bool
    settings: tuple[tuple[str, tuple[str, ...]], ...]
    same: int
    conditions: tuple[tuple[str, tuple[str, ...]], ...]
    damaged: tuple[str, ...]


def read_for_comparison(folder: Path) -> Run:
    """The files of a run but its pictures. Raises HeadwayError where one of them is damaged, too large or a link."""
    for name in _READ:
        try:
            stream, _ = open_plain(folder / name, LARGEST[name])
        except FileNotFoundError:
            continue
        stream.close()
    try:
        run = read_run(folder, pictures=False)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise HeadwayError(f"a file of it cannot be read: {type(error).__name__}") from error
    if not isinstance(run.evaluation.get("result"), dict) or not isinstance(run.evaluation.get("subsets"), dict):
        raise HeadwayError("evaluation.json holds something else than expected")
    return run


def beside(
    rows: Sequence[Row], paths: Mapping[str, Path], address: Mapping[str, str]
) -> tuple[Beside | None, tuple[str, ...]]:
    """The page of these runs, at most `MOST_RUNS`, and what keeps others from it.

    The page is None where fewer than two of them can be read.

    address  id → where the report of the run is served, for those that have one
    """
    runs: dict[str, Run] = {}
    read, damaged = [], []
    rows = rows[:MOST_RUNS]
    parent = os.path.commonpath([os.path.dirname(row.name) for row in rows]) if rows else ""  # noqa: PTH120
    for row in rows:
        name = row.name.removeprefix(f"{parent}/")
        try:
            runs[name] = read_for_comparison(paths[row.id])
            read.append(replace(row, name=name))
        except HeadwayError as error:
            damaged.append(f"{name} is left out: {error}")
    if len(runs) < 2:
        return None, tuple(damaged)
    pairs = pair_up(runs)
    low = min((end for row in read if row.interval for end in row.interval), default=0.0)
    low = max(0.0, int(low * 20 - 0.5) / 20)
    most = max(
        [abs(end) for pair in pairs if pair.verdict for end in (*pair.verdict.test.interval, *pair.verdict.resampled)]
        + [0.01]
    )
    settings, same = _differing_settings(list(runs.values()))
    drawn, both = _panels(runs)
    made = Beside(
        parent=parent,
        verdict=told_verdict(list(runs), pairs),
        sides=tuple(_side(row, runs[row.name], place, low, address.get(row.id, "")) for place, row in enumerate(read)),
        axis=(f"{low:g}", "1"),
        pairs=tuple(_told(pair, most) for pair in pairs),
        span=(number(-most), f"+{number(most)}"),
        many=sum(pair.verdict is not None for pair in pairs) > 1,
        words=tuple(pair.verdict.sentence() for pair in pairs if pair.verdict is not None and len(runs) > 2),
        panels=tuple(drawn),
        both=both,
        settings=settings,
        same=same,
        conditions=_conditions(list(runs.values())),
        damaged=tuple(damaged),
    )
    return made, tuple(damaged)


def _side(row: Row, run: Run, place: int, low: float, report: str) -> Side:
    subsets, result = run.evaluation["subsets"], run.evaluation["result"]
    test, train = _mapping(subsets.get("test")), _mapping(subsets.get("train"))
    parameters = result.get("parameters")
    return Side(
        id=row.id,
        name=row.name,
        place=place,
        report=report,
        made=" · ".join(part for part in (row.strategy, row.backbone, row.head) if part),
        test=number(row.test),
        bounds=interval(row.interval),
        n=count(row.n),
        bar=figures.range_bar(row.test, row.interval, low=low),
        val=number(row.val),
        train=number(share(train.get("accuracy"))),
        loss=number(_small(test.get("log_loss"))),
        seconds=seconds(row.seconds),
        parameters=count(parameters) if _small(parameters) is not None else NOTHING,
    )


def _told(pair: Pairing, most: float) -> Told:
    verdict = pair.verdict
    images = count(pair.common) if not pair.partly else f"{count(pair.common)} in common"
    if verdict is None:
        return Told(pair.a, pair.b, f"no test: {pair.why}", "", "", "", ("", ""), None, "", "")
    tango, resampled = verdict.test.interval, verdict.resampled
    around = [min(tango[0], resampled[0]), max(tango[1], resampled[1])]
    return Told(
        a=pair.a,
        b=pair.b,
        verdict="no difference shown" if verdict.better is None else f"{verdict.better} is better",
        images=images,
        alone=f"{count(pair.alone[0])} : {count(pair.alone[1])}",
        difference=number(verdict.test.difference),
        intervals=(interval(tango), interval(resampled)),
        bar=panels.difference_bar(verdict.test.difference, around, most, verdict.better is not None),
        p_value=told_p(verdict.test.p_value).removeprefix("p").removeprefix("="),
        p_holm=told_p(verdict.p_holm).removeprefix("p").removeprefix("="),
    )


# What differs ---------------------------------------------------------------------------------------------------


def _differing_settings(runs: Sequence[Run]) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], int]:
    """Settings that differ, and how many do not. One that only some runs know counts by those that know it."""
    names: dict[str, None] = {}
    for run in runs:
        names.update(dict.fromkeys([*run.asked, *_mapping(run.resolved.get("settings"))]))
    rows, same = [], 0
    for name in list(names)[:MOST_SETTINGS]:
        if name == "run" or not isinstance(name, str):  # where it lies; the table tells
            continue
        values = [setting(chosen_setting(run, name)) if _knows(run, name) else None for run in runs]
        known = [value for value in values if value is not None]
        if len(set(known)) > 1:
            rows.append((name, tuple(NOTHING if value is None else value for value in values)))
        else:
            same += 1
    return tuple(rows), same


def _knows(run: Run, name: str) -> bool:
    return name in run.asked or name in _mapping(run.resolved.get("settings"))


def setting(value: object) -> str:
    """A setting as it would be typed; lists of plain values with commas."""
    if value is None:
        return "not given"
    if isinstance(value, list):
        parts = [*(_scalar(item) for item in value[:20]), *(["…"] if len(value) > 20 else [])]
        return ", ".join(parts) or "none"
    return _scalar(value)


def _scalar(value: object) -> str:
    return word(value) if isinstance(value, str | int | float) else "…"


def _conditions(runs: Sequence[Run]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Facts about data, software and machine that differ."""
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for own in facts for name in own)
    rows = [(name, tuple(own.get(name) or NOTHING for own in facts)) for name in names]
    return tuple((name, values) for name, values in rows if len(set(values)) > 1)[:MOST_SETTINGS]


def _facts(run: Run) -> dict[str, str]:
    result, resolved = run.evaluation["result"], run.resolved
    n, engine, features = (
        _mapping(value) for value in (result.get("n"), resolved.get("engine"), result.get("features"))
    )
    return {
        "data": word(run.evaluation.get("title")),
        "classes": word(result.get("classes")),
        **{f"{subset} images": word(n.get(subset)) for subset in ("train", "val", "test", "set_aside")},
        "engine": word(engine.get("name")),
        "precision": word(features.get("precision")),
        "threads": word(resolved.get("threads")),
        **{str(name): word(value) for name, value in list(_mapping(resolved.get("machine")).items())[:50]},
        **{str(name): word(value) for name, value in list(_mapping(resolved.get("versions")).items())[:50]},
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _small(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and is_number(value) and abs(value) < 1e15 else None


# Curves over each other -----------------------------------------------------------------------------------------


def _panels(runs: Mapping[str, Run]) -> tuple[list[Safe], bool]:
    """Charts with a line of its own colour for each run, and whether training is drawn beside validation."""
    epochs = {name: kept_epochs(run) for name, run in runs.items()}
    found: list[Safe | None] = []
    both = False
    if any(epochs.values()):
        both = len(runs) <= _FEW
        longest = max((step.step or 0.0 for steps in epochs.values() for step in steps), default=1.0) or 1.0
        for measure in ("loss", "accuracy"):
            lines = [
                line
                for place, (name, run) in enumerate(runs.items())
                for line in _lines(shortened(name, _LETTERS), place, (run, epochs[name]), measure, longest, both)
            ]
            found.append(chart(f"validation {measure}", "epoch", lines, frame=_FRAME))
    paths = {name: _path(run) for name, run in runs.items()}
    if sum(len(path) > 1 for path in paths.values()) > 1:
        for title, column in (("validation log-loss", "val_loss"), ("validation accuracy", "val_accuracy")):
            lines = [
                Line(
                    shortened(name, _LETTERS),
                    _points(path, "l2", column),
                    style=f"run{place}",
                    kept=_kept(path, "l2", column),
                )
                for place, (name, path) in enumerate(paths.items())
            ]
            found.append(chart(title, "L2", lines, log=True, frame=_FRAME))
    return [panel for panel in found if panel is not None], both


def _lines(
    name: str, place: int, of: tuple[Run, Sequence[Step]], measure: str, longest: float, both: bool
) -> list[Line]:
    """Validation of one run over epochs; a head that was solved at once is a level line."""
    run, steps = of
    column = f"val_{measure}"
    if not steps:
        level = _small(flat_line(run.evaluation).get(column))
        points = () if level is None else ((0.0, level), (longest, level))
        return [Line(name, points, beads=False, style=f"run{place} level")]
    made = [Line(name, _points(steps, "step", column), style=f"run{place}", kept=_kept(steps, "step", column))]
    if both:
        made.append(Line("", _points(steps, "step", f"train_{measure}"), beads=False, style=f"run{place} training"))
    return made


def _path(run: Run) -> tuple[Step, ...]:
    """The path over L2 of the taps that were chosen, in order of L2."""
    taps = str(_mapping(run.evaluation.get("selection")).get("taps"))
    steps = [step for step in run.history if step.kind == "path" and step.taps == taps and (step.l2 or 0) > 0]
    return tuple(sorted(steps, key=lambda step: step.l2 or 0.0))


def _points(steps: Sequence[Step], x: str, y: str) -> tuple[tuple[float, float], ...]:
    pairs = ((getattr(step, x), getattr(step, y)) for step in steps)
    return tuple((float(at), float(value)) for at, value in pairs if at is not None and value is not None)


def _kept(steps: Sequence[Step], x: str, y: str) -> tuple[float, float] | None:
    return next(iter(_points([step for step in steps if step.best], x, y)), None)
