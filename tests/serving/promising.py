"""A toy bundle that promises: prediction sets and unknown images, calibrated on random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headway.deployment.confidence import Confidence
from headway.deployment.predictor import probabilities
from headway.deployment.sets import calibrated_sets, class_scores
from headway.exports import write_bundle
from headway.novelty import learn
from tests.deployment import toys

N = 150  # enough for a coverage of 0.95 and a false-alarm rate of 0.01


def promising_bundle(folder: Path) -> Path:
    """`toys.bundle` with sets and unknown images."""
    made = toys.classifier(folder / "trunk")
    pixels = toys.images(N, seed=3)
    features = toys.torch_features(made, pixels)
    logits = made.head.logits(features)
    labels = np.arange(N) % len(toys.CLASSES)
    shares = probabilities(logits, made.temperature)
    known = learn(features, labels)
    confidence = Confidence(
        calibrated_sets(class_scores(shares)[np.arange(N), labels]), known.calibrated(known.parts(features, logits))
    )
    write_bundle(
        made, folder / "bundle", samples=toys.samples(made), card={"name": "toys"}, threads=1, confidence=confidence
    )
    return folder / "bundle"
