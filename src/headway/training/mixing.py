"""Images mixed in pairs: mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headway.errors import Refused
from headway.training.batches import seed_of


@dataclass(frozen=True)
class Mix:
    """How one batch is mixed: a function of seed, epoch and batch.

    cut       CutMix (a rectangle of the other image), else mixup (a weighted mean)
    share     λ ~ Beta(a, a): how much of the own image stays
    centre    of the rectangle, 0..1 of height and width
    partners  (b,) for each image of the batch, its other: a position in the batch
    """

    cut: bool
    share: float
    centre: tuple[float, float]
    partners: NDArray[np.intp]


def draw(mixup: float, cutmix: float, n: int, *parts: int | str) -> Mix | None:
    """How a batch of `n` images is mixed; None where both are 0. With both, each has the batch with chance 1/2."""
    if not mixup and not cutmix:
        return None
    random = np.random.default_rng(seed_of(*parts, "mix"))
    cut = bool(random.random() < 0.5) if mixup and cutmix else bool(cutmix)
    spread = cutmix if cut else mixup
    share = float(random.beta(spread, spread))
    centre = (float(random.random()), float(random.random()))
    return Mix(cut, share, centre, random.permutation(n).astype(np.intp))


def blend(mix: Mix, images: Tensor, others: Tensor) -> tuple[Tensor, float]:
    """Each image (b, ...) with its other (b, ...); returns them and how much of the own label counts.

    Mixup gives float32. CutMix takes (b, H, W, 3) or (b, C, H, W) and keeps their type; λ becomes the exact share of
    the area, as in the authors' code.
    """
    if not mix.cut:
        return torch.lerp(others.to(torch.float32), images.to(torch.float32), mix.share), mix.share
    if images.ndim != 4:
        raise Refused(f"--cutmix cuts rectangles out of images, but was given {tuple(images.shape)}. Try --mixup")
    down, across = (1, 2) if images.shape[-1] == 3 else (2, 3)
    top, bottom = _side(images.shape[down], mix.centre[0], mix.share)
    left, right = _side(images.shape[across], mix.centre[1], mix.share)
    window = [slice(None)] * 4
    window[down], window[across] = slice(top, bottom), slice(left, right)
    mixed = images.clone()
    mixed[tuple(window)] = others[tuple(window)]
    area = (bottom - top) * (right - left) / (images.shape[down] * images.shape[across])
    return mixed, 1 - area


def _side(length: int, centre: float, share: float) -> tuple[int, int]:
    """Where the rectangle begins and ends: of relative side sqrt(1 - λ), cut off at the edges."""
    half = int(length * (1 - share) ** 0.5) // 2
    middle = int(centre * length)
    return max(0, middle - half), min(length, middle + half)
