"""Everything that was found wrong with the data, as one value, as plain JSON, and as a list of suspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from headway.data.dataset import SUBSETS, TEST, TRAIN, VAL, Contents, Dataset, Split
from headway.quality.oddities import Oddity
from headway.quality.outliers import Outliers
from headway.quality.shortcuts import Shortcut, Shortcuts

if TYPE_CHECKING:
    from headway.quality.labels import LabelErrors

Group = tuple[int, ...]
MOST = 1000  # entries of one list; beside it stands how many there are


class Duplicates(Protocol):
    """Groups of samples that show the same picture, as quality.duplicates finds them.

    exact  the same pixels;  near  the same picture in several forms, None = nobody looked
    """

    @property
    def exact(self) -> tuple[Group, ...]: ...
    @property
    def near(self) -> tuple[Group, ...] | None: ...
    def to_json(self, dataset: Dataset, split: Split | None) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Findings:
    """What was looked for and found; None = not looked for.

    looked      whether pictures were looked at for borders and near-constant ones
    imbalance   as quality.oddities.imbalance
    left        what was not looked for, a sentence each
    """

    duplicates: Duplicates | None = None
    labels: LabelErrors | None = None
    outliers: Outliers | None = None
    shortcuts: Shortcuts | None = None
    oddities: tuple[Oddity, ...] = ()
    imbalance: Mapping[str, Any] | None = None
    looked: bool = False
    left: tuple[str, ...] = field(default=())

    def to_json(self, dataset: Dataset, split: Split | None) -> dict[str, Any]:
        """As keys of audit.json."""
        return {
            **({} if self.duplicates is None else self.duplicates.to_json(dataset, split)),
            "labels": None if self.labels is None else _labels(self.labels, dataset, split),
            "outliers": None if self.outliers is None else _outliers(self.outliers, dataset, split),
            "shortcuts": None if self.shortcuts is None else _shortcuts(self.shortcuts, dataset),
            "oddities": {
                "found": len(self.oddities),
                "kinds": dict(Counter(oddity.kind for oddity in self.oddities)),
                "pictures": self.looked,
                "items": [
                    {**_sample(oddity.index, dataset, split), "kind": oddity.kind, "text": oddity.text}
                    for oddity in self.oddities[:MOST]
                ],
            },
            "imbalance": None if self.imbalance is None else dict(self.imbalance),
            "left": list(self.left),
        }


def suspects(findings: Findings, contents: Contents, split: Split | None) -> dict[int, str]:
    """Sample → why it is left out of a clean list, the first reason that holds.

    Damaged; the same picture under two labels (all of it: nobody knows which is right); a copy in training of an image
    that validates or tests; likely label errors; outliers; nearly one colour. Odd sizes and uneven classes: no fault.
    """
    found: dict[int, str] = {int(index): "damaged" for index in np.flatnonzero(~contents.accepted)}
    for group in split.conflicts if split is not None else ():
        for index in group:
            found.setdefault(index, "same image, two labels")
    copies = findings.duplicates
    straddling = split.straddling if split is not None else ()
    for group in (*straddling, *(copies.exact if copies else ()), *((copies.near if copies else None) or ())):
        for index in leaked(group, split):
            found.setdefault(index, "leak")
    for index in findings.labels.indices[: findings.labels.likely].tolist() if findings.labels is not None else ():
        found.setdefault(index, "label")
    for index in findings.outliers.indices.tolist() if findings.outliers is not None else ():
        found.setdefault(index, "outlier")
    for oddity in findings.oddities:
        if oddity.kind == "flat":
            found.setdefault(oddity.index, "nearly one colour")
    return found


def leaked(group: Group, split: Split | None) -> list[int]:
    """Of samples that show the same, those to leave out: all that are nearer to training than the furthest one."""
    if split is None:
        return []
    order = {TRAIN: 0, VAL: 1, TEST: 2}
    places = [order.get(int(split.subsets[index]), -1) for index in group]
    return [index for index, place in zip(group, places, strict=True) if 0 <= place < max(places)]


def _sample(index: int, dataset: Dataset, split: Split | None) -> dict[str, Any]:
    label = int(dataset.labels[index])
    subset = int(split.subsets[index]) if split is not None else -1
    return {
        "name": dataset.names[index],
        "label": dataset.classes[label] if label >= 0 else None,
        "subset": SUBSETS[subset] if subset >= 0 else None,
    }


def _labels(found: LabelErrors, dataset: Dataset, split: Split | None) -> dict[str, Any]:
    rows = range(min(MOST, len(found.indices)))
    return {
        "judged": found.judged,
        "found": found.likely,
        "in_doubt": len(found.indices),
        "expected": None if found.expected is None else round(found.expected, 6),
        "expected_interval": None if found.interval is None else [round(end, 6) for end in found.interval],
        "left_out": list(found.left_out),
        "items": [
            {
                **_sample(int(found.indices[row]), dataset, split),
                "suggested": dataset.classes[found.suggested[row]],
                "probability_wrong": round(float(found.doubt[row]), 6),
            }
            for row in rows
        ],
    }


def _outliers(found: Outliers, dataset: Dataset, split: Split | None) -> dict[str, Any]:
    return {
        "judged": found.judged,
        "found": len(found.indices),
        "items": [
            {**_sample(int(index), dataset, split), "times": round(float(times), 3)}
            for index, times in zip(found.indices[:MOST], found.times[:MOST], strict=True)
        ],
    }


def _shortcuts(found: Shortcuts, dataset: Dataset) -> dict[str, Any]:
    return {
        "images": found.images,
        "cues": list(found.cues),
        "questions": found.questions,
        "found": [
            {
                "cue": one.cue,
                "class": dataset.classes[one.label],
                "value": one.value,
                "share": round(one.share, 4),
                "share_of_others": round(one.others, 4),
                "gap": round(one.gap, 4),
                "p_value": one.p_value,
                "sentence": told_shortcut(one, dataset.classes[one.label]),
            }
            for one in found.found[:MOST]
        ],
    }


def told_shortcut(one: Shortcut, label: str) -> str:
    """A shortcut in one sentence, naming class and cue."""
    return (
        f"{one.cue} alone recognises {100 * one.share:.0f} % of {label} ({one.value}) and takes "
        f"{100 * one.others:.0f} % of the others for it; a network may learn that instead of the picture"
    )


def told_few(counts: Mapping[str, int], fewest: int) -> str:
    """Which classes were too small for their labels to be judged, in one sentence."""
    first = ", ".join(f"{name} {n}" for name, n in list(counts.items())[:3])
    more = ", ..." if len(counts) > 3 else ""
    return f"labels of classes with fewer than {fewest} images were not judged: {first}{more}"
