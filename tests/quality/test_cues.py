"""What files say beside their pictures: against files written by Pillow at known settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headway.data.sources import load_dataset
from headway.events import drain
from headway.quality.cues import border_of, read_cue, read_cues
from tests import make


@pytest.mark.parametrize("quality", [20, 35, 50, 60, 75, 85, 95])
def test_read_cue__the_quality_that_pillow_was_told(quality: int) -> None:
    cue = read_cue(make.jpeg(quality=quality), "a.jpg", look=False)

    assert abs(cue.quality - quality) <= 1
    assert (cue.form, cue.suffix, cue.colours) == ("JPEG", ".jpg", "colour")


def test_read_cue__encoders_are_told_apart() -> None:
    picture = make.image()
    files = [
        make.encode(picture, "JPEG", quality=80),
        make.encode(picture, "JPEG", quality=81),
        make.encode(picture, "JPEG", quality=80, progressive=True),
        make.encode(picture, "JPEG", quality=80, subsampling=0),
        make.encode(picture.convert("L"), "JPEG", quality=80),
        make.encode(picture),
        make.encode(picture, "WEBP"),
    ]

    assert len({read_cue(content, "a", look=False).encoder for content in files}) == len(files)
    again = make.encode(make.image(1, 5), "JPEG", quality=80)
    assert read_cue(again, "b.jpg", look=False).encoder == read_cue(files[0], "a", look=False).encoder


@pytest.mark.parametrize(
    ("content", "colours"),
    [
        (make.cmyk(), "four inks"),
        (make.encode(make.image().convert("L"), "JPEG"), "grey"),
        (make.palette(), "palette"),
        (make.alpha(), "colour and alpha"),
        (make.sixteen_bits(), "grey"),
    ],
)
def test_read_cue__colours(content: bytes, colours: str) -> None:
    assert read_cue(content, "a", look=False).colours == colours


@pytest.mark.parametrize("cut", [2, 3, 10, 25, 100])
def test_read_cue__a_cut_header_is_no_fault(cut: int) -> None:
    for content in (make.jpeg(), make.png()):
        assert read_cue(content[:cut], "a", look=False).n_bytes == cut


def test_border_of__planted() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.float32)
    picture[:6], picture[-6:] = 3.0, 3.0

    assert border_of(picture) == ((0.2, 0.0), 3.0)
    assert border_of(picture.T) == ((0.0, 0.2), 3.0)
    picture[:, :4], picture[:, -4:] = 3.0, 3.0
    assert border_of(picture) == ((0.2, 0.1), 3.0)


def test_border_of__only_at_the_far_side() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.float32)
    picture[-12:] = 200.0

    assert border_of(picture) == ((0.2, 0.0), 200.0)


def test_border_of__one_colour_has_none() -> None:
    assert border_of(np.full((4, 5), 7.0, np.float32)) == ((0.0, 0.0), 7.0)


def test_read_cues__in_order_and_without_what_is_gone(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"a": 40, "b": 40})
    make.write(photos / "a" / "plain.png", make.encode(Image.new("RGB", (20, 20), (9, 9, 9))))
    dataset = load_dataset(photos)
    (photos / "b" / "0003.jpg").unlink()

    cues = drain(read_cues(dataset, np.arange(len(dataset)), threads=2, look=True))

    names = [dataset.names[index] for index in cues.indices]
    assert names == [name for name in dataset.names if name != "b/0003.jpg"]
    assert [cue.n_bytes for cue in cues.of] == [(photos / name).stat().st_size for name in names]
    flat = [name for name, cue in zip(names, cues.of, strict=True) if cue.spread < 1]
    assert flat == ["a/plain.png"]
