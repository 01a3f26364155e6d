"""Do prediction sets and the flag for unknown images keep their promises, on features of real images?

python -m benchmarks.confidence CATS_VS_DOGS BLOOD_CELLS CIFAR100 [--splits 200] [--draws 5] [--train 10000]

Sets: a head for each L2 is solved on training images; what is left is divided at random, again and again, into
calibration and test; L2, temperature and sets all come from the calibration part, as in `fit`. Unknown images: one
network's features of each folder, the other two as images of another kind; and heads that never saw 10 of CIFAR-100's
100 classes, with k-nearest-neighbour distance, relative Mahalanobis distance and maximum probability beside ours.
Features come from the cache, else from a pass. `--train` bounds the images of CIFAR-100 that are learnt from.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import headway
from headway.deployment.predictor import probabilities
from headway.deployment.sets import calibrated_sets, class_scores
from headway.evaluation.calibrate import fit_temperature
from headway.evaluation.metrics import score
from headway.machine import machine, versions
from headway.novelty import learn
from headway.training.solvers import fit_softmax

Floats = NDArray[np.float32]
L2S = (0.1, 0.03, 0.01, 0.003)
COVERAGES, RATE, HELD = (0.9, 0.95), 0.05, 10
_COMPARED = 10  # divisions in which other scores are tried too


@dataclass(frozen=True)
class Part:
    """Some images: features (n, D), labels (n,)."""

    X: Floats
    y: NDArray[np.int64]

    def take(self, which: NDArray[Any]) -> Part:
        return Part(self.X[which], self.y[which])


@dataclass(frozen=True)
class Data:
    """A folder's images, divided as `fit` divides them."""

    train: Part
    val: Part
    test: Part


def read(place: Path, like: str, most: int, seed: int = 0) -> Data:
    """Features of the last layer of `place`, prepared as `fit` would: "crop" for photos, "squash" for small images."""
    found = headway.extract(place, fit=like)
    parts = headway.split(found, seed=seed)
    rng = np.random.default_rng(seed)
    made = []
    for indices in (parts.train, parts.val, parts.test):
        chosen = np.sort(rng.permutation(indices)[:most])
        made.append(Part(found.columns(chosen), found.dataset.labels[chosen].astype(np.int64)))
    return Data(*made)


def heads(train: Part, n_classes: int, l2s: tuple[float, ...]) -> list[tuple[Floats, Floats]]:
    """A weight and a bias for each L2, each begun from the one before."""
    found: list[tuple[Floats, Floats]] = []
    for l2 in l2s:
        solved = fit_softmax(train.X, train.y, n_classes, l2=l2, start=found[-1] if found else None, tolerance=1e-2)
        found.append((solved.weight, solved.bias))
    return found


def logits_of(head: tuple[Floats, Floats], X: Floats) -> Floats:
    return np.asarray(X @ head[0].T + head[1], np.float32)


def sets(name: str, data: Data, splits: int) -> list[dict[str, Any]]:
    """Coverage and size over random divisions of what was not learnt from; half calibrates."""
    pool = Part(np.concatenate([data.val.X, data.test.X]), np.concatenate([data.val.y, data.test.y]))
    n_classes, n = int(data.train.y.max()) + 1, len(pool.y)
    every = [logits_of(head, pool.X) for head in heads(data.train, n_classes, L2S)]
    losses = np.stack([score(logits, pool.y).loss for logits in every])
    rng = np.random.default_rng(0)
    found: dict[float, list[tuple[float, float]]] = {coverage: [] for coverage in COVERAGES}
    others: dict[float, list[dict[str, float]]] = {coverage: [] for coverage in COVERAGES}
    for split in range(splits):
        order = rng.permutation(n)
        known, new = order[: n // 2], order[n // 2 :]
        logits = every[int(losses[:, known].mean(axis=1).argmin())]
        temperature = fit_temperature(logits[known], pool.y[known])
        shares = probabilities(logits, temperature)
        scores = class_scores(shares)
        own = scores[np.arange(n), pool.y]
        calibrated = calibrated_sets(own[known])
        rivals = adaptive(shares) if split < _COMPARED else {}
        for coverage in COVERAGES:
            most = calibrated.threshold(coverage)
            found[coverage].append((float((own[new] <= most).mean()), float((scores[new] <= most).sum(axis=1).mean())))
            if rivals:
                sizes = {way: _size(rival, pool.y, known, new, coverage) for way, rival in rivals.items()}
                others[coverage].append({"headway": found[coverage][-1][1], **sizes})
    rows = []
    for coverage, values in found.items():
        reached, size = np.array(values).T
        # Of one division, by chance: the calibration and the test images are both a sample.
        chance = float(np.sqrt(coverage * (1 - coverage) * (2 / n + 2 / n)))
        sizes = {way: float(np.mean([one[way] for one in others[coverage]])) for way in others[coverage][0]}
        row = {"data": name, "n": n // 2, "coverage": coverage, "reached": float(reached.mean()), "sizes": sizes}
        rows.append({**row, "deviation": float(reached.std()), "by_chance": chance, "size": float(size.mean())})
    return rows


def adaptive(shares: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores (N, C) of APS (Romano 2020) and RAPS (Angelopoulos 2021), no chance in them, the most likely class in."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ordered = np.take_along_axis(shares, order, axis=1)
    rank = np.argsort(order, axis=1, kind="stable")
    before = np.take_along_axis(np.cumsum(ordered, axis=1) - ordered, rank, axis=1)
    return {"APS": before, "RAPS, 0.02 from the third on": before + 0.02 * np.maximum(0, rank - 1)}


def _size(scores: NDArray[Any], y: NDArray[Any], known: NDArray[Any], new: NDArray[Any], coverage: float) -> float:
    most = calibrated_sets(scores[known, y[known]]).threshold(coverage)
    return float((scores[new] <= most).sum(axis=1).mean())


def strange(name: str, data: Data, others: dict[str, Floats], l2: float) -> dict[str, Any]:
    """The share of images of another kind that is flagged, and of its own test images, at `RATE`."""
    head = heads(data.train, int(data.train.y.max()) + 1, (l2,))[0]
    learnt = learn(data.train.X, data.train.y)
    known = learnt.calibrated(learnt.parts(data.val.X, logits_of(head, data.val.X)))

    def flagged(X: Floats) -> float:
        return float((known.rate(known.score(X, logits_of(head, X))) <= RATE).mean())

    size = sum(value.nbytes for value in known.arrays().values())
    row = {"bundle": name, "n_val": len(data.val.y), "n_test": len(data.test.y), "bytes": size}
    return {**row, "false_alarms": flagged(data.test.X), **{other: flagged(X) for other, X in others.items()}}


def held_out(data: Data, l2: float, draw: int) -> dict[str, tuple[float, float, float]]:
    """For each way to tell new classes: false alarms, share flagged at `RATE`, AUROC. `HELD` classes are not learnt."""
    out = np.random.default_rng(draw).choice(int(data.train.y.max()) + 1, HELD, replace=False)
    number = np.cumsum(~np.isin(np.arange(int(data.train.y.max()) + 1), out)) - 1

    def kept(part: Part) -> Part:
        left = part.take(~np.isin(part.y, out))
        return Part(left.X, number[left.y])

    train, val, test = kept(data.train), kept(data.val), kept(data.test)
    new = data.test.X[np.isin(data.test.y, out)]
    head = heads(train, int(train.y.max()) + 1, (l2,))[0]
    temperature = fit_temperature(logits_of(head, val.X), val.y)
    learnt = learn(train.X, train.y)
    known = learnt.calibrated(learnt.parts(val.X, logits_of(head, val.X)))
    ways = {
        "headway": lambda X: known.score(X, logits_of(head, X)),
        "kNN (Sun 2022), k = 10": lambda X: neighbours(train.X, X, 10),
        "kNN, k = 1": lambda X: neighbours(train.X, X, 1),
        "relative Mahalanobis (Ren 2021)": relative_mahalanobis(train),
        "maximum probability": lambda X: -probabilities(logits_of(head, X), temperature).max(axis=1),
    }
    found = {}
    for name, way in ways.items():
        calibration, own, other = way(val.X), way(test.X), way(new)
        found[name] = (_flagged(calibration, own), _flagged(calibration, other), auroc(own, other))
    return found


def neighbours(bank: Floats, X: Floats, k: int) -> NDArray[Any]:
    """Cosine distance to the k-th nearest of at most 5,000 training images."""
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in (bank[:5000], X)]
    near = (X / lengths[1]) @ (bank[:5000] / lengths[0]).T
    return np.asarray(-np.partition(near, -k, axis=1)[:, -k])


def relative_mahalanobis(train: Part) -> Any:
    """Smallest squared distance to a class under the covariance within classes, less that to the middle of all."""
    middle = train.X.mean(axis=0)
    means = np.stack([train.X[train.y == label].mean(axis=0) for label in range(int(train.y.max()) + 1)])

    def turn(rows: Floats) -> NDArray[Any]:
        covariance = rows.T.astype(np.float64) @ rows / len(rows)
        values, vectors = np.linalg.eigh(covariance)
        keep = values > 1e-6 * values[-1]
        return np.asarray(vectors[:, keep] / np.sqrt(values[keep]))

    within, whole = turn(train.X - means[train.y]), turn(train.X - middle)

    def way(X: Floats) -> NDArray[Any]:
        place, at = X @ within, means @ within
        near = np.square(place).sum(1)[:, None] + np.square(at).sum(1) - 2 * place @ at.T
        return np.asarray(near.min(axis=1) - np.square((X - middle) @ whole).sum(axis=1))

    return way


def _flagged(calibration: NDArray[Any], scores: NDArray[Any]) -> float:
    above = len(calibration) - np.searchsorted(np.sort(calibration), scores, side="left")
    return float(((above + 1) / (len(calibration) + 1) <= RATE).mean())


def auroc(own: NDArray[Any], other: NDArray[Any]) -> float:
    """The chance that an image of a new class is stranger than one of a known class; equal ones count half."""
    ordered = np.sort(own)
    ranks = np.searchsorted(ordered, other, "left") + np.searchsorted(ordered, other, "right")
    return float(ranks.mean() / (2 * len(own)))


def main() -> None:
    """Run all three, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cats", "blood", "cifar"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--train", type=int, default=10_000)
    asked = parser.parse_args()
    cats, blood = (read(place, "crop", asked.train) for place in (asked.cats, asked.blood))
    cifar = read(asked.cifar, "squash", asked.train)
    found: dict[str, Any] = {"sets": [], "unknown": []}
    for name, data in (("cats and dogs", cats), ("blood cells", blood), ("CIFAR-100", cifar)):
        for row in sets(name, data, asked.splits):
            print(
                f"sets     {name}, {row['n']:,} calibrate: promised {row['coverage']}, reached {row['reached']:.4f}, "
                f"deviation {row['deviation']:.4f} (by chance {row['by_chance']:.4f}), {row['size']:.2f} classes a set"
            )
            sizes = ", ".join(f"{way} {size:.2f}" for way, size in row["sizes"].items())
            print(f"         classes a set over {min(_COMPARED, asked.splits)} divisions: {sizes}")
            found["sets"].append(row)
    kinds = {"cats": (asked.cats, cats), "blood": (asked.blood, blood)}
    squashed = {name: read(place, "squash", asked.train).test.X for name, (place, _) in kinds.items()}
    small = read_some(asked.cifar)
    tasks = (
        ("cats and dogs", cats, {"blood cells": blood.train.X, "CIFAR-100": small}, 0.03),
        ("blood cells", blood, {"cats and dogs": cats.train.X, "CIFAR-100": small}, 0.1),
        ("CIFAR-100", cifar, {"cats and dogs": squashed["cats"], "blood cells": squashed["blood"]}, 0.01),
    )
    for name, data, others, l2 in tasks:
        row = strange(name, data, others, l2)
        print("unknown ", json.dumps(row))
        found["unknown"].append(row)
    draws = [held_out(cifar, 0.01, draw) for draw in range(asked.draws)]
    found["held_out"] = {way: np.array([draw[way] for draw in draws]).tolist() for way in (draws[0] if draws else {})}
    for way, values in found["held_out"].items():
        alarms, share, area = np.array(values).T
        spread = f"[{share.min():.3f}, {share.max():.3f}]"
        print(
            f"held out {way}: false alarms {alarms.mean():.3f}, flagged {share.mean():.3f} {spread}, "
            f"AUROC {area.mean():.4f} [{area.min():.3f}, {area.max():.3f}]"
        )
    print(json.dumps({"benchmark": "confidence", **found, "machine": machine(), "versions": versions()}))


def read_some(place: Path, n: int = 2000) -> Floats:
    """Features of test images of CIFAR-100, prepared as photos are."""
    from headway.events import drain
    from headway.features.extract import extract
    from headway.features.looking import Asked, get_ready
    from headway.machine import cache_folder

    dataset = headway.load_dataset(place)
    some = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(dataset.given == 2))[:n])
    with get_ready(dataset, some, Asked(fit="crop", resize=256), cache_folder()) as ready:
        features, _ = drain(extract(ready.readings, some, len(dataset), ready.store, ready.engine))
    return features.columns(("last",), some)


if __name__ == "__main__":
    main()
