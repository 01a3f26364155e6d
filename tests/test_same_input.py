"""What a network is given of a file: the same bytes in the pass and in a bundle, for files of every kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess
from headway.data.sources import load_dataset
from headway.deployment.confidence import CARRIES_NONE, Confidence
from headway.deployment.predictor import predict
from headway.features.reading import ReadTask
from headway.features.scaling import open_scaler
from tests import make

WAYS = [("crop", 256), ("crop", None), ("squash", None), ("pad", None)]


@dataclass
class Witness:
    """A model that keeps digests of what it is given and answers nothing of worth."""

    preprocess: Preprocess
    classes: tuple[str, ...] = ("a", "b")
    temperature: float = 1.0
    max_pixels: int = 1 << 28
    confidence: Confidence = CARRIES_NONE
    seen: list[str] = field(default_factory=list)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen += [digest(image) for image in images]
        return np.zeros((len(images), 2), np.float32)

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.logits(images), np.zeros((len(images), 3), np.float32)


def digest(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def files_of_every_kind(folder: Path) -> None:
    """Formats, modes, orientations and sizes; a large photo is decoded at reduced scale."""
    photo = make.image(size=(300, 220))
    exif = Image.Exif()
    exif[make.EXIF_ORIENTATION] = 6
    for name, content in {
        "small.jpg": make.jpeg(size=(40, 30)),
        "large.jpg": make.jpeg(size=(1900, 1400)),
        "turned.jpg": make.encode(photo, "JPEG", exif=exif),
        "grey.jpg": make.encode(photo.convert("L"), "JPEG"),
        "cmyk.jpg": make.encode(photo.convert("CMYK"), "JPEG"),
        "plain.png": make.png(size=(300, 220)),
        "palette.png": make.encode(photo.convert("P")),
        "grey.png": make.encode(photo.convert("L")),
        "clear.png": make.encode(photo.convert("RGBA")),
        "deep.png": make.encode(Image.fromarray(np.arange(60_000, dtype=np.uint16).reshape(200, 300))),
        "one.webp": make.encode(photo, "WEBP"),
        "one.gif": make.encode(photo, "GIF"),
        "one.bmp": make.encode(photo, "BMP"),
        "one.tiff": make.encode(photo, "TIFF"),
    }.items():
        make.write(folder / "a" / name, content)
        make.write(folder / "b" / name, content + b" ")


def both(folder: Path, preprocess: Preprocess) -> tuple[list[str], list[str]]:
    """Digests of the network's input, by the pass (which scales by its own code) and by a bundle's way, in order."""
    dataset = load_dataset(folder)
    readings = ReadTask(dataset, preprocess, scaler=open_scaler())(range(len(dataset)))
    witness = Witness(preprocess)
    answers = list(predict(witness, [folder / name for name in dataset.names]))
    assert [answer.error for answer in answers] == [reading.reason or None for reading in readings]
    return [digest(reading.image) for reading in readings if reading.image is not None], witness.seen


@pytest.mark.parametrize(("fit", "resize"), WAYS)
def test_input__the_same_bytes_in_the_pass_and_in_a_bundle(fit: str, resize: int | None, tmp_path: Path) -> None:
    files_of_every_kind(tmp_path)
    preprocess = Preprocess(224, resize, fit, "bicubic", (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]

    by_pass, by_bundle = both(tmp_path, preprocess)

    assert len(by_pass) == 28
    assert by_pass == by_bundle


@pytest.mark.slow
def test_input__the_same_bytes_of_500_photos(real_images: Path) -> None:
    preprocess = Preprocess(224, 256, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3)

    by_pass, by_bundle = both(real_images / "cats-vs-dogs" / "train", preprocess)

    assert len(by_pass) >= 500
    assert by_pass == by_bundle
