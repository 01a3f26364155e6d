"""What training and validation images say about a data set before more is spent on it. No test image is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.advice.learning_curve import Curve, Part, carry_on
from headway.advice.subsets import nested_order, plan_levels, solve_levels
from headway.advice.transferability import RULES, count_of_neighbours, log_me, nearest_labels
from headway.evaluation.intervals import wilson
from headway.evaluation.metrics import score
from headway.features.derived import place_of
from headway.training.probe import Probe, ProbeData

_MOST_KNOWN = 10_000  # training images among which neighbours are looked for
_MOST_ASKED = 5_000  # validation images that are asked about
_MOST_COMPARED = 2_000  # of these, evenly, whose neighbours are looked for: their share to within 2.2 points
_MOST_MEASURED = 1_000  # images of LogME, whose cost is their cube


@dataclass(frozen=True)
class Share:
    """`right` of `n` validation images."""

    right: int
    n: int

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson, 95 %."""
        return wilson(self.accuracy, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.accuracy:.3f} [{low:.3f}, {high:.3f}]"

    def to_json(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "interval": list(self.interval), "n": self.n}


@dataclass(frozen=True)
class Evidence:
    """What advice rests on; all of it from training and validation images.

    per_class    training images of the class with the fewest, and of the one in the middle
    probe        the head on frozen features;  neighbours  the k nearest training images, in the features of the last
                 layer;  guess  the commonest class of the training images, whatever the image
    known        training images among which neighbours were looked for
    log_me       of the last layer's features of `measured` training images
    taps         the tap set that the head took, "last" or "all"
    earlier      the paired test of all taps against the last one (`PairedTest.to_json`); None = not compared
    curve        None where there are too few images, or the head is not linear;  no_curve  why, else ""
    """

    n_train: int
    n_classes: int
    per_class: tuple[int, int]
    probe: Share
    neighbours: Share
    guess: Share
    known: int
    log_me: float
    measured: int
    taps: str
    earlier: Mapping[str, Any] | None
    curve: Curve | None
    no_curve: str = ""

    @property
    def errors(self) -> int:
        """Validation images that the probe gets wrong: what there is to win."""
        return self.probe.n - self.probe.right

    @property
    def share_removed(self) -> float | None:
        """Which part of the probe's errors twice the images would remove; None where no curve or no error tells."""
        if self.curve is None or not self.errors:
            return None
        return self.curve.gain / (1 - self.probe.accuracy)

    def curve_sentence(self) -> str:
        """twice the images would bring about +1.2 points [0.4, 2.0] (...); or why nothing can be said of that."""
        if self.curve is None:
            return self.no_curve
        (low, high), parts = self.curve.interval, self.curve.parts
        gain = f"{100 * self.curve.gain:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
        seen = ", ".join(f"{part.accuracy:.3f} from {part.n:,}" for part in parts[-2:])
        left = f"; {self.curve.left_out}" if self.curve.left_out else ""
        return f"twice the images would bring about {gain} to this head (validation accuracy {seen} images{left})"

    def to_json(self) -> dict[str, Any]:
        """As it stands in `evaluation.json`."""
        fewest, middle = self.per_class
        return {
            "train": {
                "n": self.n_train,
                "classes": self.n_classes,
                "fewest": fewest,
                "middle": middle,
            },
            "probe": self.probe.to_json(),
            "neighbours": {**self.neighbours.to_json(), "among": self.known},
            "constant_guess": self.guess.to_json(),
            "log_me": {"value": self.log_me, "n": self.measured, "taps": "last"},
            "taps": {"taken": self.taps, "paired": None if self.earlier is None else dict(self.earlier)},
            "curve": None if self.curve is None else self.curve.to_json(),
            "no_curve": self.no_curve,
        }


@dataclass(frozen=True)
class _Looked:
    """Rows read once: training images in nested order (n, D) and some validation images (M, D)."""

    rows: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    val: NDArray[np.float32]
    val_labels: NDArray[np.integer[Any]]
    last: slice


def gather_evidence(
    data: ProbeData, found: Probe, *, seed: int, weighted: bool = False, no_curve: str = "", cache: Path | None = None
) -> Evidence:
    """Look at cached features of training and validation images once more, for seconds at most (`subsets.WORK`).

    found     the head that was trained on them
    weighted  whether it was trained as if all classes had the same number of images
    no_curve  why no learning curve is to be drawn, or ""
    cache     where what does not depend on the head is kept

    Same data, same seed: same evidence, however fast the machine.
    """
    rng = np.random.default_rng([seed, 4])
    y, val_y = data.labels[data.train], data.labels[data.val]
    order, asked = nested_order(y, rng), _some(rng, len(data.val), _MOST_ASKED)
    names = found.head.taps
    dims = dict(data.taps)
    dim = sum(dims[name] for name in names)
    no_curve = no_curve or ("" if found.head.spec == "linear" else "a learning curve is drawn of linear heads only")
    levels, dear = ((), ()) if no_curve else plan_levels(len(y), data.n_classes, dim)
    needed = max([level.n * level.draws for level in levels], default=0)
    n = min(len(y), max(needed, _MOST_KNOWN))
    looked = _look(data, names, order[:n], asked)
    wrong = found.val_logits[asked].argmax(axis=1) != val_y[asked]
    parts: tuple[Part, ...] = ()
    if levels:
        full = Part(len(y), wrong[None], float(score(found.val_logits[asked], val_y[asked]).loss.mean()))
        sides, l2 = (looked.val, looked.val_labels), found.chosen["l2"]
        solved = solve_levels(
            looked.rows, looked.labels, sides, levels, l2, n_classes=data.n_classes, weighted=weighted
        )
        parts = (*solved, full)
    curve = carry_on(parts, seed=seed, left_out=_told_left_out(dear, len(y))) if len(parts) > 2 else None
    known, measured = min(n, _MOST_KNOWN), min(n, _MOST_MEASURED)
    last = looked.rows[:, looked.last]
    compared = np.linspace(0, len(asked) - 1, min(len(asked), _MOST_COMPARED)).astype(
        np.intp
    )  # evenly: by order, by class
    guesses, value = _untrained(
        (last[:known], looked.labels[:known]),
        looked.val[compared, looked.last],
        (last[:measured], looked.labels[:measured]),
        cache,
    )
    counts = np.bincount(y, minlength=data.n_classes)
    return Evidence(
        n_train=len(y),
        n_classes=data.n_classes,
        per_class=(int(counts.min()), int(np.median(counts))),
        probe=Share(int((found.val_logits.argmax(axis=1) == val_y).sum()), len(val_y)),
        neighbours=Share(int((guesses == looked.val_labels[compared]).sum()), len(compared)),
        guess=Share(int((val_y == counts.argmax()).sum()), len(val_y)),
        known=known,
        log_me=value,
        measured=measured,
        taps=str(found.chosen["taps"]),
        earlier=found.chosen.get("paired"),
        curve=curve,
        no_curve="" if curve else no_curve or _why_no_curve(dear),
    )


def _untrained(
    known: tuple[NDArray[np.float32], NDArray[np.integer[Any]]],
    asked: NDArray[np.float32],
    measured: tuple[NDArray[np.float32], NDArray[np.integer[Any]]],
    cache: Path | None,
) -> tuple[NDArray[np.int64], float]:
    """Labels that the neighbours among `known` (features, labels) give `asked`, and LogME of `measured`."""
    place = None if cache is None else place_of(cache, "evidence", RULES, *known, asked, *measured)
    found = None if place is None else place.read()
    if found is None:
        guesses = nearest_labels(*known, asked, count_of_neighbours(known[1]))
        found = {"guesses": guesses, "log_me": np.array(log_me(*measured))}
        if place is not None:
            place.write(found)
    return found["guesses"], float(found["log_me"])


def _look(data: ProbeData, names: Sequence[str], order: NDArray[np.intp], asked: NDArray[np.intp]) -> _Looked:
    """Read the columns of the head's taps, and of the last tap where it is not among them."""
    taps = tuple(names) if "last" in names else (*names, "last")
    train, val = data.train[order], data.val[asked]
    start = 0
    for name, dim in data.taps:
        if name == "last":
            break
        start += dim if name in taps else 0
    last = slice(start, start + dict(data.taps)["last"])
    return _Looked(data.columns(taps, train), data.labels[train], data.columns(taps, val), data.labels[val], last)


def _some(rng: np.random.Generator, n: int, most: int) -> NDArray[np.intp]:
    """All of n, or `most` of them, ascending."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _told_left_out(dear: Sequence[int], n: int) -> str:
    if not dear:
        return ""
    sizes = [f"{size:,}" for size in dear]
    listed = " and ".join([", ".join(sizes[:-1]), sizes[-1]] if len(sizes) > 1 else sizes)
    return f"parts of {listed} of the {n:,} images were left out to save time"


def _why_no_curve(dear: Sequence[int]) -> str:
    if dear:
        return "with so many classes and features a learning curve would take too long"
    return "there are too few training images for a learning curve"
