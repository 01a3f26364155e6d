"""A linear head on cached features: headway's solver against scikit-learn's LogisticRegression (lbfgs), the same L2.

python -m benchmarks.head DATA [--l2 0.003] [--rounds 3]

Both get the same features in memory; scikit-learn gets them standardised already, headway standardises within its
time. Seconds until the objective is within 1e-4 of the optimum, relative: for each solver the first of a series of
ever longer runs that gets there. The optimum is headway's solution at a gradient 1e-6 of the first one. Then the search
over eight L2 from strong to weak, each as far as the search takes it, and --l2 on to within 1e-4 of its optimum,
against that one fit from nothing: in seconds and in passes over the features, which other work on the machine does not
change.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.told import tell
from headway.data.dataset import Dataset
from headway.data.sources import load_dataset
from headway.data.split import make_split
from headway.events import drain
from headway.features.extract import extract
from headway.features.looking import Asked, get_ready
from headway.machine import cache_folder, usable_cores
from headway.training.curvature import Memory
from headway.training.lbfgs import Point
from headway.training.solvers import LOOSE, Problem, fit_softmax, pose

CLOSE = 1e-4
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
ITERATIONS = (40, 60, 80, 120, 160, 240)
PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]


def training_rows(dataset: Dataset) -> tuple[Rows, Labels]:
    """Features of the last layer and labels of the training images, from the user's cache or computed now."""
    every = np.arange(len(dataset), dtype=np.intp)
    with get_ready(dataset, every, Asked(), cache_folder()) as ready:
        features, contents = drain(extract(ready.readings, every, len(dataset), ready.store, ready.engine))
    train = make_split(dataset, contents, seed=0, val=0.1, test=0.15).train
    return features.columns(("last",), train), dataset.labels[train].astype(np.int64)


def objective(X: Rows, y: Labels, weight: NDArray[Any], bias: NDArray[Any], l2: float) -> float:
    """F of weights on standardised features (see `solvers`), in float64 where it sums."""
    logits = torch.from_numpy(X @ weight.T.astype(np.float32) + bias.astype(np.float32))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y), reduction="sum").to(torch.float64)
    return float(loss) / len(y) + 0.5 * l2 * float((weight.astype(np.float64) ** 2).sum())


def ours(X: Rows, y: Labels, l2: float) -> Iterator[Callable[[], float]]:
    """Ever stricter fits; each returns its objective."""

    def fit(tolerance: float) -> float:
        return fit_softmax(X, y, int(y.max()) + 1, l2=l2, tolerance=tolerance).loss

    return (partial(fit, tolerance) for tolerance in TOLERANCES)


def theirs(X: Rows, y: Labels, l2: float) -> Iterator[Callable[[], float]]:
    """Ever longer fits, on features standardised beforehand; each returns its objective."""
    from sklearn.linear_model import LogisticRegression

    def fit(iterations: int) -> float:
        model = LogisticRegression(C=1 / (len(y) * l2), max_iter=iterations, tol=1e-10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was stopped
            model.fit(X, y)
        return objective(X, y, model.coef_, model.intercept_, l2)

    return (partial(fit, iterations) for iterations in ITERATIONS)


def seconds_to(goal: float, fits: Iterator[Callable[[], float]]) -> float:
    """Seconds of the first fit that reaches the goal; infinity where none does."""
    for fit in fits:
        start = time.perf_counter()
        reached = fit()
        if reached <= goal:
            return time.perf_counter() - start
    return float("inf")


def on_to(goal: float, problem: Problem, l2: float, start: Point | None, memory: Memory) -> int:
    """Passes over the features from `start` (None = from nothing) until the objective is no more than `goal`."""
    passes = 0
    for tolerance in TOLERANCES:
        solution = problem.solve(l2, start=start, tolerance=tolerance, memory=memory)
        passes += solution.passes
        start = solution.point
        if solution.loss <= goal:
            break
    return passes


def path_and_one(X: Rows, y: Labels, l2: float, goal: float) -> tuple[tuple[float, int], tuple[float, int]]:
    """Seconds and passes of the path over every L2 with `l2` taken to `goal`, and of that fit from nothing."""
    start, classes = time.perf_counter(), int(y.max()) + 1
    problem, memory, point, passes = pose(X, y, classes), Memory(), None, 0
    ends: dict[float, Point] = {}
    for each in PATH:
        solution = problem.solve(each, start=point, tolerance=LOOSE, memory=memory)
        point = ends[each] = solution.point
        passes += solution.passes
    passes += on_to(goal, problem, l2, ends[l2], memory)
    path = time.perf_counter() - start
    start = time.perf_counter()
    alone = on_to(goal, pose(X, y, classes), l2, None, Memory())
    return (path, passes), (time.perf_counter() - start, alone)


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--l2", type=float, default=0.003, choices=PATH)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(usable_cores())
    X, y = training_rows(load_dataset(asked.data))
    standard = ((X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12)).astype(np.float32)
    best = fit_softmax(X, y, int(y.max()) + 1, l2=asked.l2, tolerance=1e-6).loss
    goal = best * (1 + CLOSE)
    rows: dict[str, list[float]] = {"headway": [], "scikit-learn": [], "path of 8": [], "one of them alone": []}
    for _ in range(asked.rounds):
        rows["headway"].append(seconds_to(goal, ours(X, y, asked.l2)))
        rows["scikit-learn"].append(seconds_to(goal, theirs(standard, y, asked.l2)))
        (path, of_path), (alone, of_one) = path_and_one(X, y, asked.l2, goal)
        rows["path of 8"].append(path)
        rows["one of them alone"].append(alone)
    own, other, path_of, alone_of = rows.values()
    ratio = round(statistics.median(b / a for a, b in zip(own, other, strict=True)), 2)
    cost = round(statistics.median(a / b for a, b in zip(path_of, alone_of, strict=True)), 2)
    print(f"{len(X):,} x {X.shape[1]:,} features, L2 {asked.l2:g}, optimum {best:.6f}: {ratio} times as fast")
    print(f"the path of 8 costs {cost} times one fit in seconds; in passes {of_path} against {of_one}")
    facts = {"rows_of_features": len(X), "dim": X.shape[1], "l2": asked.l2, "ratio": ratio, "path_over_one": cost}
    tell("head", rows, "s", **facts, passes={"path": of_path, "one": of_one})


if __name__ == "__main__":
    main()
