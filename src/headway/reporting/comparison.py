"""The comparison as a page shows it: each function turns parts of comparison.json into a frozen view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headway.errors import Refused
from headway.evaluation.bootstrap import told_p
from headway.reporting import figures, panels
from headway.reporting.making import flat
from headway.reporting.records import read_object
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, count, day, interval, is_number, number, plain, seconds

SCHEMA = 1


@dataclass(frozen=True)
class Score:
    """Accuracy of one choice on one subset, with the loss and the interval where there is one."""

    accuracy: str
    interval: str
    loss: str


@dataclass(frozen=True)
class Choice:
    """One row of the tables. `report` is a relative address, empty where the run has no report."""

    name: str
    report: str
    strategy: str
    highest: bool
    train: Score
    val: Score
    test: Score
    bar: Safe
    costs: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Pair:
    """One paired test."""

    a: str
    b: str
    difference: str
    intervals: tuple[str, str]
    bar: Safe
    p_value: str
    p_holm: str
    better: str
    sentence: str


@dataclass(frozen=True)
class Curve:
    """The epochs of one choice as a table, the kept one marked."""

    name: str
    rows: tuple[tuple[bool, tuple[str, ...]], ...]


@dataclass(frozen=True)
class ClassRow:
    """Recall on one class: of each choice the number, its interval and its bar."""

    name: str
    support: str
    cells: tuple[tuple[str, str, Safe], ...]


@dataclass(frozen=True)
class Comparison:
    """The whole page."""

    title: str
    day: str
    verdict: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]
    choices: tuple[Choice, ...]
    axis: tuple[str, str]
    counts: tuple[str, str, str]
    pairs: tuple[Pair, ...]
    many: bool
    span: tuple[str, str]
    losses: tuple[Safe, ...]
    accuracies: tuple[Safe, ...]
    curves: tuple[Curve, ...]
    solved: tuple[str, ...]
    race: Safe | None
    classes: tuple[ClassRow, ...]
    notes: tuple[str, ...]
    conditions: tuple[tuple[str, str], ...]
    machine: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]


def read_comparison(folder: Path) -> Mapping[str, Any]:
    """comparison.json of `folder`. Raises Refused where there is none or of a newer schema, HeadwayError if damaged."""
    path = folder / "comparison.json"
    if not path.is_file():
        raise Refused(f"{folder} has no comparison.json, so there is nothing to report. Make it: headway compare")
    value = read_object(path)
    if value.get("schema") != SCHEMA:
        raise Refused(
            f"{path} has schema {value.get('schema')}; this headway reads schema {SCHEMA}. "
            "Use the version of headway that wrote it."
        )
    return value


def view(value: Mapping[str, Any]) -> Comparison:
    """Everything that the page prints, from what comparison.json holds."""
    choices, pairs, conditions = value["choices"], value["pairs"], value["conditions"]
    highest = value["verdict"]["highest"]
    low = min([(own["test"]["interval"] or [own["test"]["accuracy"]])[0] for own in choices])
    low = max(0.0, int(low * 20 - 0.5) / 20)
    most = max(
        [abs(end) for pair in pairs for key in ("mcnemar", "bootstrap") for end in pair[key]["interval"]] + [0.01]
    )
    return Comparison(
        title=str(value["title"]),
        day=day(value["created"]),
        verdict=tuple(str(sentence) for sentence in value["verdict"]["sentences"]),
        facts=tuple(_facts(value)),
        choices=tuple(_choice(own, own["name"] == highest, low) for own in choices),
        axis=(f"{low:g}", "1"),
        counts=_counts(choices),
        pairs=tuple(_pair(pair, most) for pair in pairs),
        many=len(pairs) > 1,
        span=(number(-most), f"+{number(most)}"),
        losses=tuple(panels.curve_panels(choices, "loss")),
        accuracies=tuple(panels.curve_panels(choices, "accuracy")),
        curves=tuple(_curve(own) for own in choices if own["curve"]),
        solved=tuple(str(own["name"]) for own in choices if not own["curve"]),
        race=panels.accuracy_by_seconds(choices, highest),
        classes=tuple(_classes(choices)),
        notes=tuple(str(note) for note in value["notes"]),
        conditions=tuple(_conditions(conditions)),
        machine=tuple(flat(conditions["machine"])) if conditions["machine"] else (),
        versions=tuple(flat(conditions["versions"])) if conditions["versions"] else (),
    )


def _facts(value: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    conditions = value["conditions"]
    n = conditions["n"]
    subsets = [f"{count(n[key])} {key}" for key in ("train", "val", "test") if is_number(n.get(key))]
    groups = (
        f"in {count(conditions['test_groups'])} groups" if conditions["test_groups"] else "the same for every choice"
    )
    return [
        ("choices", count(len(value["choices"])), ""),
        ("images", count(sum(n.get(key) or 0 for key in ("train", "val", "test"))), " · ".join(subsets)),
        ("classes", count(conditions["classes"]), ""),
        ("test images", count(conditions["test_images"]), groups),
        ("seed", plain(conditions["seed"]), f"split {conditions['split'][:12]}" if conditions["split"] else ""),
    ]


def _choice(own: Mapping[str, Any], highest: bool, low: float) -> Choice:
    spent, test = own["seconds"], own["test"]
    epochs = count(own["epochs"]) if own["epochs"] else NOTHING
    return Choice(
        name=str(own["name"]),
        report=address(own.get("report")),
        strategy=" · ".join(part for part in (own["strategy"], plain(own["backbone"])) if part != own["name"]),
        highest=highest,
        train=_score(own["train"]),
        val=_score(own["val"]),
        test=_score(test),
        bar=figures.range_bar(test["accuracy"], test["interval"], low=low, quiet=not highest),
        costs=(
            count(own["parameters"]),
            count(own["trainable"]),
            epochs if own["kept"] is None or not own["epochs"] else f"{epochs}, kept {own['kept']}",
            seconds(spent["pass"]) if own["pass"]["needed"] else NOTHING,
            seconds(spent["training"]),
            seconds(spent["total"]),
        ),
        why=str(own["why"] or ""),
    )


def address(path: object) -> str:
    """A relative path as an address that cannot be taken for anything else; empty where there is none."""
    return f"./{quote(path, errors='surrogateescape')}" if isinstance(path, str) and path else ""


def _score(score: Mapping[str, Any] | None) -> Score:
    if not score:
        return Score(NOTHING, "", NOTHING)
    return Score(number(score["accuracy"]), interval(score["interval"]), number(score["loss"]))


def _counts(choices: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """n of each subset for the head of the table, where it is the same for every choice."""
    found = []
    for subset in ("train", "val", "test"):
        sizes = {(own[subset] or {}).get("n") for own in choices}
        found.append(f"n={count(next(iter(sizes)))}" if len(sizes) == 1 and None not in sizes else "")
    return found[0], found[1], found[2]


def _pair(pair: Mapping[str, Any], most: float) -> Pair:
    tango, resampled = pair["mcnemar"]["interval"], pair["bootstrap"]["interval"]
    bounds = [min(tango[0], resampled[0]), max(tango[1], resampled[1])]
    return Pair(
        a=str(pair["a"]),
        b=str(pair["b"]),
        difference=number(pair["difference"]),
        intervals=(interval(tango), interval(resampled)),
        bar=panels.difference_bar(pair["difference"], bounds, most, pair["better"] is not None),
        p_value=told_p(pair["mcnemar"]["p_value"]).removeprefix("p").removeprefix("="),
        p_holm=told_p(pair["mcnemar"]["p_holm"]).removeprefix("p").removeprefix("="),
        better=f"{pair['better']} is better" if pair["better"] else "no difference shown",
        sentence=str(pair["sentence"]),
    )


def _curve(own: Mapping[str, Any]) -> Curve:
    rows = []
    for point in own["curve"]:
        measures = (point[key] for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"))
        cells = (plain(point["epoch"]), *(number(value, 4) for value in measures), seconds(point["seconds"]))
        rows.append((point["epoch"] == own["kept"], cells))
    return Curve(str(own["name"]), tuple(rows))


def _classes(choices: Sequence[Mapping[str, Any]]) -> list[ClassRow]:
    """Recall class by class, the class with the widest differences first."""
    if any(not own["per_class"] for own in choices):
        return []
    rows = []
    for place, first in enumerate(choices[0]["per_class"]):
        of_each = [own["per_class"][place] for own in choices]
        recalls = [row["recall"] for row in of_each if is_number(row["recall"])]
        cells = tuple(
            (
                number(r["recall"]),
                interval(r["recall_interval"], 2),
                figures.range_bar(r["recall"], r["recall_interval"]),
            )
            for r in of_each
        )
        spread = max(recalls) - min(recalls) if recalls else -1.0
        rows.append((spread, ClassRow(str(first["class"]), count(first["support"]), cells)))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def _conditions(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    n = conditions["n"]
    return [
        *((f"{key} images", count(n[key])) for key in ("train", "val", "test") if is_number(n.get(key))),
        *([("set aside", count(n["set_aside"]))] if is_number(n.get("set_aside")) else []),
        ("seed", plain(conditions["seed"])),
        ("digest of the split", plain(conditions["split"])),
    ]
