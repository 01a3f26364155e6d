"""Bundles of networks that torch can build again: timm's own test networks with random weights."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from headway.backbones.preprocess import prepare
from headway.exports import Samples, write_bundle
from headway.training.classifier import Classifier
from headway.training.heads import Head, Layer
from tests import make
from tests.backbones.networks import Prepared, prepared_once

CLASSES = ("cat", "dog", "owl\nor hawk")


def bundle_of(network: Prepared, folder: Path, taps: tuple[str, ...], hidden: tuple[int, ...] = ()) -> Path:
    """A bundle of `network` with a random head that tells the pictures of `make.image` apart, in `folder`."""
    trunk, engine = network.files, network.session().open(network.files, "torch")
    pixels = np.stack([prepare(make.image(kind, 7, (90, 70)), trunk.preprocess) for kind in range(6)])
    found = engine.run(pixels)
    features = np.concatenate([found[tap] for tap in taps], axis=1)  # (6, D)
    rng, widths = np.random.default_rng(3), [features.shape[1], *hidden, len(CLASSES)]
    layers = [
        Layer(rng.normal(0, 0.3, (b, a)).astype(np.float32), np.zeros(b, np.float32)) for a, b in pairwise(widths)
    ]
    deviation = features.std(axis=0) + 1e-3
    first = (layers[0].weight / deviation).astype(np.float32)
    layers[0] = Layer(first, -(first @ features.mean(axis=0)))
    head = Head(f"mlp:{hidden[0]}" if hidden else "linear", taps, tuple(layers))
    made = Classifier(trunk, trunk.preprocess, head, 1.3, CLASSES)
    write_bundle(made, folder, samples=Samples(pixels, head.logits(features)), card={"name": "toys"}, threads=1)
    return folder


@pytest.fixture(scope="session")
def linear(shared_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head on the last tap: its tensors bear the name of the network's own classifier."""
    network = prepared_once(shared_networks, "test_resnet")
    return bundle_of(network, tmp_path_factory.mktemp("flowers-1") / "bundle", ("last",))


@pytest.fixture(scope="session")
def deep(shared_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of two layers that reads three taps."""
    network = prepared_once(shared_networks, "test_efficientnet")
    return bundle_of(network, tmp_path_factory.mktemp("deep") / "bundle", ("stage1_std", "last", "stage2_mean"), (8,))
