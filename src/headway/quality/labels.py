"""Likely label errors: what heads that never saw an image say of its label.

The images are dealt into folds, duplicates and groups together. A softmax regression on the features of the other
folds gives each image its probabilities, so no head confirms a label that it learnt. Every fit starts from the constant
guess: a start from the whole fit would be quicker and remember the labels that are to be judged.

Which images are suspects, and how many labels are likely wrong, is confident learning (Northcutt, Jiang and Chuang
2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70): an image counts as of class j where its
probability of j is at least what images labelled j have on average.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.metrics import score, softmax
from headway.events import Progress
from headway.training.design import Read, gather
from headway.training.lbfgs import Memory
from headway.training.solvers import LOOSE, Problem, Solution, pose

L2S = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # from strong to weak, as of the probe
FEWEST = 5  # images of a class without which nothing is said of it
_BLOCK = 8192  # images whose logits are there at once


@dataclass(frozen=True)
class Judged:
    """The images whose labels are judged, and what out-of-fold heads give them.

    indices        (n,) into the dataset, ascending;  labels (n,) int32, as given
    probabilities  (n, C) float32, each row by a head that saw neither the image nor its duplicates
    l2             of the heads;  folds  how many there were
    """

    indices: NDArray[np.intp]
    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    l2: float
    folds: int

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(n,) the class of the largest probability."""
        found: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return found


@dataclass(frozen=True)
class LabelErrors:
    """Suspects, the most suspect first.

    judged     number of labels that were judged
    indices    (m,) into the dataset;  labels, suggested (m,) classes, as given and as the heads say
    given_p    (m,) float32, probability of the given label;  suggested_p of the suggested one
    expected   share of all judged labels that is likely wrong, 0..1; None where nothing was judged
    left_out   why labels of some classes, or of all, were not judged: a sentence each
    """

    judged: int
    indices: NDArray[np.intp]
    labels: NDArray[np.int32]
    suggested: NDArray[np.int32]
    given_p: NDArray[np.float32]
    suggested_p: NDArray[np.float32]
    expected: float | None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """What heads are fitted on.

    read       indices into the dataset (n,) → features (n, D) float32
    indices    (n,) images that are judged, ascending;  labels (n,) int32;  fold (n,) as `deal` gives
    n_classes  C;  dim  D
    memory     bytes of the machine: more features than a quarter of it lie in a scratch file in `folder`
    """

    read: Read
    indices: NDArray[np.intp]
    labels: NDArray[np.int32]
    fold: NDArray[np.int8]
    n_classes: int
    dim: int
    memory: int | None = None
    folder: Path | None = None


def out_of_fold(material: Material, l2s: Sequence[float] = L2S) -> Generator[Progress, None, Judged]:
    """Fit a head for each fold on all others, to a loose tolerance; `l2s` are tried on the first fold.

    Raises HeadwayError where a feature is not finite.
    """
    folds = int(material.fold.max(initial=0)) + 1
    probabilities = np.empty((len(material.indices), material.n_classes), np.float32)
    l2 = l2s[0]
    for fold in range(folds):
        yield Progress("labels", fold, folds, unit="folds")
        out = np.flatnonzero(material.fold == fold)
        inside = np.flatnonzero(material.fold != fold)
        if not len(out) or not len(inside):
            continue
        rows = gather([material.read], material.indices[inside], material.dim, material.folder, material.memory)
        with closing(rows):
            problem = pose(rows, material.labels[inside], material.n_classes)
            if fold == 0 and len(l2s) > 1:
                solution = _best(problem, material, out, l2s)
                l2 = solution.l2
            else:
                solution = problem.solve(l2, tolerance=LOOSE)
        for part, logits in _logits(material, out, solution):
            probabilities[part] = softmax(logits)
    yield Progress("labels", folds, folds, unit="folds")
    return Judged(material.indices, material.labels, probabilities, l2, folds)


def _best(problem: Problem, material: Material, out: NDArray[np.intp], l2s: Sequence[float]) -> Solution:
    """From strong to weak, each from the one before, until the log-loss of the fold that is out rises."""
    best, lowest, memory = None, np.inf, Memory()
    solution: Solution | None = None
    for l2 in l2s:
        solution = problem.solve(l2, start=None if solution is None else solution.point, tolerance=LOOSE, memory=memory)
        loss = sum(
            float(score(logits, material.labels[part]).loss.sum()) for part, logits in _logits(material, out, solution)
        )
        if loss >= lowest:
            break
        best, lowest = solution, loss
    assert best is not None
    return best


def _logits(
    material: Material, rows: NDArray[np.intp], solution: Solution
) -> Generator[tuple[NDArray[np.intp], NDArray[np.float32]], None, None]:
    """Logits of some of the judged images, in blocks: (positions, (n, C))."""
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        yield part, material.read(material.indices[part]) @ solution.weight.T + solution.bias


def find_label_errors(judged: Judged) -> LabelErrors:
    """The suspects among the judged images, ranked by how much more likely another class is than the given one."""
    p, y = judged.probabilities, judged.labels
    n, n_classes = p.shape
    own = p[np.arange(n), y]
    counts = np.bincount(y, minlength=n_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        thresholds = np.bincount(y, weights=own, minlength=n_classes) / counts  # (C,), NaN for a class without images
    confident = _confident(p, thresholds)
    joint = np.zeros((n_classes, n_classes))
    counted = confident >= 0
    np.add.at(joint, (y[counted], confident[counted]), 1)
    seen = joint.sum(axis=1)
    wrong = np.where(seen > 0, 1 - np.divide(np.diag(joint), seen, out=np.ones(n_classes), where=seen > 0), 0)
    expected = float((wrong * counts).sum() / n) if n else None
    suggested, other = _others(p, y)
    rows = np.flatnonzero(counted & (confident != y) & (other > own))
    rows = rows[np.argsort((own - other)[rows], kind="stable")]
    return LabelErrors(
        judged=n,
        indices=judged.indices[rows],
        labels=y[rows],
        suggested=suggested[rows],
        given_p=own[rows],
        suggested_p=other[rows],
        expected=expected,
    )


def doubt(judged: Judged) -> NDArray[np.float32]:
    """(n,) how suspect each judged label is, -1..1: the largest probability of another class minus its own."""
    own = judged.probabilities[np.arange(len(judged.labels)), judged.labels]
    _, other = _others(judged.probabilities, judged.labels)
    return other - own


def _others(p: NDArray[np.float32], y: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The likeliest class beside the given one, and its probability: (n,), (n,)."""
    classes, values = np.empty(len(p), np.int32), np.empty(len(p), np.float32)
    for start in range(0, len(p), _BLOCK):
        part = p[start : start + _BLOCK].copy()
        rows = np.arange(len(part))
        part[rows, y[start : start + _BLOCK]] = -1
        best = part.argmax(axis=1)
        classes[start : start + _BLOCK], values[start : start + _BLOCK] = best, part[rows, best]
    return classes, values


def _confident(p: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.intp]:
    """(n,) the likeliest class among those that an image counts as; -1 where there is none."""
    found = np.empty(len(p), np.intp)
    for start in range(0, len(p), _BLOCK):
        part = p[start : start + _BLOCK]
        among = np.where(part >= thresholds, part, -1)
        best = among.argmax(axis=1)
        found[start : start + _BLOCK] = np.where(among[np.arange(len(part)), best] >= 0, best, -1)
    return found
