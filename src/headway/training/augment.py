"""Training images changed at random. What happens to an image is a function of (seed, epoch, sample), of nothing else.

Pillow decodes, cuts and scales; the operations of TrivialAugment and RandAugment are torchvision's, on uint8 tensors.
Their random numbers are drawn here: torchvision's classes draw from torch's one generator, which all threads share.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare
from headway.errors import Refused, nearest

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("none", "flip", "crop", "trivial", "rand")
VERSION = 1  # of the rules below

_RATIO = (3 / 4, 4 / 3)  # width over height of a random crop (Szegedy et al. 2015, arXiv:1409.4842, section 6)
_TRIES = 10  # at a crop or a rectangle that fits
_ERASED = (0.02, 0.33)  # share of the image that is erased, and height over width of it (arXiv:1708.04896, section 5.1,
_ERASED_RATIO = (0.3, 3.3)  # with torchvision's upper bound)
_BINS = 31  # magnitudes of an operation
_RAND_OPS, _RAND_BIN = 2, 9  # of RandAugment: how many operations, and at which of the magnitudes

# Philox4x64-10, the multipliers and the key's increments (Salmon et al. 2011, "Parallel random numbers: as easy as
# 1, 2, 3", section 3.3).
_MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))
_INCREMENTS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_ROUNDS = 10


@dataclass(frozen=True)
class Augment:
    """How training images are changed.

    kind        none | flip: left to right, every second time | crop: random resized crop, and flip | trivial: those and
                TrivialAugment (wide) | rand: those and RandAugment
    crop_scale  smallest share of the image that a crop keeps, above 0, up to 1
    erase       chance, 0..1, that a rectangle is painted over with the mean colour
    """

    kind: str = "none"
    crop_scale: float = 0.35
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = nearest(self.kind, KINDS, 1) or ["none"]
            raise Refused(f"--augment {self.kind} is not known. Nearest: {near[0]}. Known: {', '.join(KINDS)}")
        if not 0 < self.crop_scale <= 1:
            raise Refused(f"--crop-scale {self.crop_scale:g}: expected a share above 0, up to 1")
        if not 0 <= self.erase <= 1:
            raise Refused(f"--erase {self.erase:g}: expected a chance from 0 to 1")

    @property
    def crops(self) -> bool:
        """Whether parts of the image are cut out, so that all of it is wanted, not the prepared input alone."""
        return self.kind in ("crop", "trivial", "rand")

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self.kind != "none" or self.erase > 0

    @property
    def computes(self) -> bool:
        """Whether torch computes on single images."""
        return self.kind in ("trivial", "rand")

    def shortest(self, preprocess: Preprocess) -> int:
        """The shorter side, in pixels, that a JPEG decoded at reduced scale must keep."""
        if not self.crops:
            return preprocess.draft
        # The narrowest crop of a square still has about as many pixels as the network reads.
        return math.ceil(preprocess.size / math.sqrt(self.crop_scale * _RATIO[0]))


def stream_of(seed: int, epoch: int) -> int:
    """What all samples of an epoch have in common, 0..2**64-1: half of the key of their generators."""
    return int.from_bytes(hashlib.blake2b(f"augment/{seed}/{epoch}".encode(), digest_size=8).digest(), "little")


def sample_generator(stream: int, key: int) -> np.random.Generator:
    """The generator of one sample in one epoch: Philox under the key (sample's key, `stream_of` the epoch)."""
    return np.random.Generator(np.random.Philox(key=np.array([key, stream], dtype=np.uint64)))


def flipped(stream: int, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For samples (n,) at once, whether the first draw of `sample_generator` is below 1/2, which mirrors: (n,) bool.

    That is so where the first bit of Philox's first word is 0.
    """
    k0, k1 = keys.astype(np.uint64), np.full(len(keys), stream, np.uint64)
    zero = np.zeros(len(keys), np.uint64)
    counter = (zero + np.uint64(1), zero, zero, zero)  # numpy counts before it draws
    for _ in range(_ROUNDS):
        high0, low0 = _product(_MULTIPLIERS[0], counter[0])
        high1, low1 = _product(_MULTIPLIERS[1], counter[2])
        counter = (high1 ^ counter[1] ^ k0, low1, high0 ^ counter[3] ^ k1, low0)
        k0, k1 = k0 + _INCREMENTS[0], k1 + _INCREMENTS[1]
    first: NDArray[np.bool_] = counter[0] >> np.uint64(63) == 0
    return first


def _product(a: np.uint64, b: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The 128 bits of a product of 64-bit numbers, as its higher and lower 64."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0, b1, b0 = a >> half, a & mask, b >> half, b & mask
    middle = a1 * b0 + ((a0 * b0) >> half)
    cross = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> half) + (cross >> half), a * b


def augmented(
    image: Image.Image | NDArray[np.uint8],
    augment: Augment,
    preprocess: Preprocess,
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """An upright RGB image, or its pixels (H, W, 3), changed and made the network's input: (S, S, 3) uint8."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    mirror = generator.random() < 0.5  # always the first draw, see `flipped`
    if augment.crops:
        whole = replace(preprocess, fit="squash", resize=None)
        pixels = prepare(image.crop(_crop_box(image.size, augment.crop_scale, generator)), whole)
    else:
        pixels = prepare(image, preprocess)
    if mirror and augment.kind != "none":
        pixels = pixels[:, ::-1]
    if augment.kind == "trivial":
        pixels = _changed(pixels, [draw_trivial(generator)])
    elif augment.kind == "rand":
        pixels = _changed(pixels, [draw_rand(generator, preprocess.size) for _ in range(_RAND_OPS)])
    if augment.erase and generator.random() < augment.erase:
        pixels = _erased(pixels, preprocess, generator)
    return np.ascontiguousarray(pixels)


def _crop_box(size: tuple[int, int], scale: float, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a random crop, as torchvision's RandomResizedCrop finds it."""
    width, height = size
    for _ in range(_TRIES):
        area = width * height * _between(scale, 1.0, generator)
        ratio = math.exp(_between(math.log(_RATIO[0]), math.log(_RATIO[1]), generator))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = _below(height - h + 1, generator), _below(width - w + 1, generator)
            return left, top, left + w, top + h
    w, h = width, height  # far from square: the middle, as near to it as a crop may be
    if width / height < _RATIO[0]:
        h = round(width / _RATIO[0])
    elif width / height > _RATIO[1]:
        w = round(height * _RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _erased(pixels: NDArray[np.uint8], preprocess: Preprocess, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Random erasing (Zhong et al. 2020, arXiv:1708.04896, algorithm 1): a rectangle in the mean colour."""
    height, width = pixels.shape[:2]
    for _ in range(_TRIES):
        area = height * width * _between(*_ERASED, generator)
        ratio = math.exp(_between(math.log(_ERASED_RATIO[0]), math.log(_ERASED_RATIO[1]), generator))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            top, left = _below(height - h + 1, generator), _below(width - w + 1, generator)
            painted = pixels.copy()
            painted[top : top + h, left : left + w] = [round(255 * channel) for channel in preprocess.mean]
            return painted
    return pixels


def _between(low: float, high: float, generator: np.random.Generator) -> float:
    return low + (high - low) * generator.random()


def _below(n: int, generator: np.random.Generator) -> int:
    return int(n * generator.random())


# Operations of TrivialAugment and RandAugment ---------------------------------------------------------------------

# name → (the greatest magnitude, whether it may be negative). Those not named have no magnitude.
_TRIVIAL: Mapping[str, tuple[float, bool]] = {
    **dict.fromkeys(("ShearX", "ShearY"), (0.99, True)),
    **dict.fromkeys(("TranslateX", "TranslateY"), (32.0, True)),  # pixels
    "Rotate": (135.0, True),  # degrees
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0.99, True)),
    "Posterize": (6.0, False),  # bits dropped
    "Solarize": (1.0, False),  # 1 - threshold
}
_RAND: Mapping[str, tuple[float, bool]] = {
    **dict.fromkeys(("ShearX", "ShearY"), (0.3, True)),
    **dict.fromkeys(("TranslateX", "TranslateY"), (150 / 331, True)),  # of the side
    "Rotate": (30.0, True),
    **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0.9, True)),
    "Posterize": (4.0, False),
    "Solarize": (1.0, False),
}
OPERATIONS = ("Identity", *_TRIVIAL, "AutoContrast", "Equalize")


@dataclass(frozen=True)
class Operation:
    """One change of an image: its name in OPERATIONS, and how strong (0 where there is no more or less of it).

    magnitude  ShearX, ShearY: the tangent; TranslateX, TranslateY: pixels; Rotate: degrees; Brightness, Color,
               Contrast, Sharpness: factor - 1; Posterize: bits kept; Solarize: threshold, 0..1
    """

    name: str
    magnitude: float = 0.0


def draw_trivial(generator: np.random.Generator) -> Operation:
    """One operation at one strength (Müller and Hutter 2021, arXiv:2103.10158, section 3, and table 1, "wide")."""
    name = OPERATIONS[_below(len(OPERATIONS), generator)]
    greatest, signed = _TRIVIAL.get(name, (0.0, False))
    magnitude = greatest * _below(_BINS, generator) / (_BINS - 1)
    return _operation(name, magnitude, signed and generator.random() <= 0.5)


def draw_rand(generator: np.random.Generator, side: int) -> Operation:
    """One of RandAugment's operations (Cubuk et al. 2020, arXiv:1909.13719, section 3), at magnitude 9 of 0..30.

    side  of the image, pixels: it is shifted by a share of it
    """
    name = OPERATIONS[_below(len(OPERATIONS), generator)]
    greatest, signed = _RAND.get(name, (0.0, False))
    greatest *= side if name.startswith("Translate") else 1
    return _operation(name, greatest * _RAND_BIN / (_BINS - 1), signed and generator.random() <= 0.5)


def _operation(name: str, strength: float, negative: bool) -> Operation:
    if name == "Posterize":
        return Operation(name, float(round(8 - strength)))
    if name == "Solarize":
        return Operation(name, 1.0 - strength)
    return Operation(name, -strength if negative else strength)


def _changed(pixels: NDArray[np.uint8], operations: list[Operation]) -> NDArray[np.uint8]:
    """The image (S, S, 3) after one operation and another."""
    import torch

    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).copy())  # (3, S, S)
    for operation in operations:
        planes = operate(planes, operation)
    changed: NDArray[np.uint8] = planes.permute(1, 2, 0).numpy()
    return changed


def operate(image: Tensor, operation: Operation) -> Tensor:
    """An image (3, H, W) uint8 after an operation. What comes from outside is black, and nearest pixels are taken."""
    from torchvision.transforms.v2 import functional

    name, magnitude = operation.name, operation.magnitude
    adjust: Mapping[str, Callable[[Tensor, float], Tensor]] = {
        "Brightness": functional.adjust_brightness_image,
        "Color": functional.adjust_saturation_image,
        "Contrast": functional.adjust_contrast_image,
        "Sharpness": functional.adjust_sharpness_image,
    }
    plain: Mapping[str, Callable[[Tensor], Tensor]] = {
        "Identity": lambda image: image,
        "AutoContrast": functional.autocontrast_image,
        "Equalize": functional.equalize_image,
    }
    if name in plain:
        return plain[name](image)
    if name in adjust:
        return adjust[name](image, 1.0 + magnitude)
    if name == "Posterize":
        return functional.posterize_image(image, int(magnitude))  # type: ignore[no-any-return]
    if name == "Solarize":
        return functional.solarize_image(image, 255 * magnitude)  # type: ignore[no-any-return]
    if name == "Rotate":
        return functional.rotate_image(image, magnitude)  # type: ignore[no-any-return]
    return _moved(image, name, magnitude)


def _moved(image: Tensor, name: str, magnitude: float) -> Tensor:
    """Sheared about its upper left corner, or shifted by whole pixels."""
    from torchvision.transforms.v2 import functional

    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    if name.startswith("Shear"):
        angle = math.degrees(math.atan(magnitude))  # torchvision takes the tangent of it again
        shear = [angle, 0.0] if name == "ShearX" else [0.0, angle]
        return functional.affine_image(image, **{**still, "shear": shear}, center=[0, 0])  # type: ignore[no-any-return]
    shift = [int(magnitude), 0] if name == "TranslateX" else [0, int(magnitude)]
    return functional.affine_image(image, **{**still, "translate": shift})  # type: ignore[no-any-return]
