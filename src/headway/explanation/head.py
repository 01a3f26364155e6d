"""The head of a bundle as its graph holds it, and the gradient of one logit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.explanation.graph import Graph

_PREFIX = "headway.head"  # as `grafting` names the head's layers


@dataclass(frozen=True)
class Head:
    """Linear layers with ReLU between them: weights (out, in) and biases (out,), float32."""

    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def gradient(self, features: NDArray[np.float32], label: int) -> NDArray[np.float64]:
        """(D,) features → (D,): how the logit of class `label`, before temperature, changes with each of them."""
        active, hidden = [], features.astype(np.float64)
        for weight, bias in self.layers[:-1]:
            hidden = weight @ hidden + bias
            active.append(hidden > 0)
            hidden = np.maximum(hidden, 0)
        gradient: NDArray[np.float64] = self.layers[-1][0][label].astype(np.float64)
        for (weight, _), on in zip(reversed(self.layers[:-1]), reversed(active), strict=True):
            gradient = (gradient * on) @ weight
        return gradient


def read_head(graph: Graph) -> Head:
    """Raises KeyError where the graph has no head that headway wrote."""
    count = sum(name.startswith(f"{_PREFIX}.") and name.endswith(".weight") for name in graph.tensors)
    if not count:
        raise KeyError(_PREFIX)
    names = [f"{_PREFIX}.{position}" for position in range(count)]
    return Head(tuple((graph.array(f"{name}.weight"), graph.array(f"{name}.bias")) for name in names))
