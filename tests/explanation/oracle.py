"""Torch's network of the toy bundle, for captum to explain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from headway.training.classifier import Classifier
from tests.deployment import toys


class Net(nn.Module):
    """The same network as `toys.torch_features`, in modules, with its head on top: images (B, 16, 16, 3) → logits."""

    def __init__(self, made: Classifier) -> None:
        super().__init__()
        stored = load_file(made.trunk.tensors)
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU())
        for layer, name in ((self.one[0], "conv1"), (self.two[0], "conv2")):
            layer.load_state_dict({part: stored[f"{name}.{part}"] for part in ("weight", "bias")})
        self.made = made

    def forward(self, image: Tensor) -> Tensor:
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (toys.MEAN, toys.STD))
        one = self.one((image.permute(0, 3, 1, 2) / 255 - mean) / std)
        two = self.two(one)
        taps = {
            "last": two.mean((2, 3)),
            "stage1_mean": one.mean((2, 3)),
            "stage1_std": (one.var((2, 3), correction=0) + 1e-6).sqrt(),
        }
        hidden = torch.cat([taps[name] for name in self.made.head.taps], dim=1)
        for position, layer in enumerate(self.made.head.layers):
            hidden = torch.relu(hidden) if position else hidden
            hidden = nn.functional.linear(hidden, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))
        return hidden


def captums(made: Classifier, layer: str, image: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """Grad-CAM of one (16, 16, 3) image at the layer "one" or "two" by captum: (h, w)."""
    net = Net(made).eval()
    asked = LayerGradCam(net, getattr(net, layer))
    found = asked.attribute(torch.from_numpy(image[None]).float(), target=label, relu_attributions=True)
    values: NDArray[np.float32] = found[0, 0].detach().numpy()
    return values


def bundle(folder: Path, taps: tuple[str, ...], hidden: tuple[int, ...] = ()) -> tuple[Path, Classifier]:
    """A toy bundle, and the classifier that it was made of."""
    return toys.bundle(folder, taps, hidden), toys.classifier(folder / "again", taps, hidden)
