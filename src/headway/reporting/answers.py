"""The first half of the report: how good, where it fails, can its confidence be trusted.

Each function turns parts of the run's files into a frozen view that a template prints. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting import figures
from headway.reporting.confusion import Confusion, confusion
from headway.reporting.learning import is_network
from headway.reporting.records import Run
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, count, data_address, day, interval, is_number, number, seconds

MOST_MISTAKES = 24
MOST_SURE = 12


@dataclass(frozen=True)
class Fact:
    """One cell of the strip: what, how much, under which conditions."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """Section 1 and 2. `subset` is the words for what was measured on, empty where nothing was."""

    title: str
    day: str
    subset: str
    lead: str
    accuracy: str
    interval: str
    figure: Safe | None
    caption: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Mistake:
    """One wrong answer; `picture` is a data: address or None."""

    name: str
    label: str
    predicted: str
    probability: str
    probability_of_label: str
    picture: str | None


@dataclass(frozen=True)
class ClassRow:
    """One row of the per-class table: cells as (text, value to sort by, extra text)."""

    index: int
    name: str
    recall: tuple[str, str, str]
    bar: Safe
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Failures:
    """Section 4. `surest`: of the mistakes that are not among the worst, those that the model was surest of."""

    sentence: str
    mistakes: tuple[Mistake, ...]
    surest: tuple[Mistake, ...]
    confusion: Confusion | None
    rows: tuple[ClassRow, ...]
    averages: tuple[tuple[str, str, str, str, str], ...]
    note: str


@dataclass(frozen=True)
class Confidence:
    """Section 5."""

    sentence: str
    verdict: str
    table: tuple[tuple[str, str, str, str], ...]
    figure: Safe | None
    n: str


def measured(run: Run) -> tuple[str, Mapping[str, Any]]:
    """The subset that the report speaks about, "test" where there is one, with its numbers; ("", {}) where none."""
    subsets = run.evaluation.get("subsets") or {}
    for name in ("test", "val"):
        if subsets.get(name):
            return name, subsets[name]
    return "", {}


def headline(run: Run) -> Headline:
    """What the run is worth, in one sentence and one line of facts."""
    evaluation = run.evaluation
    name, e = measured(run)
    words = {"test": "test", "val": "validation"}.get(name, "")
    guess = e.get("constant_guess") or {}
    accuracy: Any = e.get("accuracy")
    bounds = e.get("interval")
    return Headline(
        title=str(evaluation.get("title") or run.folder.name),
        day=day(evaluation.get("created") or ""),
        subset=words,
        lead=f"Right on {count(e['correct'])} of {count(e['n'])} {words} images:" if e else "Nothing was measured",
        accuracy=number(accuracy) if e else "",
        interval=interval(bounds),
        figure=figures.interval_line(accuracy, bounds, guess.get("accuracy")) if is_number(accuracy) and e else None,
        caption=_headline_caption(name, e, evaluation.get("test_openings")) + _repeated(evaluation.get("repeats")),
        facts=tuple(_facts(run, e)),
    )


def _headline_caption(name: str, e: Mapping[str, Any], openings: object) -> str:
    if not name:
        return "The data left no labelled image to measure on."
    words = f"Accuracy on {count(e.get('n'))} images, with its 95 % interval."
    if name == "val":
        return f"{words} There is no test set: these images also chose the model, so the number flatters."
    if isinstance(openings, int) and openings > 1:
        return f"{words} The test set was opened {openings} times: each choice made after a look flatters the number."
    return f"{words} The test images were looked at once, after every choice was made."


def _repeated(repeats: Mapping[str, Any] | None) -> str:
    """What other splits of the same few images gave; "" where none were tried."""
    sentence = str((repeats or {}).get("sentence") or "")
    return f" {sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _road(run: Run) -> Fact:
    """Which road was taken; of a network that was trained, how long."""
    result, selection = run.evaluation.get("result") or {}, run.evaluation.get("selection") or {}
    names = {"finetune": "fine-tuned", "scratch": "from scratch"}
    strategy = str(result.get("strategy") or NOTHING)
    note = f"{selection.get('head')} head, taps {selection.get('taps')}" if selection else ""
    training = result.get("training") or {}
    if is_network(run) and training:
        note = f"{count(training.get('epochs'))} epochs, epoch {count(training.get('kept'))} kept"
    return Fact("road", names.get(strategy, strategy), note)


def _facts(run: Run, e: Mapping[str, Any]) -> list[Fact]:
    evaluation = run.evaluation
    result, model = evaluation.get("result") or {}, evaluation.get("model") or {}
    n, spent = result.get("n") or {}, result.get("seconds") or {}
    subsets = [f"{count(n[key])} {key}" for key in ("train", "val", "test") if is_number(n.get(key))]
    guess = e.get("constant_guess") or {}
    origin = "random" if model.get("weights_origin") == "none" else model.get("weights_origin")
    weights = f"{origin} weights, {model.get('input')} px" if model else ""
    part, phase = ("training", "train") if is_network(run) else ("features", "features")
    always = f"always “{guess['class']}”" if guess else ""
    facts = [
        Fact("images", count(sum(n.get(key) or 0 for key in ("train", "val", "test"))), " · ".join(subsets)),
        Fact("classes", count(len(evaluation.get("classes") or ()))),
        Fact("backbone", str(model.get("backbone") or result.get("backbone") or NOTHING), weights),
        _road(run),
        Fact("time", seconds(spent.get("total")), f"of which {part} {seconds(spent.get(phase))}"),
        *_machine(run),
    ]
    if e:
        facts += [
            Fact("guessing", number(guess.get("accuracy")), always),
            *(_over_classes(e, name, key) for name, key in _OVER_CLASSES),
        ]
    if is_number(e.get("top5")):
        facts.append(Fact("right among first five", number(e["top5"]), f"n={count(e.get('n'))}"))
    return facts


def _machine(run: Run) -> list[Fact]:
    """What the time was measured on; nothing of a run that does not tell."""
    found = run.resolved.get("machine") or {}
    if not isinstance(found, Mapping) or not is_number(found.get("cores")):
        return []
    memory = f"{found['memory_gb']:.0f} GB of memory" if is_number(found.get("memory_gb")) else ""
    cores = "1 core" if found["cores"] == 1 else f"{count(found['cores'])} cores"
    return [Fact("machine", cores, ", ".join(part for part in (str(found.get("processor") or ""), memory) if part))]


_OVER_CLASSES = (("balanced accuracy", "balanced_accuracy"), ("macro-F1", "macro_f1"))


def _over_classes(e: Mapping[str, Any], name: str, key: str) -> Fact:
    """A mean over classes, with its interval where there is an honest one."""
    return Fact(name, number(e.get(key)), interval(e.get(f"{key}_interval")) or f"n={count(e.get('n'))}, no interval")


def failures(run: Run) -> Failures:
    """The worst mistakes, who is taken for whom, and each class by itself."""
    _, e = measured(run)
    classes = [str(name) for name in run.evaluation.get("classes") or ()]
    mistakes = tuple(
        _mistake(found, run.thumbnails) for found in (run.evaluation.get("mistakes") or ())[:MOST_MISTAKES]
    )
    surest = tuple(_mistake(found, run.thumbnails) for found in (run.evaluation.get("surest") or ())[:MOST_SURE])
    wrong = e.get("n", 0) - e.get("correct", 0)
    return Failures(
        sentence=_wrong_sentence(wrong, e.get("n", 0), len(mistakes)),
        mistakes=mistakes,
        surest=surest,
        confusion=confusion(run, e.get("confusion") or []),
        rows=_class_rows(e.get("per_class") or (), classes),
        averages=tuple(_averages(e.get("averages") or {})),
        note=f"{e['macro_note']} Look at the interval of each class." if e.get("macro_note") else "",
    )


def _wrong_sentence(wrong: int, n: int, listed_here: int) -> str:
    if not n:
        return "Nothing was measured, so no mistake is known."
    if not wrong:
        return f"Not one of the {count(n)} images was answered wrongly. The interval above says how far to trust that."
    words = f"{count(wrong)} of {count(n)} images {'was' if wrong == 1 else 'were'} answered wrongly."
    if listed_here and listed_here < wrong:
        return f"{words} Here are the {listed_here} worst."
    if wrong == 1:
        return words
    return f"{words} Here they are, the worst first." if listed_here else words


def _mistake(found: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Mistake:
    return Mistake(
        name=str(found.get("name")),
        label=str(found.get("label")),
        predicted=str(found.get("predicted")),
        probability=number(found.get("probability"), 2),
        probability_of_label=number(found.get("probability_of_label"), 2),
        picture=data_address(thumbnails.get(str(found.get("name")))),
    )


def _class_rows(per_class: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> tuple[ClassRow, ...]:
    """Worst recall first: the order that is of use without a click."""
    place = {name: index for index, name in enumerate(classes)}
    order = sorted(per_class, key=lambda row: (row["recall"] if row.get("support") else 2.0, -row.get("support", 0)))
    rows = []
    for row in order:
        known = bool(row.get("support")) and is_number(row.get("recall"))
        recall = row["recall"] if known else None
        bounds = row.get("recall_interval") if known else None
        others = (
            (number(row.get("precision")), _sortable(row.get("precision"))),
            (number(row.get("f1")), _sortable(row.get("f1"))),
            (count(row.get("support")), _sortable(row.get("support"))),
            (count(row.get("predicted")), _sortable(row.get("predicted"))),
        )
        name = str(row.get("class"))
        cell = (number(recall), _sortable(recall), interval(bounds, 2))
        rows.append(ClassRow(place.get(name, len(place)), name, cell, figures.range_bar(recall, bounds), others))
    return tuple(rows)


def _sortable(value: object) -> str:
    return repr(value) if is_number(value) else ""


def _averages(averages: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            f"{name} average",
            number(a.get("recall")),
            number(a.get("precision")),
            number(a.get("f1")),
            count(a.get("support")),
        )
        for name, a in averages.items()
        if a
    ]


def confidence(run: Run) -> Confidence | None:
    """Whether 0.9 means nine in ten; None where calibration was not measured."""
    _, e = measured(run)
    c = e.get("calibration")
    if not c:
        return None
    before, after, floor = c.get("before") or {}, c.get("after") or {}, c.get("ece_floor")
    names = (("nll", "log-loss (NLL)", ""), ("brier", "Brier score", ""))
    table = [(words, number(before.get(key)), number(after.get(key)), note) for key, words, note in names]
    noise = f"noise floor {number(floor)}" if is_number(floor) else ""
    table.append(("calibration error (ECE)", number(before.get("ece")), number(after.get("ece")), noise))
    bins = c.get("bins") or []
    return Confidence(
        sentence=_temperature_sentence(
            c.get("temperature"), held=bool((run.evaluation.get("selection") or {}).get("folds"))
        ),
        verdict=_verdict(after.get("ece"), floor, e.get("n")),
        table=tuple(table),
        figure=figures.reliability(bins, e.get("n") or 1) if bins else None,
        n=count(e.get("n")),
    )


def _temperature_sentence(temperature: object, *, held: bool) -> str:
    if not isinstance(temperature, int | float) or not is_number(temperature):
        return "No temperature was fitted: the confidence is as the head gave it."
    kind = (
        "too sure of itself"
        if temperature > 1.02
        else "too shy"
        if temperature < 0.98
        else "about as sure as it should be"
    )
    words = f"Before calibration the head was {kind}: its logits are divided by a temperature of {temperature:.2f}"
    beside = " and training images held out in turn" if held else ""
    return f"{words}, fitted on the validation images{beside}."


def _verdict(ece: object, floor: object, n: object) -> str:
    if not isinstance(ece, int | float) or not isinstance(floor, int | float):
        return ""
    start = "A perfectly calibrated model would show a calibration error of about"
    start = f"{start} {floor:.3f} on {count(n)} images by chance"
    if ece <= floor:
        return f"{start}; this one shows {ece:.3f}, so no fault can be seen at this size."
    return f"{start}; this one shows {ece:.3f}, {ece / floor:.1f} times that." if floor > 0 else f"{start}."
