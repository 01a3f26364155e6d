"""How well planted label errors are found: python -m benchmarks.planted_label_errors FOLDER [--share 0.05] [--seeds 3]

A share of the labels of FOLDER is flipped, each to a class drawn from the others; features come from the cache or from
one pass. Told, over several draws: AUROC of headway's ranking, the share of planted errors among the first k (k = as
many as were planted), how many are flagged and how many of those were planted, and the share that is said to be wrong.
Beside it cleanlab's rankings of the same out-of-fold probabilities, where it is installed (the extra [bench]). The
data's own label errors count as false alarms here: with --share 0 one sees how many are flagged.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.told import tell
from headway.auditing import content_ranks, held_features, look
from headway.data.dataset import Dataset
from headway.data.sources import load_dataset
from headway.data.split import units_of
from headway.events import drain
from headway.machine import cache_folder, memory_bytes
from headway.quality.folds import FOLDS, deal
from headway.quality.labels import Judged, Material, confidence, find_label_errors, out_of_fold
from headway.settings import fit_settings
from headway.steps import Sight

Scores = NDArray[np.floating[Any]]


def auroc(scores: Scores, planted: NDArray[np.bool_]) -> float:
    """The chance that a planted error is more suspect than another label, ties counted half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n, m = int(planted.sum()), int((~planted).sum())
    return float((ranks[planted].sum() - n * (n + 1) / 2) / (n * m))


def precision_at_k(scores: Scores, planted: NDArray[np.bool_]) -> float:
    """Of the k most suspect labels, the share that was planted; k = the number planted."""
    first = np.argsort(-scores, kind="stable")[: int(planted.sum())]
    return float(planted[first].mean())


def flipped(labels: NDArray[np.int32], n_classes: int, share: float, seed: int) -> NDArray[np.int32]:
    """Labels of which a share became another class."""
    rng, found = np.random.default_rng(seed), labels.copy()
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    found[rows] = (labels[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    return found


def judge(sight: Sight, dataset: Dataset, indices: NDArray[np.intp], labels: NDArray[np.int32]) -> Judged:
    """Out-of-fold probabilities of the labels (n,), as headway audit makes them."""
    known = np.zeros(len(dataset), bool)
    known[indices] = True
    units, ranks = units_of(dataset, sight.contents, known)[indices], content_ranks(sight.contents, indices)
    dim = next(tap.dim for tap in sight.features.taps if tap.name == "last")
    fold = deal(labels, units, ranks, FOLDS)
    read = held_features(sight.features, indices)
    return drain(out_of_fold(Material(read, indices, labels, fold, len(dataset.classes), dim, memory_bytes())))


def rivals() -> Mapping[str, Callable[[Judged], Scores]]:
    """cleanlab's rankings, as they are used; none where it is not installed."""
    if find_spec("cleanlab") is None:
        print("cleanlab is not installed: pip install 'headway[bench]'")
        return {}
    from cleanlab.rank import get_label_quality_scores

    def ranking(method: str) -> Callable[[Judged], Scores]:
        return lambda judged: (
            -np.asarray(
                get_label_quality_scores(
                    judged.labels.astype(np.int64), judged.probabilities.astype(float), method=method
                )
            )
        )

    return {f"cleanlab {method}": ranking(method) for method in ("self_confidence", "normalized_margin")}


def flagged_by_cleanlab(judged: Judged) -> NDArray[np.intp]:
    """What cleanlab's own filter flags, rows."""
    from cleanlab.filter import find_label_issues

    found: NDArray[np.intp] = find_label_issues(
        judged.labels.astype(np.int64),
        judged.probabilities.astype(float),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return found


def measured(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Every figure of every draw."""
    dataset = load_dataset(arguments.folder)
    sight = drain(look(dataset, fit_settings(arguments.folder), cache_folder()))
    indices = np.flatnonzero(sight.contents.accepted & (dataset.labels >= 0))
    if arguments.images and arguments.images < len(indices):
        indices = np.sort(np.random.default_rng(0).choice(indices, arguments.images, replace=False))
    true, ways, rows = dataset.labels[indices], rivals(), dict[str, list[float]]()
    for seed in range(arguments.seeds):
        labels = flipped(true, len(dataset.classes), arguments.share, seed)
        planted, start = labels != true, time.perf_counter()
        judged = judge(sight, dataset, indices, labels)
        found = find_label_errors(judged)
        seconds = time.perf_counter() - start
        figures = {"seconds": seconds, "images": len(indices), "planted": int(planted.sum()), "L2": judged.l2}
        scores = {"headway": -confidence(judged), **{name: way(judged) for name, way in ways.items()}}
        for name, score in scores.items():
            if planted.any():
                figures |= {
                    f"AUROC, {name}": auroc(score, planted),
                    f"precision at k, {name}": precision_at_k(score, planted),
                }
        flags = {"headway": np.searchsorted(indices, found.indices[: found.likely])}
        if ways:
            flags["cleanlab"] = flagged_by_cleanlab(judged)
        for name, own in flags.items():
            figures[f"flagged, {name}"] = len(own)
            if planted.any():
                figures[f"share of flagged that was planted, {name}"] = float(planted[own].mean()) if len(own) else 1.0
                figures[f"share of planted that is flagged, {name}"] = float(planted[own].sum() / planted.sum())
        figures["share said to be wrong, headway"] = found.expected or 0.0
        figures["accuracy of the heads, out of fold"] = float((judged.predicted == true).mean())
        for name, value in figures.items():
            rows.setdefault(name, []).append(float(value))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are flipped; 0 = none")
    parser.add_argument("--seeds", type=int, default=3, help="draws")
    parser.add_argument("--images", type=int, default=0, help="judge so many of the images; 0 = all")
    arguments = parser.parse_args()
    tell("planted_label_errors", measured(arguments), "", folder=arguments.folder, share=arguments.share)


if __name__ == "__main__":
    main()
