"""Heads as torch modules: how one is built, what weights it has, and the standardising before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.training.dropout import Dropout
from headway.training.heads import Layer


def build_head(width: int, hidden: tuple[int, ...], dropouts: tuple[float, ...], n_classes: int) -> nn.Sequential:
    """Features (B, width) → logits (B, n_classes): dropout, linear, ReLU for each hidden layer, then linear.

    Weights and biases start as torch.nn.Linear starts them, from torch's own random numbers.
    """
    layers: list[nn.Module] = []
    for units, dropout in zip(hidden, dropouts, strict=True):
        if dropout:
            layers.append(Dropout(dropout))
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    layers.append(nn.Linear(width, n_classes))
    return nn.Sequential(*layers)


def head_layers(head: nn.Module) -> tuple[Layer, ...]:
    """The linear layers of a head, in order, as plain arrays; a Standardise before them is folded into the first."""
    linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
    layers = [Layer(_plain(module.weight), _plain(module.bias)) for module in linear]
    first = next((module for module in head.modules() if isinstance(module, Standardise)), None)
    if first is not None:
        layers[0] = first.folded(layers[0])
    return tuple(layers)


def set_layers(head: nn.Module, layers: Sequence[Layer]) -> None:
    """Give a head the weights of `layers`. Raises ValueError where their number or shapes differ."""
    linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
    have, given = [tuple(module.weight.shape) for module in linear], [layer.weight.shape for layer in layers]
    if have != given:
        raise ValueError(f"layers of shapes {given} for a head of {have}")
    with torch.no_grad():
        for module, layer in zip(linear, layers, strict=True):
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(layer.weight)))
            module.bias.copy_(torch.from_numpy(np.ascontiguousarray(layer.bias)))


class Standardise(nn.Module):
    """(x - mean) * scale, of each feature: (B, D) → (B, D). Fixed; scale 0 for a constant one."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean).mul_(self.scale)

    def folded(self, layer: Layer) -> Layer:
        """`layer`, which reads what this gives, as one that reads raw features."""
        raw = layer.weight * self.scale.cpu().numpy()
        shift = raw.astype(np.float64) @ self.mean.cpu().numpy().astype(np.float64)
        return Layer(raw, (layer.bias.astype(np.float64) - shift).astype(np.float32))


def _plain(tensor: Tensor) -> NDArray[np.float32]:
    plain: NDArray[np.float32] = tensor.detach().cpu().to(torch.float32).numpy().copy()
    return plain
