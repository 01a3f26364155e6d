"""What a search of scikit-learn over head settings costs: GridSearchCV, 5 folds and 8 values of L2, on images.

python -m benchmarks.sklearn_search DATA [--images 1000] [--cache FOLDER]

DATA is a folder with a folder per class. Every one of the 41 fits and 40 judgements begins with image files; the
network sees each image once, and the rest is read back. Printed: images that went through the network (rows of the
cache), seconds of the first pass alone, and of the whole search after it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.model_selection import GridSearchCV

from benchmarks.told import tell
from headway.data.walk import find_images
from headway.ecosystem.classifier import HeadwayClassifier

FOLDS, L2S = 5, np.geomspace(1e-4, 3.0, 8)


def passes(cache: Path) -> int:
    """Images that went through a network: rows of the shards in the cache."""
    return sum(pq.read_metadata(path).num_rows for path in (cache / "features").rglob("*.parquet"))


def search(paths: list[str], y: list[str], cache: Path) -> None:
    """The pass with one fit, then the search."""
    start = time.perf_counter()
    first = HeadwayClassifier(l2=0.01, taps="last", cache_dir=cache).fit(paths, y)
    fitted = time.perf_counter()
    found = GridSearchCV(HeadwayClassifier(taps="last", cache_dir=cache), {"l2": L2S}, cv=FOLDS).fit(paths, y)
    done = time.perf_counter()
    tell(
        "sklearn_search",
        {"the first fit, with the pass": [fitted - start], "the search after it": [done - fitted]},
        "s",
        images=len(paths),
        fits=1 + FOLDS * len(L2S),
        judgements=FOLDS * len(L2S),
        images_asked_for=len(paths) * (FOLDS * len(L2S) + 1),
        images_through_the_network=passes(cache),
        computed_by_the_first_fit=first.pass_["computed"],
        accuracy=float(found.best_score_),
        l2=float(found.best_params_["l2"]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="how many of them, evenly spread")
    parser.add_argument("--cache", type=Path, help="a cache folder; a new one where it is left out")
    asked = parser.parse_args()
    root = asked.data.resolve()
    found = find_images(root).paths
    names = found[:: max(1, len(found) // asked.images)][: asked.images]
    with tempfile.TemporaryDirectory() as own:
        cache = (asked.cache or Path(own)).resolve()
        search([str(root / name) for name in names], [name.split("/")[-2] for name in names], cache)


if __name__ == "__main__":
    main()
