"""Estimators on a tiny network with random weights, by the one engine whose bits are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from headway.ecosystem.classifier import HeadwayClassifier
from headway.ecosystem.features import HeadwayFeatures

CLASSES = ("circle", "square", "triangle")
LOOK: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "none",
    "image": 64,
    "threads": 1,
    "engine": "onnxruntime",
    "device": "cpu",
}
KINDS = ("paths", "pictures", "arrays")


def classifier(**parameters: Any) -> HeadwayClassifier:
    """With taps and L2 given, so that a fit takes hundredths of a second; `chooses` has them chosen."""
    return HeadwayClassifier(**{**LOOK, "l2": 0.1, "taps": "last", **parameters})


def chooses(**parameters: Any) -> HeadwayClassifier:
    return HeadwayClassifier(**{**LOOK, **parameters})


def features(**parameters: Any) -> HeadwayFeatures:
    return HeadwayFeatures(**{**LOOK, **parameters})


def forward_passes(cache: Path) -> int:
    """Images that went through a network, in every engine, view and process that used this cache: rows of its shards.

    A row is written for each forward pass, and never for what the store held already.
    """
    return sum(pq.read_metadata(path).num_rows for path in (cache / "features").rglob("*.parquet"))


def answer(estimator: Any, X: Any) -> Any:
    """What a fitted one says of the images X: features, or probabilities."""
    return estimator.transform(X) if isinstance(estimator, HeadwayFeatures) else estimator.predict_proba(X)
