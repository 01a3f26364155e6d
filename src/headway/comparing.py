"""Several finished runs on the same images, side by side: comparison.json, its report, and the lines that tell it."""

from __future__ import annotations

import csv
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data.wording import listed, shown
from headway.errors import HeadwayError
from headway.evaluation.bootstrap import judge_pairs
from headway.reporting.records import Run, chosen_setting, kept_epochs, read_run
from headway.reporting.text import count, interval, number, seconds
from headway.reporting.verdict import judge_choices, told_conditions

SCHEMA = 1
MOST_CLASSES = 20  # classes that are compared one by one
_SUBSETS = ("train", "val", "test")

Answers = Mapping[str, tuple[str, str]]  # name of a test image → label, answer


def write_comparison(folder: Path, runs: Mapping[str, Path]) -> dict[str, Any]:
    """Write comparison.json and report.html to `folder`, each whole or not at all; returns what is in the first.

    runs  name of a choice → its finished run folder, in the order in which they are shown. Raises as `contrast`.
    """
    from headway.reporting.page import write_comparison_report

    comparison = contrast(runs)
    for choice in comparison["choices"]:
        page = Path(choice["run"]) / "report.html"
        choice["report"] = Path(os.path.relpath(page, folder)).as_posix() if page.is_file() else None
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "comparison.json", comparison)
    write_comparison_report(folder)
    return comparison


def contrast(runs: Mapping[str, Path]) -> dict[str, Any]:
    """What comparison.json holds, from the files of finished runs on the same data.

    Raises Refused where a folder holds no finished run, HeadwayError where a file is damaged, where there are fewer
    than two runs, or where they were not tested on the same images under the same labels.
    """
    if len(runs) < 2:
        raise HeadwayError(f"a comparison needs two runs or more, not {len(runs)}.")
    read = {name: read_run(Path(path)) for name, path in runs.items()}
    answers = {name: test_answers(run) for name, run in read.items()}
    images = _same_images(answers)
    right = {name: np.array([own[i][0] == own[i][1] for i in images]) for name, own in answers.items()}
    first = next(iter(read.values()))
    seed, groups = chosen_setting(first, "seed") or 0, _groups(first, images)
    pairs = [pair.to_json() for pair in judge_pairs(right, seed=seed, groups=groups)]
    choices = _with_the_pass_shared([_choice(name, run, right[name]) for name, run in read.items()])
    result = first.evaluation.get("result") or {}
    return {
        "schema": SCHEMA,
        "title": first.evaluation.get("title") or first.folder.name,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "conditions": {
            "n": result.get("n") or {},
            "classes": len(first.evaluation.get("classes") or ()),
            "test_images": len(images),
            "test_groups": None if groups is None else len(np.unique(groups[groups >= 0])) + int((groups < 0).sum()),
            "seed": seed,
            "split": split_digest(first.folder),
            "machine": first.resolved.get("machine") or {},
            "versions": first.resolved.get("versions") or {},
        },
        "choices": choices,
        "pairs": pairs,
        "verdict": judge_choices(choices, pairs),
        "notes": [*told_conditions(choices), *_differing(read)],
    }


def told_comparison(comparison: Mapping[str, Any]) -> str:
    """The comparison for a terminal: a table, the verdict, each pair, and what else should be known. Plain text."""
    head = ("", "strategy", "parameters", "trained", "time", *_SUBSETS, "95 %")
    rows = [head, *(_told_choice(choice) for choice in comparison["choices"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(*parts, strict=True))
        for parts in ((row, widths, (True, True, *[False] * 6, True)) for row in rows)
    ]
    paragraphs = [
        "\n".join(line.rstrip() for line in table),
        "\n".join(comparison["verdict"]["sentences"]),
        "\n".join(pair["sentence"] for pair in comparison["pairs"]),
        "\n".join(f"note: {note}" for note in comparison["notes"]),
    ]
    return "\n\n".join(shown_lines(paragraph) for paragraph in paragraphs if paragraph)


def shown_lines(text: str) -> str:
    """`text` fit for a terminal, its line ends kept."""
    return "\n".join(shown(line) for line in text.split("\n"))


def _told_choice(choice: Mapping[str, Any]) -> tuple[str, ...]:
    scores = [number((choice[subset] or {}).get("accuracy")) for subset in _SUBSETS]
    return (
        shown(choice["name"]),
        choice["strategy"],
        count(choice["parameters"]),
        count(choice["trainable"]),
        seconds(choice["seconds"]["total"]),
        *scores,
        interval(choice["test"]["interval"]),
    )


def test_answers(run: Run) -> Answers:
    """Label and answer of every test image. Raises HeadwayError where predictions.csv is damaged or has none."""
    path = run.folder / "predictions.csv"
    try:
        rows = [row for row in files.read_csv(path) if row["subset"] == "test"]
        found = {row["name"]: (row["label"], row["predicted"]) for row in rows}
    except (OSError, KeyError, csv.Error) as error:
        raise HeadwayError(f"{path} is missing or damaged. Make it again: headway fit") from error
    if not found:
        raise HeadwayError(f"{run.folder} has no test images, so it cannot be compared. Give some: headway fit --test")
    return found


def _same_images(answers: Mapping[str, Answers]) -> list[str]:
    """The names of the test images, sorted. Raises HeadwayError where they, or their labels, are not the same."""
    (first, own), *others = answers.items()
    for name, other in others:
        odd = sorted(own.keys() ^ other.keys())
        start = f"{shown(first)} and {shown(name)} cannot be compared: "
        again = "Compare runs on the same data with the same split: headway fit --split RUN"
        if odd:
            raise HeadwayError(f"{start}{len(odd):,} test images belong to one of them alone ({listed(odd)}). {again}")
        torn = [image for image in own if own[image][0] != other[image][0]]
        if torn:
            raise HeadwayError(f"{start}{len(torn):,} test images have other labels ({listed(sorted(torn))}). {again}")
    return sorted(own)


def _groups(run: Run, images: Sequence[str]) -> NDArray[np.int64] | None:
    """(N,) the group of each test image as split.csv has it, -1 = alone; None where no two belong together."""
    path = run.folder / "split.csv"
    if not path.is_file():
        return None
    try:
        of = {row["name"]: int(row["group"]) for row in files.read_csv(path) if row.get("group")}
    except (ValueError, KeyError, csv.Error) as error:
        raise HeadwayError(f"{path} is damaged: {error}. Make it again: headway fit") from error
    return groups_among(of, images)


def groups_among(of: Mapping[str, int], images: Sequence[str]) -> NDArray[np.int64] | None:
    """(N,) the group of each image, -1 = alone; None where no two belong together. of: name → number of its group."""
    groups = np.array([of.get(image, -1) for image in images], np.int64)
    named = groups[groups >= 0]
    return groups if len(np.unique(named)) < len(named) else None


def split_digest(folder: Path) -> str | None:
    """sha256 over the digests of the images and their use: equal for equal splits, whatever the names."""
    path = folder / "split.csv"
    if not path.is_file():
        return None
    return files.digest_json(sorted([row.get("digest", ""), row.get("subset", "")] for row in files.read_csv(path)))


def _choice(name: str, run: Run, right: NDArray[np.bool_]) -> dict[str, Any]:
    evaluation, result = run.evaluation, run.evaluation.get("result") or {}
    training, subsets = result.get("training") or {}, evaluation.get("subsets") or {}
    model, features = evaluation.get("model") or {}, result.get("features") or {}
    epochs, spent = kept_epochs(run), result.get("seconds") or {}
    scores = {subset: _score(subsets.get(subset)) for subset in _SUBSETS}
    if scores["test"] is None or round(scores["test"]["accuracy"] * len(right)) != int(right.sum()):
        raise HeadwayError(
            f"{run.folder}: evaluation.json and predictions.csv do not belong together. Make them again: headway fit"
        )
    strategy = str(result.get("strategy") or "probe")
    return {
        "name": name,
        "strategy": strategy,
        "backbone": result.get("backbone") or model.get("backbone"),
        "run": str(run.folder),
        "bundle": str(run.folder / "bundle"),
        "parameters": result.get("parameters") or model.get("parameters"),
        "trainable": result.get("trainable") or model.get("trainable"),
        "seconds": seconds_spent(spent, training),
        "pass": _pass(run, strategy, features),
        "begins_with_probe": strategy == "finetune" and chosen_setting(run, "head_init") != "random",
        **scores,
        "epochs": training.get("epochs") or (int(max(step.step or 0 for step in epochs)) if epochs else None),
        "kept": next((int(step.step or 0) for step in epochs if step.best), None),
        "stopped": training.get("stopped"),
        "why": training.get("why") or (evaluation.get("selection") or {}).get("why"),
        "curve": [
            {
                "epoch": step.step,
                **{key: getattr(step, key) for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")},
                "seconds": step.seconds,
            }
            for step in epochs
        ],
        "flat": None if epochs else flat_line(evaluation),
        "per_class": _per_class(subsets["test"]),
    }


def _score(judged: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not judged:
        return None
    kept = {key: judged.get(key) for key in ("accuracy", "interval", "n")}
    return {**kept, "loss": judged.get("log_loss")}


def seconds_spent(spent: Mapping[str, float], training: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of a run. Its phases are added up: several runs of one process have its start in common.

    training  the whole phase, a probe that it begins with included; of a run that was gone on with, all of its starts
    ready     pass and training: what there is to spend until there is a classifier
    resumed   whether the other seconds are those of the last start alone
    """
    phases = {name: float(value) for name, value in spent.items() if name != "total"}
    last, looped = phases.get("train", 0.0), float(training.get("seconds") or 0.0)
    trained = max(last, looped)
    return {
        "total": round(sum(phases.values()) - last + trained, 3),
        "pass": phases.get("features", 0.0),
        "training": trained,
        "loop": looped or None,
        "ready": round(phases.get("features", 0.0) + trained, 3),
        "resumed": looped > last,
        "phases": phases,
    }


def _pass(run: Run, strategy: str, features: Mapping[str, Any]) -> dict[str, Any]:
    """What the run did of the pass through the pretrained network, and what it found done.

    network        what was looked through, and the side of its input
    saved_seconds  what computing the others would have taken, at the speed measured on this machine; None = unknown
    """
    if strategy == "scratch" or (strategy == "finetune" and chosen_setting(run, "head_init") == "random"):
        return {"needed": False, "network": None, "computed": 0, "reused": 0, "saved_seconds": None}
    saved, model = run.evaluation.get("saved") or {}, run.evaluation.get("model") or {}
    return {
        "needed": True,
        "network": [model.get("backbone"), model.get("input")],
        "computed": features.get("computed") or 0,
        "reused": features.get("reused") or 0,
        "saved_seconds": saved.get("seconds"),
    }


def _with_the_pass_shared(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who found the pass done saved what it cost another choice here: measured, the network made ready included."""
    for own in choices:
        paid = [
            other["seconds"]["pass"]
            for other in choices
            if other["pass"]["needed"]
            and not other["pass"]["reused"]
            and other["pass"]["network"] == own["pass"]["network"]
        ]
        if own["pass"]["reused"] and paid:
            own["pass"]["saved_seconds"] = round(max(0.0, max(paid) - own["seconds"]["pass"]), 3)
    return choices


def flat_line(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Validation of a head that was solved, not trained by epochs: what its horizontal lines show."""
    candidates = (evaluation.get("selection") or {}).get("candidates") or ()
    chosen: Mapping[str, Any] = next((c for c in candidates if c.get("chosen")), {})
    val = (evaluation.get("subsets") or {}).get("val") or {}
    loss, accuracy = chosen.get("val_log_loss"), chosen.get("val_accuracy")
    return {
        "val_loss": val.get("log_loss") if loss is None else loss,
        "val_accuracy": val.get("accuracy") if accuracy is None else accuracy,
    }


def _per_class(test: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    rows = test.get("per_class") or ()
    if not 0 < len(rows) <= MOST_CLASSES:
        return None
    return [{key: row.get(key) for key in ("class", "support", "recall", "recall_interval")} for row in rows]


def _differing(runs: Mapping[str, Run]) -> list[str]:
    """Conditions under which the runs differ though they should not."""
    facts = {
        "seed": [chosen_setting(run, "seed") for run in runs.values()],
        "split": [split_digest(run.folder) for run in runs.values()],
        "machine": [run.resolved.get("machine") for run in runs.values()],
        "versions": [run.resolved.get("versions") for run in runs.values()],
    }
    words = {
        "seed": "The runs have different seeds",
        "split": "The runs were trained and tuned on different images, though they were tested on the same",
        "machine": "The runs come from different machines, so their seconds cannot be compared",
        "versions": "The runs were made with different versions of the software",
    }
    return [f"{words[name]}." for name, values in facts.items() if any(value != values[0] for value in values)]
