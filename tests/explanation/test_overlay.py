"""The picture: heat where it is, the image where it is not, and every name as text."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from headway.explanation.overlay import colours, encoded, laid_over, picture, thumbnail

GREY = np.full((32, 32, 3), 128, np.uint8)


def test_colours__grow_lighter_evenly() -> None:
    ramp = colours(np.linspace(0, 1, 101, dtype=np.float32))
    light = ramp @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    assert tuple(ramp[0]) == (0, 0, 4)
    assert tuple(ramp[-1]) == (252, 255, 164)


def test_laid_over__leaves_the_image_where_there_is_no_heat() -> None:
    heat = np.zeros((32, 32), np.float32)
    heat[:, 16:] = 1
    found = laid_over(GREY, heat)
    np.testing.assert_array_equal(found[:, :16], GREY[:, :16])
    assert (found[:, 16:] == found[0, 31]).all()
    assert found[0, 31, 0] > 200 > found[0, 31, 2]


@pytest.mark.parametrize(("size", "side"), [(16, 256), (32, 256), (96, 288), (224, 224), (600, 600)])
def test_picture__both_panels_with_a_line_below(size: int, side: int) -> None:
    image = np.full((size, size, 3), 200, np.uint8)
    made = np.asarray(picture(image, np.zeros((size, size), np.float32), ("cat 0.98", "what speaks for cat")))
    assert made.shape == (side + 48, 2 * side + 8, 3)
    assert (made[:side, :side] == 200).all()
    assert (made[:side, side + 8 :] == 200).all()
    assert made[side:].min() < 50  # something is written there


@pytest.mark.parametrize("name", ["x" * 3000, "a\nb\0c\x1b[31m", "猫 🐈 ‮txt", "", "<b>&amp;"])
def test_picture__any_name_can_stand_below(name: str) -> None:
    made = encoded(picture(GREY, np.ones((32, 32), np.float32), (name, name)), "PNG")
    with Image.open(io.BytesIO(made)) as opened:
        assert opened.size == (2 * 256 + 8, 256 + 48)


def test_thumbnail__is_small_whatever_the_image() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    made = thumbnail(image, rng.random((300, 300), dtype=np.float32))
    assert made.size == (128, 128)
    assert len(encoded(made, "JPEG")) < 16_000
