"""Training images held out in turn, to choose by where validation images are too few (repeated stratified folds).

Out-of-fold losses of training images stand beside the losses of validation images. The head that is kept is fitted to
all training images and has still not learnt from a validation image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.metrics import score
from headway.training.curvature import Memory
from headway.training.design import Design
from headway.training.head_settings import HeadSettings
from headway.training.lbfgs import Point
from headway.training.probe_data import Held, ProbeData, training_labels
from headway.training.solvers import LARGE, Problem, pose

FOLDS = 5
FEW_VAL = 100  # with fewer validation images chance decides between neighbouring L2
MOST_ROWS = 2000  # of training: more would take more seconds than the choice is worth
_JUDGED = 100  # out-of-fold losses, about: very small sets are parted twice
_MOST_REPEATS = 2


@dataclass(frozen=True)
class Fold:
    """One part held out. problem: of the other rows; where (m,): positions of those held out among training images.

    memory, ends  what its fits learn, and where they ended by L2: each starts from the nearest
    """

    problem: Problem
    where: NDArray[np.intp]
    memory: Memory = field(default_factory=Memory, repr=False)
    ends: dict[float, Point] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Crossing:
    """Every fold of every repeat, of one choice of taps. rows (n, D) and labels (n,) of the training images."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    folds: tuple[Fold, ...]
    repeats: int
    found: dict[float, tuple[NDArray[np.float32], ...]] = field(default_factory=dict, repr=False)

    @property
    def judged(self) -> NDArray[np.intp]:
        """(m,) the training images that are held out: all but those that are alone in their class."""
        return np.unique(np.concatenate([fold.where for fold in self.folds]))

    def losses(self, l2: float) -> NDArray[np.float64]:
        """(m,) the log-loss of each of `judged` by heads that did not learn from it, its mean over repeats."""
        total = np.zeros(len(self.labels))
        for fold, logits in zip(self.folds, self._logits(l2), strict=True):
            total[fold.where] += score(logits, self.labels[fold.where]).loss
        return total[self.judged] / self.repeats

    def held(self, l2: float) -> Held:
        """Logits and labels of every image held out, once a repeat."""
        labels = np.concatenate([self.labels[fold.where] for fold in self.folds])
        return Held(np.concatenate(self._logits(l2)), labels)

    def _logits(self, l2: float) -> tuple[NDArray[np.float32], ...]:
        if l2 not in self.found:
            self.found[l2] = tuple(self._fitted(fold, l2) for fold in self.folds)
        return self.found[l2]

    def _fitted(self, fold: Fold, l2: float) -> NDArray[np.float32]:
        near = min(fold.ends, key=lambda known: abs(np.log((known + 1e-12) / (l2 + 1e-12))), default=None)
        start = None if near is None else fold.ends[near]
        solution = fold.problem.solve(l2, start=start, tolerance=LARGE, memory=fold.memory)
        fold.ends[l2] = solution.point
        return self.rows[fold.where] @ solution.weight.T + solution.bias


def few_to_choose_by(n_train: int, n_val: int) -> bool:
    """Whether so few images validate that training images are held out in turn beside them. n_train: with views."""
    return n_val < FEW_VAL and n_train <= MOST_ROWS


def n_folds(data: ProbeData, settings: HeadSettings) -> int:
    """How many parts are held out in turn; 0 where validation images are enough to choose by, or there is no choice."""
    if settings.folds != "auto":
        return int(settings.folds)
    chooses = isinstance(settings.l2, str) or settings.taps == "auto"
    few = few_to_choose_by(len(data.train) * (1 + len(data.views)), len(data.val))
    return FOLDS if chooses and few else 0


def cross(
    rows: Design, data: ProbeData, settings: HeadSettings, widths: Sequence[int], weights: NDArray[Any] | None
) -> Crossing | None:
    """The folds of the training rows `rows` (views after the images); None where no class has two images apart.

    settings.folds  a number;  widths, weights  as of `pose`
    """
    folds, seed = int(settings.folds), settings.seed
    whole: NDArray[np.float32] = rows.sample(1).numpy()
    labels, n = training_labels(data), len(data.train)
    repeats = int(np.clip(round(_JUDGED / n), 1, _MOST_REPEATS))
    groups = None if data.groups is None else data.groups[data.train]
    found = []
    for repeat in range(repeats):
        part = stratified(labels[:n], groups, folds, np.random.default_rng([seed, 5, repeat]))
        for number in range(folds):
            out = part == number
            if out.any():
                kept = np.tile(~out, 1 + len(data.views))
                problem = pose(whole[kept], labels[kept], data.n_classes, weights=weights, widths=widths)
                found.append(Fold(problem, np.flatnonzero(out)))
    return Crossing(whole[:n], labels[:n], tuple(found), repeats) if found else None


def stratified(
    labels: NDArray[np.integer[Any]],
    groups: NDArray[np.integer[Any]] | None,
    folds: int,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """(n,) 0..folds-1, the fold that each image is held out in, or -1 = never: it would leave its class without any.

    Each class is spread evenly, and so is the whole. Images of one group (a number >= 0) are held out together.
    """
    alone = np.arange(len(labels)) + (0 if groups is None else groups.max(initial=0) + 1)
    unit = np.unique(alone if groups is None else np.where(groups < 0, alone, groups), return_inverse=True)[1]
    part, turn = np.full(len(labels), -1, np.intp), int(rng.integers(folds))
    for label in np.unique(labels):
        own = np.unique(unit[(labels == label) & (part < 0)])
        if len(np.unique(unit[labels == label])) < 2:
            continue
        for one in rng.permutation(own):
            part[unit == one] = turn % folds
            turn += 1
    for label in np.unique(labels):  # a group of several classes may have taken all of one along
        mine = labels == label
        if (part[mine] >= 0).all() and len(np.unique(part[mine])) < 2:
            part[np.isin(unit, unit[mine])] = -1
    return part


def told(crossing: Crossing | None, n_val: int) -> Mapping[str, Any] | None:
    """For the record: what was held out beside the validation images."""
    if crossing is None:
        return None
    return {"held_out": len(crossing.judged), "repeats": crossing.repeats, "fits": len(crossing.folds), "val": n_val}
