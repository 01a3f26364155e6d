"""The one function from a decoded image to the network's input. numpy and Pillow only: bundles use it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["crop", "squash", "pad"]
VERSION = 2  # of the rules below; part of every cache key and bundle
VERSIONS = (1, 2)  # of bundles that can be followed; 1 scaled the whole image and then cut

_MOST_SCALED = 1 << 24  # pixels that version 1 scaled whole; only an image 250 times longer than wide has more

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class Preprocess:
    """How an upright RGB image becomes `(size, size, 3)` uint8; mean and std (of 0..1 values) act in the graph.

    size    side of the network's input, pixels
    fit     crop: the short side is scaled to `resize`, the centre is cut out; squash: both sides are scaled
            to `size`; pad: the long side is scaled to `size`, the rest is filled with the mean colour
    resize  the short side before the crop, pixels; None = no scaling before the crop (small images: to `size`)
    version of the rules: those that a bundle was made with stay its own
    """

    size: int
    resize: int | None
    fit: Fit
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, with the version of the rules."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Preprocess:
        """The inverse of `to_json`. Raises KeyError or ValueError where `value` is not of a known version."""
        if value["version"] not in VERSIONS:
            raise ValueError(f"preprocessing version {value['version']}, this headway knows version {VERSION}")
        return Preprocess(
            size=int(value["size"]),
            resize=None if value["resize"] is None else int(value["resize"]),
            fit=value["fit"],
            interpolation=str(value["interpolation"]),
            mean=(float(value["mean"][0]), float(value["mean"][1]), float(value["mean"][2])),
            std=(float(value["std"][0]), float(value["std"][1]), float(value["std"][2])),
            version=int(value["version"]),
        )

    @property
    def draft(self) -> int:
        """The shortest side, in pixels, below which a JPEG must not be decoded at reduced scale."""
        return max(self.size, self.resize or 0) if self.resize is not None or self.fit != "crop" else 1 << 30


def prepare(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Scale and cut an upright RGB image to the network's input.

    Returns (size, size, 3) uint8. The same call serves training, bundle and server.
    """
    size, resample = preprocess.size, _FILTERS[preprocess.interpolation]
    width, height = image.size
    if preprocess.fit == "squash":
        image = image if (width, height) == (size, size) else image.resize((size, size), resample)
    elif preprocess.fit == "pad":
        image = _pad(image, preprocess, resample)
    else:
        image = _crop(image, preprocess, resample)
    return np.asarray(image, dtype=np.uint8)  # (size, size, 3)


def scaled_box(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of what of an image of this (width, height) is scaled to the network's input.

    None: the image becomes it in another way, as `prepare` has them.
    """
    (width, height), side = size, preprocess.size
    if preprocess.interpolation == "nearest":
        return None
    if preprocess.fit == "squash":
        return None if size == (side, side) else (0.0, 0.0, float(width), float(height))
    scaled = _scaled(size, preprocess) if preprocess.fit == "crop" else None
    return _box(size, scaled, side) if scaled is not None and preprocess.version > 1 else None


def _crop(image: Image.Image, preprocess: Preprocess, resample: Image.Resampling) -> Image.Image:
    size, scaled = preprocess.size, _scaled(image.size, preprocess)
    if scaled is not None:
        if preprocess.version > 1 or scaled[0] * scaled[1] > _MOST_SCALED:
            return image.resize((size, size), resample, box=_box(image.size, scaled, size))
        image = image.resize(scaled, resample)
    left, top = round((image.size[0] - size) / 2), round((image.size[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _scaled(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int] | None:
    """Width and height that an image is scaled to before its centre is cut out; None: it is cut as it is."""
    width, height = size
    short = min(size)
    target = max(preprocess.resize if preprocess.resize is not None else short, preprocess.size)
    if short == target:
        return None
    # As torchvision's Resize: the long side is cut, not rounded.
    return (target, int(target * height / width)) if width <= height else (int(target * width / height), target)


def _box(size: tuple[int, int], scaled: tuple[int, int], side: int) -> tuple[float, float, float, float]:
    """The centre of an image scaled to `scaled`, in its own pixels, so that the rest is never computed: a photo takes
    half the time, and a line of pixels does not fill the memory. Pillow keeps it in single precision: a value may be
    one off.
    """
    left, top = round((scaled[0] - side) / 2), round((scaled[1] - side) / 2)
    across, down = size[0] / scaled[0], size[1] / scaled[1]
    return (left * across, top * down, (left + side) * across, (top + side) * down)


def _pad(image: Image.Image, preprocess: Preprocess, resample: Image.Resampling) -> Image.Image:
    size, scale = preprocess.size, preprocess.size / max(image.size)
    scaled = (max(1, round(image.size[0] * scale)), max(1, round(image.size[1] * scale)))
    colour = tuple(round(255 * channel) for channel in preprocess.mean)
    canvas = Image.new("RGB", (size, size), colour)
    canvas.paste(image.resize(scaled, resample), ((size - scaled[0]) // 2, (size - scaled[1]) // 2))
    return canvas
