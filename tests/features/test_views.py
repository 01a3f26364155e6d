"""Views: a function of seed, number and content alone; crops stay inside and flips are flips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare
from headway.features.reading import content_digest
from headway.features.views import View, _random_crop, parse_views, prepare_view, shortest_side
from tests import make
from tests.features.toy import OWN

DIGESTS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("asked", "views"),
    [
        (None, ()),
        (0, ()),
        ("flip", (View("flip"),)),
        (2, (View("crop", 7, 0), View("crop", 7, 1))),
        ("1", (View("crop", 7, 0),)),
    ],
)
def test_parse__what_the_option_says(asked: str | int | None, views: tuple[View, ...]) -> None:
    assert parse_views(asked, 7) == views


def test_key__names_what_decides_the_pixels() -> None:
    views = [View("flip"), *(View("crop", seed, number) for seed in range(3) for number in range(3))]

    assert len({view.key for view in views}) == len(views)
    # A flip knows no chance: its features serve every seed.
    assert View("flip", 1).key == View("flip", 2).key


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["crop", "squash", "pad"]))
def test_flip__is_numpys(width: int, height: int, fit: str) -> None:
    image = make.image(size=(width, height))
    own = Preprocess(16, 18 if fit == "crop" else None, fit, "bicubic", (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]

    seen = prepare_view(image, own, View("flip"), bytes(32))

    assert np.array_equal(seen, np.flip(prepare(image, own), axis=1))
    assert seen.flags.c_contiguous


def test_plain__is_prepare() -> None:
    image = make.image()

    assert np.array_equal(prepare_view(image, OWN, None, bytes(32)), prepare(image, OWN))


@given(st.integers(1, 5000), st.integers(1, 5000), NUMBERS, st.integers(0, 99), DIGESTS)
def test_crop__lies_inside(width: int, height: int, seed: int, number: int, digest: bytes) -> None:
    (left, top, right, bottom), _ = _random_crop((width, height), View("crop", seed, number), digest)

    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if 3 / 4 <= width / height <= 4 / 3 and min(width, height) > 100:
        share = (right - left) * (bottom - top) / (width * height)
        assert share > 0.25  # 0.35, less what does not fit inside
        assert 0.5 < (right - left) / (bottom - top) < 2


@given(NUMBERS, st.integers(0, 99), DIGESTS)
def test_crop__is_a_function_of_seed_number_and_content(seed: int, number: int, digest: bytes) -> None:
    image = make.image(size=(60, 50))
    np.random.default_rng().normal()  # nothing that is drawn elsewhere matters

    first = prepare_view(image, OWN, View("crop", seed, number), digest)
    again = prepare_view(image, OWN, View("crop", seed, number), bytes(digest))

    assert np.array_equal(first, again)
    assert first.shape == (16, 16, 3)


def test_crop__others_for_other_seeds_numbers_and_contents() -> None:
    digests = [content_digest(make.png(seed=seed)) for seed in range(3)]
    boxes = {
        _random_crop((500, 400), View("crop", seed, number), digest)
        for seed in range(4)
        for number in range(4)
        for digest in digests
    }

    assert len(boxes) == 48
    assert {flip for _, flip in boxes} == {True, False}


def test_crop__is_cut_scaled_and_sometimes_turned() -> None:
    image = make.image(size=(90, 70))
    turned = set()
    for number in range(12):
        view = View("crop", 0, number)
        box, flip = _random_crop(image.size, view, bytes(32))
        expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BICUBIC))
        turned.add(flip)

        assert np.array_equal(prepare_view(image, OWN, view, bytes(32)), expected[:, ::-1] if flip else expected)

    assert turned == {True, False}


@given(st.integers(400, 4000), st.integers(400, 4000), NUMBERS)
def test_crop__of_a_jpeg_decoded_smaller_still_fills_the_input(width: int, height: int, seed: int) -> None:
    own = Preprocess(224, 256, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3)
    view = View("crop", seed)
    shortest = shortest_side(own, view)
    scale = max(1, min(width, height) // shortest)
    if max(width, height) > 4 / 3 * min(width, height) or min(width, height) < shortest:
        return
    (left, top, right, bottom), _ = _random_crop((width // scale, height // scale), view, bytes(32))

    assert min(right - left, bottom - top) >= 224 - 2


def test_shortest__of_plain_and_flipped_is_the_preprocessings() -> None:
    assert shortest_side(OWN, None) == shortest_side(OWN, View("flip")) == OWN.draft
