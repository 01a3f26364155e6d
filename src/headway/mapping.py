"""The feature map of a run: where its test images lie in a plane through the features that the head reads."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import projections
from headway.assuring import Assured
from headway.auditing import content_ranks
from headway.data.dataset import SUBSETS, Dataset
from headway.evaluation.metrics import softmax
from headway.events import Detail, Event
from headway.settings import FitSettings
from headway.steps import Judgement, Made

SCHEMA = 1
MOST = 2_000  # images that are drawn
_PICTURES = 300  # thumbnails that the report carries for it, at most
_MISTAKES = 200  # of them, of mistakes
_FEWEST = 4  # images, and axes to choose two from: with fewer there is nothing to see


@dataclass(frozen=True)
class FeatureMap:
    """facts  the content of map.json;  pictured  names of its images whose thumbnails the report shows"""

    facts: dict[str, Any]
    pictured: tuple[str, ...]


def draw_map(
    dataset: Dataset, made: Made, judged: Judgement, assured: Assured, settings: FitSettings
) -> Generator[Event, None, FeatureMap | None]:
    """Lay some of the test images out in the plane; None where none is asked for or there are too few images.

    The axes are those of training images, which `assuring` found: no image that is drawn decides where it lies, but
    in UMAP's view.
    """
    known = assured.confidence.unknown
    part = next((part for part in judged.parts[1::-1] if len(part.indices) >= _FEWEST), None)  # test, else validation
    if settings.map == "none" or known is None or part is None or len(known.axes) < 2:
        return None
    started = time.monotonic()
    ranks = content_ranks(made.sight.contents, part.indices)
    rows = evenly(dataset.labels[part.indices], ranks, MOST)
    indices, classifier = part.indices[rows], made.classifier
    labels = dataset.labels[indices].astype(np.int64)
    features = made.sight.features.columns(classifier.head.taps, indices)  # (n, D)
    along = projections.along_axes(known, features)
    views = {"pca": projections.principal(known, along)}
    if len(known.means) > 1:
        views["discriminant"] = projections.discriminant(known, along)
    if settings.map == "umap":
        yield Detail("map", "UMAP is imported and fitted, which takes a while")
        found = projections.neighbourhood(known, along, settings.seed)
        views |= {"umap": found} if found is not None else {}
    counts = np.bincount(labels)
    k = max(1, min(projections.NEIGHBOURS, int(counts[counts > 0].min()) - 1))
    shares = softmax(part.logits[rows], classifier.temperature)  # (n, C)
    predicted = shares.argmax(axis=1)
    facts = {
        "schema": SCHEMA,
        "subset": SUBSETS[part.subset],
        "n": len(rows),
        "of": len(part.indices),
        "width": features.shape[1],
        "neighbours": k,
        "chance": projections.by_chance(labels),
        "features": projections.agreement(projections.directions(known, features), labels, k),
        "views": {name: _told(plane, labels, k) for name, plane in views.items()},
        "classes": list(dataset.classes),
        "names": [dataset.names[index] for index in indices.tolist()],
        "labels": labels.tolist(),
        "predicted": predicted.tolist(),
        "probabilities": [round(float(value), 4) for value in shares.max(axis=1)],
    }
    chosen = pictured(views["pca"].places, predicted != labels, shares.max(axis=1))
    yield Detail("map", f"{len(rows):,} images in {time.monotonic() - started:.1f} s")
    return FeatureMap(facts, tuple(dataset.names[index] for index in indices[chosen].tolist()))


def evenly(labels: NDArray[np.integer[Any]], ranks: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most `most` rows, ascending, of each label (n,) as many where it has them; those of the lowest ranks (n,)."""
    order = np.lexsort((ranks, labels))
    ordered = labels[order]
    place = np.arange(len(labels)) - np.searchsorted(ordered, ordered)  # of each row in its own class
    return np.sort(order[np.argsort(place, kind="stable")[:most]])


def _told(plane: projections.Plane, labels: NDArray[np.int64], k: int) -> dict[str, Any]:
    return {
        "held": [round(share, 6) for share in plane.held],
        "agreement": projections.agreement(plane.places, labels, k),
        "places": [[round(float(x), 3), round(float(y), 3)] for x, y in plane.places],
    }


def pictured(places: projections.Places, wrong: NDArray[np.bool_], confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows that are shown as pictures: mistakes, the surest first, then images from all over the map."""
    mistakes = np.flatnonzero(wrong)
    first = mistakes[np.argsort(-confidence[mistakes], kind="stable")[:_MISTAKES]]
    return projections.spread_out(places, first, _PICTURES)
