"""Laying one image over another: the crop that was cut is found, and only pictures that agree are alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headway.quality import warping
from headway.quality.warping import interpolation, likeness, places
from tests.quality.test_duplicates import photo

SIDE = 16


def thumb(image: Image.Image, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> NDArray[np.float32]:
    """The grey thumbnail of a part of an image; box left, top, right, bottom in shares of the sides."""
    width, height = image.size
    pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=pixels), np.float32)


def test_places__of_the_whole_are_its_pixels() -> None:
    (where,) = places(np.array([[1.0, 0.0]], np.float32), SIDE)

    assert np.allclose(where, np.arange(SIDE), atol=1e-5)


def test_interpolation__is_exact_on_straight_lines_and_at_pixels() -> None:
    line = 3.0 * np.arange(SIDE) + 7

    assert np.allclose(interpolation(np.arange(SIDE, dtype=np.float32)[None])[0], np.eye(SIDE), atol=1e-6)
    inside = np.linspace(1.2, SIDE - 2.3, SIDE).astype(np.float32)
    assert np.allclose(interpolation(inside[None])[0] @ line, 3 * inside + 7, atol=1e-3)


@pytest.mark.parametrize("box", [(0, 0, 0.9, 0.9), (0.1, 0, 1, 0.9), (0.05, 0.1, 0.95, 1), (0, 0.02, 0.97, 0.98)])
def test_register__finds_the_box_that_was_cut(box: tuple[float, float, float, float]) -> None:
    images = [photo(seed, (160, 160)) for seed in range(10)]
    whole, cut = (np.stack([thumb(image, one) for image in images]) for one in ((0, 0, 1, 1), box))
    start = np.tile(np.array([0.92, 0, 0.92, 0], np.float32), (10, 1))

    found = warping._register(whole, cut, start, (*warping._BLURS, *warping._SHARPER))

    left, top, right, bottom = box
    expected = [right - left, right + left - 1, bottom - top, bottom + top - 1]  # scales, and centres in half sides
    assert np.median(np.abs(found - expected), axis=0).max() < 0.02


def test_likeness__of_a_crop_and_of_others() -> None:
    images = [photo(seed, (160, 160)) for seed in range(20)]
    whole = np.stack([thumb(image) for image in images])
    cut = np.stack([thumb(image, (0.1, 0, 1, 0.9)) for image in images])

    assert likeness(whole, cut, 0.92).min() > 0.92
    assert likeness(whole, np.roll(cut, 1, axis=0), 0.92).max() < 0.8


def test_likeness__brightness_does_not_matter_and_contrast_not_much() -> None:
    whole = np.stack([thumb(photo(seed)) for seed in range(10)])

    assert likeness(whole, 0.8 * whole + 30).min() > 0.95
    assert likeness(whole, 0.2 * whole).max() == 0


def test_likeness__one_strong_edge_is_not_enough() -> None:
    # Two fields under two skies: the horizon agrees, what little else there is does not.
    rng = np.random.default_rng(1)
    horizon = np.where(np.arange(SIDE)[:, None] < 8, 190.0, 60.0) + np.zeros((SIDE, SIDE))
    fields = [(horizon + rng.normal(scale=6, size=(SIDE, SIDE))).astype(np.float32) for _ in range(40)]
    plain = [
        np.corrcoef(np.diff(a, axis=0).ravel(), np.diff(b, axis=0).ravel())[0, 1]
        for a, b in zip(fields[:20], fields[20:], strict=True)
    ]

    found = likeness(np.stack(fields[:20]), np.stack(fields[20:]))

    assert np.mean(plain) > 0.85
    assert found.max() < 0.9


def test_likeness__of_no_pairs() -> None:
    none = np.empty((0, SIDE, SIDE), np.float32)

    assert likeness(none, none).shape == (0,)


def test_likeness__each_pair_on_its_own() -> None:
    whole = np.stack([thumb(photo(seed)) for seed in range(12)])
    cut = np.stack([thumb(photo(seed), (0, 0, 0.93, 0.95)) for seed in range(12)])

    together = likeness(whole, cut)

    alone = np.concatenate([likeness(whole[one : one + 1], cut[one : one + 1]) for one in range(12)])
    assert np.allclose(together, alone, atol=1e-4)
