"""The search for taps and L2 of a linear head: quick fits, judged on rows that they did not learn from."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.metrics import Scores, score
from headway.events import Detail, Progress
from headway.training.curvature import Memory
from headway.training.folds import Crossing
from headway.training.heads import Head, Layer
from headway.training.lbfgs import Point
from headway.training.solvers import LARGE, LOOSE, TOLERANCE, Problem, Solution, Start

_SMALL = 2e8  # multiplications of one product with the features
_CLEARLY_WORSE = 1.02  # times the best validation log-loss: nothing better comes after it on the path


@dataclass(frozen=True)
class Material:
    """Features of one choice of taps: the problem of its training rows, and its validation rows (n_val, D).

    memory    what its fits learn, each from those before
    crossing  training rows that are held out in turn, to choose by them too; None = validation rows decide alone
    weights   (C,) what an image of each class counts where fits are chosen; None = all alike
    """

    taps: str
    names: tuple[str, ...]
    problem: Problem
    val: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    memory: Memory = field(default_factory=Memory, repr=False)
    crossing: Crossing | None = None
    weights: NDArray[np.floating[Any]] | None = None

    @property
    def small(self) -> bool:
        """Whether an iteration costs milliseconds."""
        n, d = self.problem.rows.shape
        return n * d * len(self.problem.constant) <= _SMALL

    @property
    def tolerance(self) -> float:
        """How far to take the fits that only choose: all the way where that costs next to nothing."""
        return TOLERANCE if self.small else LOOSE

    @property
    def last_tolerance(self) -> float:
        """How far to take the chosen fit. See `LARGE`."""
        return TOLERANCE if self.small else LARGE


@dataclass(frozen=True)
class Candidate:
    """One fit, and how it does on the validation rows. `iterations` counts all that led to it from its start.

    losses  (m,) those that it is chosen by, weighted: of training rows held out in turn, where there are such, then of
            the validation rows
    """

    material: Material
    solution: Solution
    scores: Scores
    losses: NDArray[np.float64]
    iterations: int

    @property
    def loss(self) -> float:
        """What the choice goes by."""
        return float(self.losses.mean())

    @property
    def val_log_loss(self) -> float:
        return float(self.scores.loss.mean())

    @property
    def start(self) -> Start:
        """On raw features, for a problem of other taps."""
        return self.solution.weight, self.solution.bias

    @property
    def end(self) -> Point:
        """For another fit of the same problem."""
        return self.solution.point


def head_of(material: Material, solution: Solution) -> Head:
    """The solution as a head."""
    return Head("linear", material.names, (Layer(solution.weight, solution.bias),))


def attempt(material: Material, l2: float, start: Start | Point | None, tolerance: float) -> Candidate:
    """One fit, judged on the validation rows."""
    solution = material.problem.solve(l2, start=start, tolerance=tolerance, memory=material.memory)
    logits = head_of(material, solution).logits(material.val)  # not kept: a search has a dozen of them
    scores = score(logits, material.labels)
    return Candidate(material, solution, scores, _losses(material, l2, scores), solution.iterations)


def _losses(material: Material, l2: float, scores: Scores) -> NDArray[np.float64]:
    losses, labels = scores.loss, material.labels
    if material.crossing is not None:
        losses = np.concatenate([material.crossing.losses(l2), losses])
        labels = np.concatenate([material.crossing.labels[material.crossing.judged], labels])
    if material.weights is None:
        return losses
    counted = material.weights[labels]
    return np.asarray(losses * (counted / counted.mean()))


def lowest(candidates: Sequence[Candidate]) -> Candidate:
    """The lowest log-loss; of equals the first, which is the strongest L2 of a path."""
    return min(candidates, key=lambda candidate: candidate.loss)


Walk = Generator[Progress | Detail, None, list[Candidate]]


def down_the_path(material: Material, l2s: Sequence[float]) -> Walk:
    """From strong to weak, each from the one before, until the log-loss clearly rises."""
    tried: list[Candidate] = []
    for l2 in l2s:
        tried.append(attempt(material, l2, tried[-1].end if tried else None, material.tolerance))
        yield Progress("head", len(tried), 0, unit="fits")
        yield _told(tried[-1])
        if tried[-1].loss > _CLEARLY_WORSE * lowest(tried).loss:
            break
    return tried


def around(material: Material, l2s: Sequence[float], at: int, start: Start | Point) -> Walk:
    """From `l2s[at]` to the stronger and then to the weaker, each way as long as the log-loss falls.

    Costs two or three fits where a path would cost seven: with more features the best L2 is rarely far away.
    """
    tried = [attempt(material, l2s[at], start, material.tolerance)]
    yield _told(tried[0])
    for step in (-1, 1):
        best, index = lowest(tried), at + step
        while 0 <= index < len(l2s):
            tried.append(attempt(material, l2s[index], best.end, material.tolerance))
            yield _told(tried[-1])
            if tried[-1].loss >= best.loss:
                break
            best, index = tried[-1], index + step
        if best is not tried[0]:
            break  # it fell this way: the other way lies behind
    return tried


def _told(candidate: Candidate) -> Detail:
    taps, l2, accuracy = candidate.material.taps, candidate.solution.l2, candidate.scores.right.mean()
    judged = f"validation log-loss {candidate.val_log_loss:.4f}, accuracy {accuracy:.4f}"
    if candidate.material.crossing is not None:
        judged += f", log-loss with {len(candidate.losses) - len(candidate.scores.loss)} held out {candidate.loss:.4f}"
    return Detail("head", f"taps {taps}, L2 {l2:g}: {judged}, {candidate.iterations} iterations")


def record(candidate: Candidate, chosen: bool) -> dict[str, Any]:
    """`candidate` as an item of `selection.candidates` in evaluation.json."""
    return {
        "taps": candidate.material.taps,
        "l2": candidate.solution.l2,
        "val_log_loss": candidate.val_log_loss,
        "val_accuracy": float(candidate.scores.right.mean()),
        "log_loss": candidate.loss,
        "iterations": candidate.iterations,
        "chosen": chosen,
    }


def path_row(number: int, candidate: Candidate, best: bool) -> dict[str, Any]:
    """`candidate` as a row of history.csv."""
    return {
        "kind": "path",
        "step": number,
        "taps": candidate.material.taps,
        "l2": candidate.solution.l2,
        "lr": None,
        "train_loss": candidate.solution.log_loss,
        "train_accuracy": candidate.solution.accuracy,
        "val_loss": candidate.val_log_loss,
        "val_accuracy": float(candidate.scores.right.mean()),
        "best": best,
    }
