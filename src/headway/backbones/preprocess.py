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


def _crop(image: Image.Image, preprocess: Preprocess, resample: Image.Resampling) -> Image.Image:
    size, short = preprocess.size, min(image.size)
    target = preprocess.resize if preprocess.resize is not None else max(short, size)
    target = max(target, size)
    if short != target:
        width, height = image.size
        # As torchvision's Resize: the long side is cut, not rounded.
        scaled = (target, int(target * height / width)) if width <= height else (int(target * width / height), target)
        if preprocess.version > 1 or scaled[0] * scaled[1] > _MOST_SCALED:
            return _middle(image, scaled, size, resample)
        image = image.resize(scaled, resample)
    left, top = round((image.size[0] - size) / 2), round((image.size[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _middle(image: Image.Image, scaled: tuple[int, int], size: int, resample: Image.Resampling) -> Image.Image:
    """The centre of `image` scaled to `scaled`, the rest never computed: a photo takes half the time, and a line of
    pixels does not fill the memory. Pillow keeps a box in single precision: a value may be one off.
    """
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    across, down = image.size[0] / scaled[0], image.size[1] / scaled[1]
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), resample, box=box)


def _pad(image: Image.Image, preprocess: Preprocess, resample: Image.Resampling) -> Image.Image:
    size, scale = preprocess.size, preprocess.size / max(image.size)
    scaled = (max(1, round(image.size[0] * scale)), max(1, round(image.size[1] * scale)))
    colour = tuple(round(255 * channel) for channel in preprocess.mean)
    canvas = Image.new("RGB", (size, size), colour)
    canvas.paste(image.resize(scaled, resample), ((size - scaled[0]) // 2, (size - scaled[1]) // 2))
    return canvas
