"""Likely label errors: what heads that never saw an image say of its label.

The images are dealt into folds, duplicates and groups together. A softmax regression on the features of the other
folds gives each image its probabilities, so no head confirms a label that it learnt. Every fit starts from the constant
guess: a start from the whole fit would be quicker and remember the labels that are to be judged.

How many labels are wrong, and how likely each is, comes from a model of the labels: right, or any other class alike
(`fit_noise`). The counts of confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70) took every image that a weak
head mistakes for a suspect: 26 % of a part of CIFAR-100 of which 5 % had been flipped.
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
from headway.training.curvature import Memory
from headway.training.design import Read, gather
from headway.training.solvers import Problem, Solution, pose

RULES = 1  # of what out-of-fold heads give the same images and labels: they and what fits them
L2S = (1.0, 0.1)  # from strong to weak; with less a head bends to single labels, and finds fewer wrong ones
TOLERANCE = 0.1  # of the heads: an early end is no loss here, as what a head learns last is wrong labels
FEWEST = 5  # images of a class without which nothing is said of it
_TEMPERATURES = tuple(float(value) for value in np.geomspace(0.2, 2.0, 13))
_RATES = np.concatenate([[0.0], np.geomspace(1e-4, 0.8, 40)])
_WORTH_A_LOOK = 0.1  # probability of being wrong
_CLOSELY = 60  # rates
_WITHIN = 1.92  # of the highest log-likelihood: half the 95 % quantile of chi-squared with one degree of freedom
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
    def n_classes(self) -> int:
        """Classes that any judged image has."""
        return len(np.unique(self.labels))

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(n,) the class of the largest probability."""
        found: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return found


@dataclass(frozen=True)
class LabelErrors:
    """Labels in doubt, the most suspect first; `likely` of them are likelier wrong than right.

    judged     number of labels that were judged
    indices    (m,) into the dataset;  labels, suggested (m,) classes, as given and as the heads say
    doubt      (m,) probability that the label is wrong, 0..1
    expected   share of all judged labels that is likely wrong, 0..1, and its interval; None: nothing was judged
    left_out   why labels of some classes, or of all, were not judged: a sentence each
    """

    judged: int
    indices: NDArray[np.intp]
    labels: NDArray[np.int32]
    suggested: NDArray[np.int32]
    doubt: NDArray[np.float64]
    expected: float | None
    interval: tuple[float, float] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def likely(self) -> int:
        """How many are likelier wrong than right: the first so many."""
        return int((self.doubt > 0.5).sum())


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


def out_of_fold(
    material: Material, l2s: Sequence[float] = L2S, tolerance: float = TOLERANCE
) -> Generator[Progress, None, Judged]:
    """Fit a head for each fold on all others; of several `l2s` the best on the first fold serves them all.

    tolerance  as of `training.solvers.fit_softmax`

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
                solution = _best(problem, material, out, l2s, tolerance)
                l2 = solution.l2
            else:
                solution = problem.solve(l2, tolerance=tolerance)
        for part, logits in _logits(material, out, solution):
            probabilities[part] = softmax(logits)
    yield Progress("labels", folds, folds, unit="folds")
    return Judged(material.indices, material.labels, probabilities, l2, folds)


def _best(
    problem: Problem, material: Material, out: NDArray[np.intp], l2s: Sequence[float], tolerance: float
) -> Solution:
    """From strong to weak, each from the one before, until the log-loss of the fold that is out rises."""
    best, lowest, memory = None, np.inf, Memory()
    solution: Solution | None = None
    for l2 in l2s:
        solution = problem.solve(
            l2, start=None if solution is None else solution.point, tolerance=tolerance, memory=memory
        )
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


@dataclass(frozen=True)
class Noise:
    """How labels go wrong, as the heads' answers tell.

    rate         share of labels that are wrong, 0..1;  interval of 95 % (profile likelihood)
    temperature  by which the logarithms of the probabilities are divided
    """

    rate: float
    interval: tuple[float, float]
    temperature: float


def fit_noise(judged: Judged) -> Noise:
    """The share of wrong labels that is expected, given these labels, if a wrong one is any other class alike.

    A label is right with 1 - rate, then it follows the heads' probabilities r (sharpened: heads that learnt from wrong
    labels are too shy), else it is one of the C - 1 others: L = (1 - rate) r_y + rate (1 - r_y) / (C - 1). Hard images
    are what r is unsure of; wrong labels are those that r is sure against. The rate is the mean over this likelihood (a
    flat prior), which is never quite 0; its interval is where the likelihood is at most 1.92 below its highest.
    """
    rates, temperatures = _RATES, _TEMPERATURES
    for _ in range(2):  # once over all, then closely around what was likely
        found = _likelihoods(judged, temperatures, rates)
        profile = found.max(axis=0) - found.max()  # (R,)
        row, inside = int(found.max(axis=1).argmax()), np.flatnonzero(profile >= -_WITHIN)
        rate = float(np.average(rates, weights=np.exp(profile)))
        noise = Noise(rate, (float(rates[inside[0]]), float(rates[inside[-1]])), temperatures[row])
        rates = np.linspace(rates[max(0, inside[0] - 1)], rates[min(len(rates) - 1, inside[-1] + 1)], _CLOSELY)
        temperatures = temperatures[max(0, row - 1) : row + 2]
    return noise


def _likelihoods(judged: Judged, temperatures: Sequence[float], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, R) the logarithm of the likelihood of all labels."""
    found = np.empty((len(temperatures), len(rates)))
    for row, temperature in enumerate(temperatures):
        own = _own(judged, temperature)
        more = (1 - own) / (judged.n_classes - 1) - own
        found[row] = [np.log(own + rate * more).sum() for rate in rates.tolist()]
    return found


def wrong(judged: Judged, noise: Noise) -> NDArray[np.float64]:
    """(n,) the probability that each judged label is wrong, 0..1, under `noise`."""
    own = _own(judged, noise.temperature)
    other = noise.rate * (1 - own) / max(1, judged.n_classes - 1)
    found: NDArray[np.float64] = other / ((1 - noise.rate) * own + other)
    return found


def confidence(judged: Judged) -> NDArray[np.float32]:
    """(n,) the probability of the given label, as the heads gave it: the lower, the more suspect.

    Sharpening it reorders what the heads are unsure of and found fewer wrong labels, so it ranks as it is.
    """
    found: NDArray[np.float32] = judged.probabilities[np.arange(len(judged.labels)), judged.labels]
    return found


def find_label_errors(judged: Judged) -> LabelErrors:
    """The labels worth a look: those likelier wrong than right first, each part by `confidence`, the lowest first."""
    n = len(judged.labels)
    counts = np.bincount(judged.labels, minlength=judged.probabilities.shape[1])
    if n == 0 or judged.n_classes < 2:
        none = np.empty(0, np.intp)
        return LabelErrors(n, none, none.astype(np.int32), none.astype(np.int32), none.astype(np.float64), None)
    noise = fit_noise(judged)
    doubt = wrong(judged, noise)
    suggested = _others(judged.probabilities, judged.labels)
    rows = np.flatnonzero((doubt > _WORTH_A_LOOK) & (counts[judged.labels] >= FEWEST))
    rows = rows[np.lexsort((confidence(judged)[rows], doubt[rows] <= 0.5))]
    return LabelErrors(
        judged=n,
        indices=judged.indices[rows],
        labels=judged.labels[rows],
        suggested=suggested[rows],
        doubt=doubt[rows],
        expected=noise.rate,
        interval=noise.interval,
    )


def _own(judged: Judged, temperature: float) -> NDArray[np.float64]:
    """(n,) the probability of the given label, sharpened; never quite 0 or 1."""
    found = np.empty(len(judged.labels))
    for start in range(0, len(found), _BLOCK):
        labels = judged.labels[start : start + _BLOCK]
        logs = np.log(np.maximum(judged.probabilities[start : start + _BLOCK], np.float32(1e-30)))
        found[start : start + _BLOCK] = softmax(logs, temperature)[np.arange(len(labels)), labels]
    return np.clip(found, 1e-12, 1 - 1e-12)


def _others(p: NDArray[np.float32], y: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n,) the likeliest class beside the given one."""
    classes = np.empty(len(p), np.int32)
    for start in range(0, len(p), _BLOCK):
        part = p[start : start + _BLOCK].copy()
        part[np.arange(len(part)), y[start : start + _BLOCK]] = -1
        classes[start : start + _BLOCK] = part.argmax(axis=1)
    return classes
