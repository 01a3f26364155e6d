"""Classes of unequal size: what --balance weights and logit bring and cost, against none.

python -m benchmarks.imbalance DATA [--draws 10] [--classes N --largest 400 --smallest 20]

Without --classes every class of DATA as it is: in each draw a quarter of each class is held out, a tenth validates.
With --classes N: in each draw so many classes of DATA, cut down to sizes in even ratios from --largest to --smallest;
of each class at most 100 of the other images are held out, and count as common as the class is in training.

Heads of --heads (linear, prototype, ...) on the last tap. Balanced accuracy, macro-F1 and accuracy on held-out images,
the differences to none paired by draw.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.few_images import Ints, Rows, features_of
from benchmarks.told import tell
from headway.events import drain
from headway.training.probe import HeadSettings, ProbeData, probe

MEASURES = ("balanced accuracy", "macro-F1", "accuracy")


def parted(
    labels: Ints, sizes: NDArray[np.intp] | None, rng: np.random.Generator
) -> tuple[list[NDArray[np.intp]], Ints, NDArray[np.float64]]:
    """Indices that train, validate and are held out; labels (N,) renumbered; (C,) shares of the classes in training."""
    chosen = rng.permutation(np.unique(labels)) if sizes is None else rng.permutation(np.unique(labels))[: len(sizes)]
    renumbered = np.full(len(labels), -1, np.int64)
    parts: list[list[NDArray[np.intp]]] = [[], [], []]
    for number, label in enumerate(chosen):
        own = rng.permutation(np.flatnonzero(labels == label))
        renumbered[own] = number
        n = round(0.75 * len(own)) if sizes is None else int(sizes[number])
        n_val = max(1, round(0.1 * n))
        for part, some in zip(parts, (own[n_val:n], own[:n_val], own[n : n + 100]), strict=True):
            part.append(some)
    shares = np.array([len(part) for part in parts[0]], np.float64)
    return [np.concatenate(part) for part in parts], renumbered, shares / shares.sum()


def measured(labels: Ints, predicted: Ints, shares: NDArray[np.float64]) -> tuple[float, float, float]:
    """The MEASURES, every class as common as `shares` says."""
    n_classes = len(shares)
    confusion = np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    table = confusion / confusion.sum(axis=1, keepdims=True) * shares[:, None]
    hits, guesses = np.diag(table), table.sum(axis=0)
    return float((hits / shares).mean()), float((2 * hits / (shares + guesses)).mean()), float(hits.sum())


def judge(X: Rows, y: Ints, sizes: NDArray[np.intp] | None, head: str, seed: int) -> dict[str, Any]:
    """The measures of each way of balancing, in one draw."""
    (train, val, test), labels, shares = parted(y, sizes, np.random.default_rng([seed, 12]))
    data = ProbeData(lambda taps, indices: X[indices], labels, train, val, (("last", X.shape[1]),), len(shares))
    found = {}
    for balance in ("none", "weights", "logit"):
        trained = drain(probe(data, HeadSettings(head, taps="last", balance=balance))).head
        found[balance] = measured(labels[test], np.asarray(trained.logits(X[test]).argmax(axis=1)), shares)
    return found


def main() -> None:
    """Run the draws and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--largest", type=int, default=400)
    parser.add_argument("--smallest", type=int, default=20)
    parser.add_argument("--heads", default="linear")
    asked = parser.parse_args()
    X, y = features_of(asked.data)
    sizes = None
    if asked.classes:
        sizes = np.round(np.geomspace(asked.largest, asked.smallest, asked.classes)).astype(np.intp)
    for head in asked.heads.split(";"):
        draws = [judge(X, y, sizes, head, seed) for seed in range(asked.draws)]
        print(f"\n{head}, {asked.draws} draws")
        rows = {}
        for place, measure in enumerate(MEASURES):
            values = {balance: np.array([draw[balance][place] for draw in draws]) for balance in draws[0]}
            for balance, own in values.items():
                apart = own - values["none"]
                error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
                print(f"  {measure:<18} {balance:<8} mean {own.mean():.4f}  {apart.mean():+.4f} ± {error:.4f}")
                rows[f"{measure}, {balance}"] = own.tolist()
        tell(f"imbalance {head}", rows, "", data=asked.data.name, classes=asked.classes)


if __name__ == "__main__":
    main()
