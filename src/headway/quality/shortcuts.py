"""Shortcuts: whether something beside the picture tells the class, so that a network may learn that instead.

For each cue and class: does the value of the cue say, out of fold, whether an image is of the class?
Measured by the gap between the share of the class that is recognised and the share of all others that is taken for it
(Youden's J, 0 = a guess, 1 = always right), so that class sizes do not matter. A shortcut needs both: Fisher's exact
test at 1 % over all questions asked (Bonferroni), and a gap that matters. What a picture shows moves bytes and border
too (a sky compresses well): there only a gap near 1 counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.quality.cues import Cue, Cues

FEWEST = 20  # images of a class without which nothing is asked of it
_LEVEL = 0.01
_BINS = 24  # of cues that are numbers, each with as many images
_SMOOTHING = 2.0  # images of the mean that each value is mixed with


@dataclass(frozen=True)
class Question:
    """One cue.

    values  (n,) of each image as a whole number;  words  what each of them stands for
    gap     that matters;  told  how a number is written, and `numbers` (n,) itself; "" and None of words
    """

    cue: str
    values: NDArray[np.intp]
    words: tuple[str, ...]
    gap: float
    told: str = ""
    numbers: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Shortcut:
    """A cue that tells a class.

    label    the class;  value  what most sets it apart
    share    of the class that is recognised, others of all other images that are taken for it, out of fold, 0..1
    p_value  of that table, before correction
    """

    cue: str
    label: int
    value: str
    share: float
    others: float
    p_value: float

    @property
    def gap(self) -> float:
        """How much more of the class than of the others, 0..1."""
        return self.share - self.others


@dataclass(frozen=True)
class Shortcuts:
    """What was asked and what was found, the clearest first.

    images  that were looked at;  cues  names;  questions  cue times class
    """

    images: int
    cues: tuple[str, ...]
    questions: int
    found: tuple[Shortcut, ...]


def find_shortcuts(
    cues: Cues, labels: NDArray[np.integer], sizes: NDArray[np.integer], fold: NDArray[np.integer]
) -> Shortcuts:
    """Ask each cue about each class. labels, fold (n,), sizes (n, 2) width and height: of the images of `cues`."""
    asked = [question for question in questions(cues, sizes) if len(question.words) > 1]
    counts = np.bincount(labels, minlength=1)
    classes = [int(label) for label in np.flatnonzero(counts >= FEWEST)]
    if len(counts[counts > 0]) < 2:
        classes = []
    if len(counts[counts > 0]) == 2 and len(classes) == 2:
        classes = classes[:1]  # what tells one of two classes tells the other
    n_questions = len(asked) * len(classes)
    found = []
    for question in asked:
        for label in classes:
            shortcut = _ask(question, labels == label, fold, label)
            if shortcut is not None and shortcut.p_value * n_questions < _LEVEL:
                found.append(shortcut)
    found.sort(key=lambda one: -one.gap)
    return Shortcuts(len(cues.of), tuple(question.cue for question in asked), n_questions, tuple(found))


def questions(cues: Cues, sizes: NDArray[np.integer]) -> list[Question]:
    """Every cue there is, those with a single value included."""
    of = cues.of
    pixels = np.maximum(1, sizes[:, 0].astype(np.float64) * sizes[:, 1])
    n_bytes = np.array([cue.n_bytes for cue in of], np.float64)
    asked = [
        _words("file format", [cue.form for cue in of], 0.3),
        _words("file name's extension", [cue.suffix for cue in of], 0.3),
        _words("encoder", [_encoder(cue) for cue in of], 0.3),
        _words("colour mode", [cue.colours for cue in of], 0.5),
        _words("resolution", [f"{width} x {height} pixels" for width, height in sizes.tolist()], 0.5),
        _numbers("number of pixels", pixels, "{:,.0f} pixels", 0.7),
        _numbers("aspect", sizes[:, 0] / np.maximum(1, sizes[:, 1]), "{:.2f} times as wide as high", 0.7),
        _numbers("file size", n_bytes, "{:,.0f} bytes", 0.9),
        _numbers("bytes per pixel", n_bytes / pixels, "{:.3f} bytes per pixel", 0.9),
    ]
    if cues.looked:
        asked.append(_words("border", [_border(cue) for cue in of], 0.6))
    return asked


def _encoder(cue: Cue) -> str:
    """The encoder with its quality in front, which is what people know it by."""
    return f"quality about {cue.quality}, {cue.encoder}" if cue.quality else cue.encoder


def _border(cue: Cue) -> str:
    down, across = cue.border
    if max(down, across) < 0.02:
        return "no border"
    where = "all around" if min(down, across) >= 0.02 else "above and below" if down > across else "left and right"
    shade = ("black", "dark grey", "grey", "light grey", "white")[min(4, int(cue.shade / 51.2))]
    return f"a {shade} border {where}"


def _words(cue: str, values: Sequence[str], gap: float) -> Question:
    words, numbers = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
    return Question(cue, numbers.astype(np.intp).reshape(-1), tuple(str(word) for word in words), gap)


def _numbers(cue: str, values: NDArray[np.floating], told: str, gap: float) -> Question:
    """Bins of as many images each; of values that repeat a bin may hold more."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(values) else np.empty(0)
    bins = np.searchsorted(edges, values, side="right")
    used, numbers = np.unique(bins, return_inverse=True)
    words = tuple(str(number) for number in used.tolist())
    return Question(cue, numbers.astype(np.intp).reshape(-1), words, gap, told, values)


def _ask(question: Question, inside: NDArray[np.bool_], fold: NDArray[np.integer], label: int) -> Shortcut | None:
    """How the cue tells the images `inside` (n,) from the rest; None where the gap does not matter."""
    values, n = question.values, len(question.words)
    said = np.zeros(len(values), bool)
    for out in np.unique(fold):
        learn, judge = fold != out, fold == out
        mine = np.bincount(values[learn & inside], minlength=n)
        every = np.bincount(values[learn], minlength=n)
        base = mine.sum() / max(1, every.sum())
        likely = (mine + _SMOOTHING * base) / (every + _SMOOTHING)
        said[judge] = (likely > base)[values[judge]]
    right, wrong = int((said & inside).sum()), int((said & ~inside).sum())
    n_in, n_out = int(inside.sum()), int((~inside).sum())
    share, others = right / n_in, wrong / n_out
    if share - others < question.gap:
        return None
    return Shortcut(question.cue, label, _apart(question, inside), share, others, fisher(right, n_in, wrong, n_out))


def _apart(question: Question, inside: NDArray[np.bool_]) -> str:
    """What most sets the images `inside` apart from the rest: a value, or a median."""
    if question.numbers is not None:
        middle, rest = (float(np.median(question.numbers[part])) for part in (inside, ~inside))
        return f"{question.told.format(middle)} in the middle, the others {question.told.format(rest)}"
    n = len(question.words)
    mine, others = (np.bincount(question.values[part], minlength=n) / part.sum() for part in (inside, ~inside))
    return question.words[int((mine - others).argmax())]


def fisher(a: int, n_a: int, b: int, n_b: int) -> float:
    """Fisher's exact test, one-sided: the chance of at least `a` of `n_a` where `a + b` of all fall anywhere."""
    drawn, whole = a + b, n_a + n_b

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    total = log_choose(whole, drawn)
    terms = [
        log_choose(n_a, k) + log_choose(n_b, drawn - k) - total
        for k in range(a, min(n_a, drawn) + 1)
        if 0 <= drawn - k <= n_b
    ]
    return min(1.0, math.fsum(math.exp(term) for term in terms))
