"""Few images: which head is best where there are 5, 10 or 20 of a class.

python -m benchmarks.few_images DATA [--classes 10,100] [--images 5,10,20] [--draws 10] [--held-out 2000]

From the cached features of every image of DATA (computed first where they are not there): in each draw some classes, so
many images of each, of which one in ten (at least one a class) validates; everything else of these classes is held out,
up to --held-out of it. Heads:

linear, unshrunk          features divided by their deviations on these few images, as scikit-learn would; L2 as next
linear, validated         deviations shrunk (see training.solvers); L2 with the lowest log-loss on the validation images
linear, cross-validated   L2 with the lowest log-loss on these and on training images held out in turn
prototype                 nearest class mean by cosine
nearest mean              Euclidean, of standardised features
kNN, K                    K nearest by cosine, weighted by exp(cosine / 0.07). Judged here, not offered by fit

All on the last tap, fitted to the training images alone. Accuracy on held-out images; differences are paired by draw.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.told import tell
from headway.data.sources import load_dataset
from headway.evaluation.metrics import score
from headway.events import drain
from headway.features.extract import extract
from headway.features.looking import Asked, get_ready
from headway.machine import cache_folder
from headway.training.head_settings import L2_CANDIDATES
from headway.training.probe import HeadSettings, ProbeData, probe
from headway.training.solvers import softmax_path

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]


def features_of(data: Path) -> tuple[Rows, Ints]:
    """Features of the last tap and labels of every labelled image."""
    dataset = load_dataset(data)
    every = np.arange(len(dataset), dtype=np.intp)
    with get_ready(dataset, every, Asked(), cache_folder()) as ready:
        features, contents = drain(extract(ready.readings, every, len(dataset), ready.store, ready.engine))
    good = np.flatnonzero(contents.accepted & (dataset.labels >= 0))
    return features.columns(("last",), good), dataset.labels[good].astype(np.int64)


def drawn(
    labels: Ints, n_classes: int, n_images: int, held_out: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], Ints]:
    """Indices to train on, to validate on, held out; and labels (N,) renumbered, -1 = of another class."""
    chosen = rng.permutation(np.unique(labels))[:n_classes]
    renumbered = np.full(len(labels), -1, np.int64)
    train, val, rest = [], [], []
    for number, label in enumerate(chosen):
        own = rng.permutation(np.flatnonzero(labels == label))
        renumbered[own] = number
        n_val = max(1, round(0.1 * n_images))
        val.append(own[:n_val])
        train.append(own[n_val:n_images])
        rest.append(own[n_images:])
    test = rng.permutation(np.concatenate(rest))[:held_out]
    return np.concatenate(train), np.concatenate(val), test, renumbered


def knn(rows: Rows, labels: Ints, test: Rows, n_classes: int, k: int) -> Ints:
    """Labels of `test` by their k nearest neighbours."""
    unit, asked = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, test))
    likeness = asked @ unit.T
    near = np.argsort(-likeness, axis=1)[:, :k]
    votes = np.zeros((len(test), n_classes))
    for column in near.T:
        votes[np.arange(len(test)), labels[column]] += np.exp(likeness[np.arange(len(test)), column] / 0.07)
    return np.asarray(votes.argmax(axis=1))


def nearest_mean(rows: Rows, labels: Ints, test: Rows, n_classes: int) -> Ints:
    """Labels of `test` by the nearest class mean of standardised features."""
    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    standard, asked = (rows - mean) / spread, (test - mean) / spread
    means = np.stack([standard[labels == label].mean(axis=0) for label in range(n_classes)])
    return np.asarray((asked @ means.T - 0.5 * (means * means).sum(axis=1)).argmax(axis=1))


def judge(
    X: Rows, y: Ints, n_classes: int, n_images: int, held_out: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Accuracy, seconds, and log-loss after temperature (not of all) of each head in one draw."""
    train, val, test, labels = drawn(y, n_classes, n_images, held_out, np.random.default_rng([seed, 11]))
    data = ProbeData(lambda taps, indices: X[indices], labels, train, val, (("last", X.shape[1]),), n_classes)

    losses: dict[str, float] = {}

    def fitted(name: str, settings: HeadSettings) -> Callable[[], Ints]:
        def fit() -> Ints:
            found = drain(probe(data, settings))
            logits = found.head.logits(X[test])
            losses[name] = float(score(logits, labels[test], found.temperature).loss.mean())
            return np.asarray(logits.argmax(axis=1))

        return fit

    def unshrunk() -> Ints:
        best = (np.inf, np.zeros(len(test), np.int64))
        for fit in softmax_path(X[train], labels[train], n_classes, L2_CANDIDATES):
            loss = score(X[val] @ fit.weight.T + fit.bias, labels[val]).loss.mean()
            if loss < best[0]:
                best = loss, (X[test] @ fit.weight.T + fit.bias).argmax(axis=1)
        return np.asarray(best[1])

    rows, known, asked = X[train], labels[train], X[test]
    heads: dict[str, Callable[[], Ints]] = {
        "linear, unshrunk": unshrunk,
        "linear, validated": fitted("linear, validated", HeadSettings(taps="last", folds=0)),
        "linear, cross-validated": fitted("linear, cross-validated", HeadSettings(taps="last", folds=5)),
        "prototype": fitted("prototype", HeadSettings("prototype", taps="last")),
        "nearest mean": lambda: nearest_mean(rows, known, asked, n_classes),
        "kNN, 1": lambda: knn(rows, known, asked, n_classes, 1),
        "kNN, 5": lambda: knn(rows, known, asked, n_classes, 5),
    }
    found = {}
    for name, head in heads.items():
        start = time.perf_counter()
        right = head() == labels[test]
        found[name] = (float(right.mean()), time.perf_counter() - start, losses.get(name, float("nan")))
    return found


def main() -> None:
    """Run the draws and print a table for each number of classes and images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", default="10,100")
    parser.add_argument("--images", default="5,10,20")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--held-out", type=int, default=2000)
    asked = parser.parse_args()
    X, y = features_of(asked.data)
    for n_classes in map(int, asked.classes.split(",")):
        for n_images in map(int, asked.images.split(",")):
            draws = [judge(X, y, n_classes, n_images, asked.held_out, seed) for seed in range(asked.draws)]
            rows = {name: [draw[name][0] for draw in draws] for name in draws[0]}
            print(f"\n{n_classes} classes, {n_images} images of each")
            base = np.array(rows["linear, validated"])
            for name, values in rows.items():
                apart = np.array(values) - base
                error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
                seconds = np.median([draw[name][1] for draw in draws])
                loss = np.mean([draw[name][2] for draw in draws])
                told = "" if np.isnan(loss) else f", log-loss {loss:.4f}"
                print(
                    f"  {name:<24} mean {np.mean(values):.4f}  {apart.mean():+.4f} ± {error:.4f}, {seconds:.2f} s{told}"
                )
            tell(f"few_images {n_classes}x{n_images}", rows, "accuracy", held_out=asked.held_out)


if __name__ == "__main__":
    main()
