"""A small convolutional network for small images, random weights: 846,308 parameters with its usual head (mlp:256)."""

from __future__ import annotations

import torch
from torch import nn

from headway.errors import Refused

CHANNELS = (16, 32, 64, 128, 512)
REDUCTION = 2 ** len(CHANNELS)  # each block halves the side


class SmallCnn(nn.Module):
    """Normalised images (B, 3, S, S) → float32 features (B, 512 · (S / 32)²), S a multiple of 32.

    Five blocks of convolution 3×3 (padding 1), ReLU, BatchNorm, max-pool 2. It has no classifier of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks = [_block(before, after) for before, after in zip((3, *CHANNELS), CHANNELS, strict=False)]
        self.blocks = nn.Sequential(*blocks)
        self.flatten = nn.Flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.flatten(self.blocks(x))  # (B, 512, S/32, S/32) → (B, D)
        return features

    def reset_classifier(self, num_classes: int) -> None:
        """As timm's networks have it; here is nothing to take off."""


def build_cnn(image: int) -> SmallCnn:
    """The network for images of `image` pixels a side. Raises Refused for a side that cannot be halved five times."""
    check_side(image)
    return SmallCnn()


def check_side(image: int) -> None:
    """Raise Refused unless the side can be halved five times."""
    if image < REDUCTION or image % REDUCTION:
        near = max(1, round(image / REDUCTION)) * REDUCTION
        raise Refused(
            f"--image {image}: the backbone cnn halves its images five times, so that their side must be a multiple "
            f"of {REDUCTION}. Nearest: --image {near}"
        )


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.ReLU(inplace=True),  # the same bits, and 13 MB less to move in the first block of 200 images
        nn.BatchNorm2d(after),
        nn.MaxPool2d(2),
    )
