"""Bundles of timm's tiny networks with random weights and heads, and the same in torch."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.deployment.bundle import Bundle, load_bundle
from headway.exports import Samples, write_bundle
from headway.training.classifier import Classifier
from headway.training.heads import Head, Layer
from tests.backbones.networks import Prepared

CLASSES = tuple("abcde")


class Net(nn.Module):
    """The trunk with a head: images (B, S, S, 3) → logits (B, 5)."""

    def __init__(self, prepared: Prepared, head: Head) -> None:
        super().__init__()
        self.trunk = prepared.session().module()
        self.head = head
        self.names = [tap.name for tap in prepared.files.taps]

    def forward(self, image: Tensor) -> Tensor:
        taps = dict(zip(self.names, self.trunk(image), strict=True))
        hidden = torch.cat([taps[name] for name in self.head.taps], dim=1)
        for position, layer in enumerate(self.head.layers):
            hidden = torch.relu(hidden) if position else hidden
            hidden = nn.functional.linear(hidden, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))
        return hidden


def bundle(
    prepared: Prepared, folder: Path, taps: tuple[str, ...] = ("last",), hidden: tuple[int, ...] = ()
) -> tuple[Bundle, Net]:
    """A bundle in folder/bundle and its network."""
    rng = np.random.default_rng(0)
    dims = {tap.name: tap.dim for tap in prepared.files.taps}
    widths = [sum(dims[tap] for tap in taps), *hidden, len(CLASSES)]
    layers = tuple(_layer(rng, out, inner) for inner, out in pairwise(widths))
    head = Head("linear", taps, layers)
    net, preprocess = Net(prepared, head).eval(), prepared.files.preprocess
    pixels = images(4, preprocess.size)
    with torch.no_grad():
        logits: NDArray[np.float32] = net(torch.from_numpy(pixels)).numpy()
    made = Classifier(prepared.files, preprocess, head, 1.0, CLASSES)
    folder.mkdir(parents=True, exist_ok=True)
    write_bundle(made, folder / "bundle", samples=Samples(pixels, logits), card={}, threads=1)
    return load_bundle(folder / "bundle", threads=1), net


def _layer(rng: np.random.Generator, out: int, inner: int) -> Layer:
    weight, bias = rng.normal(0, 1 / inner**0.5, (out, inner)), rng.normal(0, 0.1, out)
    return Layer(weight.astype(np.float32), bias.astype(np.float32))


def images(n: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
