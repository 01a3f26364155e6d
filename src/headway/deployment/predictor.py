"""From images to answers: decode → prepare → fixed batches → softmax(logits / temperature) → most likely classes."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from headway.backbones.preprocess import Preprocess, prepare
from headway.data.images import BadImage, decode, read_file
from headway.deployment.confidence import NONE, Confidence, Levels
from headway.deployment.sets import class_scores

Image = str | Path | bytes | NDArray[np.uint8] | PIL.Image.Image

# Modes of PIL images: those that a PNG or TIFF keeps as they are, and what the others become on the way.
_PNG, _TIFF = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"), ("CMYK", "F", "LAB")
_BECOMES = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


@dataclass(frozen=True)
class Item:
    """An image with the name that its answer shall bear."""

    name: str
    image: Image


@dataclass(frozen=True)
class Strangeness:
    """How strange an image is to a bundle.

    rate   the share of images like those it learnt from that are as strange or stranger, 0..1, from validation images
    flag   whether that is at most the false-alarm rate that was asked for: "unknown"
    level  that false-alarm rate
    """

    rate: float
    flag: bool
    level: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one image, or why there is none.

    name         as it was given
    label        the most likely class; None where the image could not be read
    probability  of `label`, 0..1, calibrated by the bundle's temperature
    top          (label, probability), most likely first
    digest       sha256 of the file's bytes (of shape and pixels for arrays); None where it could not be read at all
    error        None, or the reason in a few words
    labels       the prediction set: the classes among which the true one is with the coverage that was asked for, most
                 likely first; None where none was asked for
    strangeness  None where no false-alarm rate was asked for
    """

    name: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...]
    digest: str | None
    error: str | None = None
    labels: tuple[str, ...] | None = None
    strangeness: Strangeness | None = None

    def __str__(self) -> str:
        if self.label is None or self.probability is None:
            return f"not read: {self.error}"
        return f"{self.label} {self.probability:.2f}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values. A failed image has `error` and no label."""
        if self.error is not None:
            return {"name": self.name, "error": self.error, "digest": self.digest}
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        value: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "probability": self.probability,
            "top": top,
            "digest": self.digest,
        }
        if self.labels is not None:
            value["set"] = list(self.labels)
        if self.strangeness is not None:
            value["unknown"] = {"flag": self.strangeness.flag, "rate": self.strangeness.rate}
        return value


class Model(Protocol):
    """What prediction needs of a bundle."""

    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def temperature(self) -> float: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def confidence(self) -> Confidence: ...
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 → (B, C) float32."""
        ...

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, S, S, 3) uint8 → logits (B, C) and features (B, D), float32."""
        ...


@dataclass(frozen=True)
class _Prepared:
    name: str
    digest: str | None
    pixels: NDArray[np.uint8] | None  # (S, S, 3)
    error: str | None


def predict(
    model: Model, images: Iterable[Image | Item], *, top: int = 5, batch: int = 32, levels: Levels = NONE
) -> Iterator[Prediction]:
    """One Prediction for each of `images`, in their order; what cannot be read becomes one with `error`.

    images  paths, bytes of image files, uint8 arrays (H, W, 3), PIL images, or any of these in an Item;
            what has no name is called "image 1", "image 2", ...
    top     how many classes each answer tells, at most
    levels  of prediction sets and of unknown images; check them first (`confidence.check_levels`)

    Decoding runs in threads beside the network and never more than 3 batches ahead, so memory does not grow with the
    number of images. An answer does not depend on the images around it.
    """
    if isinstance(images, str | bytes | Path | PIL.Image.Image):
        raise TypeError("predict takes several images; for one use Bundle.predict")
    named = (_named(n, image) for n, image in enumerate(images, 1))
    pool = ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1), thread_name_prefix="decode")
    waiting: deque[Future[_Prepared]] = deque()
    try:
        while True:
            for item in islice(named, 3 * batch - len(waiting)):
                waiting.append(pool.submit(_prepare, item.name, item.image, model))
            if not waiting:
                return
            ready = [waiting.popleft().result() for _ in range(min(batch, len(waiting)))]
            yield from _answer(model, ready, top, levels)
    finally:
        pool.shutdown(cancel_futures=True)


def _named(position: int, image: Image | Item) -> Item:
    if isinstance(image, Item):
        return image
    return Item(str(image) if isinstance(image, str | Path) else f"image {position}", image)


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """(N, C) logits → (N, C) probabilities, softmax(logits / temperature), each row sums to 1."""
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def conclude(
    model: Model,
    logits: NDArray[np.float32],
    features: NDArray[np.float32] | None,
    *,
    name: str,
    digest: str | None,
    top: int = 5,
    levels: Levels = NONE,
) -> Prediction:
    """What the network's numbers of one image say: logits (C,) and, where `levels.unknown` is asked, features (D,).

    Alone: a sum's last bit may depend on the rows beside it, and an answer must depend on nothing around its image.
    """
    shares = probabilities(logits[None], model.temperature)  # (1, C)
    best = np.argsort(-shares[0], kind="stable")
    chosen = tuple((model.classes[index], float(shares[0, index])) for index in best[: max(1, top)])
    sets, unknown = model.confidence.sets, model.confidence.unknown
    labels, strangeness = None, None
    if levels.coverage is not None and sets is not None:
        members = class_scores(shares)[0] <= sets.threshold(levels.coverage)
        labels = tuple(model.classes[index] for index in best if members[index])
    if levels.unknown is not None and unknown is not None and features is not None:
        rate = float(unknown.rate(unknown.score(features[None], logits[None]))[0])
        strangeness = Strangeness(rate, rate <= levels.unknown, levels.unknown)
    return Prediction(name, *chosen[0], chosen, digest, None, labels, strangeness)


def _answer(model: Model, prepared: list[_Prepared], top: int, levels: Levels) -> Iterator[Prediction]:
    pixels = [item.pixels for item in prepared if item.pixels is not None]
    rows: Iterator[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = iter(())
    if pixels and levels.unknown is not None and model.confidence.unknown is not None:
        rows = zip(*model.both(np.stack(pixels)), strict=True)
    elif pixels:
        rows = ((row, None) for row in model.logits(np.stack(pixels)))
    for item in prepared:
        if item.pixels is None:
            yield Prediction(item.name, None, None, (), item.digest, item.error)
        else:
            yield conclude(model, *next(rows), name=item.name, digest=item.digest, top=top, levels=levels)


def _prepare(name: str, image: Image, model: Model) -> _Prepared:
    """Read, decode and prepare one image; what is wrong with it is part of the value."""
    digest = None
    try:
        content = content_of(name, image)
        digest = content_digest(content)
        decoded = decode(content, name, shortest=model.preprocess.draft, max_pixels=model.max_pixels)
    except BadImage as error:
        return _Prepared(name, digest, None, error.reason)
    return _Prepared(name, digest, prepare(decoded.image, model.preprocess), None)


def content_of(name: str, image: Image) -> bytes | NDArray[np.uint8]:
    """The bytes of a file, or the pixels of an array as it is. Raises BadImage, which calls it `name`."""
    if isinstance(image, str | Path):
        return read_file(image, name)
    if isinstance(image, PIL.Image.Image):
        return _encoded(image, name)
    return image


def _encoded(image: PIL.Image.Image, name: str) -> bytes:
    """A PIL image as the bytes of a lossless file, so that one rule serves every mode and every way in."""
    stream = io.BytesIO()
    try:
        upright = PIL.ImageOps.exif_transpose(image)
        if upright.mode in _TIFF:
            upright.save(stream, "TIFF")
        else:
            kept = upright if upright.mode in _PNG else upright.convert(_BECOMES.get(upright.mode, "RGB"))
            kept.save(stream, "PNG", compress_level=0)
    except (OSError, ValueError, SyntaxError):  # a file behind it that is damaged, or no pixels
        raise BadImage(name, "damaged image") from None
    return stream.getvalue()


def content_digest(content: bytes | NDArray[np.uint8]) -> str:
    """sha256 of a file's bytes, or of the shape and pixels of an array; 64 hexadecimal digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(repr(content.shape).encode())
    digest.update(np.ascontiguousarray(content).tobytes())
    return digest.hexdigest()
