"""Heads as data: what was learnt on top of the features, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layer:
    """One linear layer: `x @ weight.T + bias`. weight (out, in) float32, bias (out,) float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """A trained head: linear layers with ReLU between them; any standardisation is folded into the first.

    spec    "linear" or "mlp:1024,256"
    taps    the feature columns it reads, side by side in this order
    layers  first layer reads (N, D), last gives logits (N, C)
    """

    spec: str
    taps: tuple[str, ...]
    layers: tuple[Layer, ...]

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) float32 features, the columns of `taps` → (N, C) float32 logits, before temperature."""
        hidden = features
        for position, layer in enumerate(self.layers):
            if position:
                hidden = np.maximum(hidden, 0)
            hidden = hidden @ layer.weight.T + layer.bias
        return hidden
