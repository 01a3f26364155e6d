"""Views: the same image shown differently. Each is cached like the plain one, so augmentation does not end caching."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare

VERSION = 1  # of the rules below; part of every cache key
_AREA = (0.35, 1.0)  # share of the image that a random crop keeps
_RATIO = (3 / 4, 4 / 3)  # width over height of a random crop (Szegedy et al. 2015, arXiv:1409.4842, section 6)


@dataclass(frozen=True)
class View:
    """`flip` (left to right), or `crop`: a random resized crop, a function of (seed, number, content) alone."""

    kind: str
    seed: int = 0
    number: int = 0

    @property
    def key(self) -> str:
        return self.kind if self.kind == "flip" else f"{self.kind}:{self.seed}:{self.number}"


def parse_views(asked: str | int | None, seed: int) -> tuple[View, ...]:
    """`flip` → that view; K → K random crops; None → none."""
    if asked is None or asked == 0:
        return ()
    if asked == "flip":
        return (View("flip"),)
    return tuple(View("crop", seed, number) for number in range(int(asked)))


def prepare_view(image: Image.Image, preprocess: Preprocess, view: View | None, digest: bytes) -> NDArray[np.uint8]:
    """An upright RGB image as the network's input under `view`: (S, S, 3) uint8. `digest` is the content's sha256."""
    if view is None:
        return prepare(image, preprocess)
    if view.kind == "flip":
        return np.ascontiguousarray(prepare(image, preprocess)[:, ::-1])
    box, flip = _random_crop(image.size, view, digest)
    whole = Preprocess(preprocess.size, None, "squash", preprocess.interpolation, preprocess.mean, preprocess.std)
    cut = prepare(image.crop(box), whole)
    return np.ascontiguousarray(cut[:, ::-1]) if flip else cut


def shortest_side(preprocess: Preprocess, view: View | None) -> int:
    """The shorter side, in pixels, that a JPEG decoded at reduced scale must keep to be shown under `view`."""
    if view is None or view.kind == "flip":
        return preprocess.draft
    # The narrowest random crop of a square still has about as many pixels as the network reads.
    return math.ceil(preprocess.size / math.sqrt(_AREA[0] * _RATIO[0]))


def _random_crop(size: tuple[int, int], view: View, digest: bytes) -> tuple[tuple[int, int, int, int], bool]:
    seed = hashlib.sha256(f"{view.seed}:{view.number}:".encode() + digest).digest()
    generator = np.random.default_rng(int.from_bytes(seed[:16], "little"))
    width, height = size
    area = width * height * generator.uniform(*_AREA)
    ratio = math.exp(generator.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
    w = min(width, max(1, round(math.sqrt(area * ratio))))
    h = min(height, max(1, round(math.sqrt(area / ratio))))
    left, top = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
    return (left, top, left + w, top + h), bool(generator.integers(0, 2))
