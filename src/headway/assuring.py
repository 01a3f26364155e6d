"""How far a classifier can be trusted: prediction sets and unknown images, calibrated on validation images."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import Dataset, Split
from headway.deployment.confidence import Confidence
from headway.deployment.predictor import probabilities
from headway.deployment.sets import calibrated_sets, class_scores
from headway.deployment.unknown import ARRAYS, Unknown
from headway.evaluation.intervals import wilson
from headway.events import Event, Line
from headway.features.derived import place_of
from headway.features.extract import Features
from headway.novelty import RULES, learn
from headway.steps import Judgement, Made, Sight, chosen_by_content, logits_of, train_sample
from headway.telling import told_trust
from headway.training.classifier import Classifier

COVERAGES, RATES = (0.9, 0.95), (0.01, 0.05)  # at which it is tried; a bundle answers any that n allows
_BLOCK = 4096
_MOST = 1 << 25  # numbers of training features that are looked at: 128 MB


@dataclass(frozen=True)
class Assured:
    """What a bundle carries of it, and what it came to on the test images (`tried`)."""

    confidence: Confidence
    found: dict[str, Any]


def assure(dataset: Dataset, made: Made, split: Split, judged: Judgement) -> Generator[Event, None, Assured]:
    """Calibrate on validation images, then see on the test images what the promises come to."""
    classifier = made.classifier
    confidence = calibrate(dataset, made.sight, split, classifier)
    assert confidence.unknown is not None
    test = judged.parts[1]
    shares = probabilities(test.logits, classifier.temperature)
    parts = _parts(confidence.unknown, made.sight.features, classifier, test.indices)
    found = tried(confidence, shares, dataset.labels[test.indices], confidence.unknown.added_up(parts))
    yield Line("trust", told_trust(found))
    return Assured(confidence, found)


def calibrate(dataset: Dataset, sight: Sight, split: Split, classifier: Classifier) -> Confidence:
    """Prediction sets and statistics of what is known: learnt from training images, calibrated on validation images.

    Of more training images than are judged (`steps.TRAIN_JUDGED`), those that are judged; of very wide features fewer.
    """
    labels, features, taps = dataset.labels, sight.features, classifier.head.taps
    logits = logits_of(classifier, features, split.val)  # (n, C)
    scores = class_scores(probabilities(logits, classifier.temperature))
    own = scores[np.arange(len(split.val)), labels[split.val]]
    width = classifier.head.layers[0].weight.shape[1]
    train = chosen_by_content(sight.contents, train_sample(sight.contents, split), max(1, _MOST // width))
    learnt = _learnt(sight.ready.session.cache, features.columns(taps, train), labels[train])
    return Confidence(calibrated_sets(own), learnt.calibrated(_parts(learnt, features, classifier, split.val)))


def _learnt(cache: Path, features: NDArray[np.float32], labels: NDArray[Any]) -> Unknown:
    """`novelty.learn`, as it learnt of the same images before."""
    place = place_of(cache, "unknown", RULES, features, labels)
    found = place.read()
    if found is None:
        learnt = learn(features, labels)
        place.write(learnt.arrays())
        return learnt
    return Unknown(0, **{name: found[name] for name in ARRAYS})


def _parts(
    unknown: Unknown, features: Features, classifier: Classifier, indices: NDArray[np.intp]
) -> NDArray[np.float64]:
    """`Unknown.parts` (3, n) of samples, from their features, a block of them in memory at a time."""
    blocks = [np.empty((3, 0))]
    for start in range(0, len(indices), _BLOCK):
        seen = features.columns(classifier.head.taps, indices[start : start + _BLOCK])
        blocks.append(unknown.parts(seen, classifier.head.logits(seen)))
    return np.concatenate(blocks, axis=1)


def tried(
    confidence: Confidence, shares: NDArray[np.float64], labels: NDArray[Any], strange: NDArray[np.float64]
) -> dict[str, Any]:
    """What the promises come to on images that took no part in them, as plain JSON.

    shares   (n, C) probabilities;  labels (n,);  strange (n,) of `Unknown.score`

    {"n": images it was calibrated on, "most": largest coverage, "least": smallest false-alarm rate that n allows,
    "sets": [{"coverage", "n", "reached", "interval", "size"}], "unknown": [{"rate", "n", "flagged", "interval"}]};
    levels that n does not allow are left out.
    """
    found: dict[str, Any] = {"n": 0, "most": None, "least": None, "sets": [], "unknown": []}
    n, sets, unknown = len(labels), confidence.sets, confidence.unknown
    if sets is not None:
        scores = class_scores(shares)
        own = scores[np.arange(n), labels]
        found |= {"n": sets.n, "most": sets.most}
        for coverage in (level for level in COVERAGES if sets.promises(level)):
            most = sets.threshold(coverage)
            told = {"coverage": coverage, "n": n, **_share("reached", own <= most)}
            found["sets"].append({**told, "size": float((scores <= most).sum() / n)})
    if unknown is not None:
        rates = unknown.rate(strange)
        found |= {"n": unknown.n, "least": unknown.least}
        for level in (level for level in RATES if level >= unknown.least):
            found["unknown"].append({"rate": level, "n": n, **_share("flagged", rates <= level)})
    return found


def _share(name: str, true: NDArray[np.bool_]) -> dict[str, Any]:
    share = float(true.mean())
    return {name: share, "interval": list(wilson(share, len(true)))}
