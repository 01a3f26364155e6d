"""From a decoded image to the network's input: what torchvision gives, and nothing but numpy and Pillow."""

from __future__ import annotations

import resource
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from headway.backbones import preprocess
from headway.backbones.preprocess import Preprocess, prepare
from tests import make

HALF = (0.5, 0.5, 0.5)
SIZES = [(64, 48), (48, 64), (50, 50), (333, 127), (127, 333), (101, 100), (31, 57), (7, 3), (32, 32), (36, 36), (1, 9)]


def asked(
    fit: str = "crop", size: int = 32, resize: int | None = 36, interpolation: str = "bicubic", version: int = 2
) -> Preprocess:
    return Preprocess(size, resize, fit, interpolation, HALF, HALF, version)  # type: ignore[arg-type]


def near(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """The same image but for rounding: Pillow keeps a box in single precision, and may take its passes in turn."""
    off = np.abs(found.astype(int) - expected)
    return found.shape == expected.shape and bool(off.mean() <= 0.5 and (off <= 1).mean() >= 0.95)


def torchvision_crop(image: Image.Image, size: int, resize: int, interpolation: str) -> NDArray[np.uint8]:
    from torchvision import transforms

    mode = transforms.InterpolationMode(interpolation)
    both = transforms.Compose([transforms.Resize(resize, interpolation=mode), transforms.CenterCrop(size)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(both(image))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_crop__bytes_of_torchvision(size: tuple[int, int], interpolation: str) -> None:
    image = make.image(size=size, seed=1)

    for side, resize in ((32, 36), (32, 32), (31, 36), (32, 37), (57, 65)):
        expected = torchvision_crop(image, side, resize, interpolation)
        assert near(prepare(image, asked("crop", side, resize, interpolation)), expected)
        assert np.array_equal(prepare(image, asked("crop", side, resize, interpolation, version=1)), expected)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 12))
def test_crop__bytes_of_torchvision_whatever_the_size(width: int, height: int, side: int, more: int) -> None:
    image = make.image(size=(width, height))

    expected = torchvision_crop(image, side, side + more, "bicubic")
    assert near(prepare(image, asked("crop", side, side + more)), expected)
    assert np.array_equal(prepare(image, asked("crop", side, side + more, version=1)), expected)


def test_crop__without_resize_cuts_the_centre() -> None:
    image = make.image(size=(64, 48))

    assert np.array_equal(prepare(image, asked(resize=None)), np.asarray(image)[8:40, 16:48])


def test_crop__without_resize_scales_a_small_image_to_the_size() -> None:
    image = make.image(size=(20, 30))

    expected = torchvision_crop(image, 32, 32, "bicubic")
    assert near(prepare(image, asked(resize=None)), expected)


def test_crop__never_scales_below_the_size() -> None:
    image = make.image(size=(64, 48))

    assert near(prepare(image, asked("crop", 32, 20)), torchvision_crop(image, 32, 32, "bicubic"))


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 2)], ids=str)
def test_crop__a_line_of_pixels_does_not_fill_the_memory(size: tuple[int, int]) -> None:
    line = Image.fromarray(np.linspace(0, 255, max(size), dtype=np.uint8)).convert("RGB").resize(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    seen = prepare(line, asked("crop", 224, 256))

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert seen.shape == (224, 224, 3)
    assert abs(int(np.median(seen)) - 127) <= 1  # the middle of the gradient
    assert grown < 100_000  # kB; the whole line at this scale would have 1 or 2 GB


def test_crop__the_middle_of_a_long_image_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = make.image(size=(90, 11))
    whole = prepare(image, asked(version=1)).astype(int)
    monkeypatch.setattr(preprocess, "_MOST_SCALED", 100)

    assert np.abs(prepare(image, asked(version=1)) - whole).max() <= 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_squash__is_one_resize(size: tuple[int, int]) -> None:
    image = make.image(size=size)

    expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(prepare(image, asked("squash", 32, None, "bilinear")), expected)


def test_squash__leaves_an_image_of_the_size_alone() -> None:
    image = make.image(size=(32, 32))

    assert np.array_equal(prepare(image, asked("squash", 32, None)), np.asarray(image))


@given(st.integers(1, 200), st.integers(1, 200))
def test_pad__shows_all_of_it_on_the_mean_colour(width: int, height: int) -> None:
    white = Image.new("RGB", (width, height), (255, 255, 255))

    seen = prepare(white, Preprocess(32, None, "pad", "bilinear", (0.2, 0.4, 0.6), HALF))

    image = (seen == 255).all(axis=2)
    ground = (seen == (51, 102, 153)).all(axis=2)
    assert (image | ground).all()
    rows, columns = image.any(axis=1).sum(), image.any(axis=0).sum()
    assert image.sum() == rows * columns  # one rectangle
    assert max(rows, columns) == 32
    assert abs(min(rows, columns) - 32 * min(width, height) / max(width, height)) <= 1
    assert abs(np.flatnonzero(image.any(axis=1))[[0, -1]].sum() - 31) <= 1  # in the middle
    assert abs(np.flatnonzero(image.any(axis=0))[[0, -1]].sum() - 31) <= 1


@given(st.sampled_from(["crop", "squash", "pad"]), st.integers(1, 80), st.integers(1, 80), st.integers(1, 40))
def test_prepare__gives_the_size_whatever_comes(fit: str, width: int, height: int, side: int) -> None:
    seen = prepare(make.image(size=(width, height)), asked(fit, side, side if fit == "crop" else None))

    assert seen.shape == (side, side, 3)
    assert seen.dtype == np.uint8


_SHARES = st.tuples(*[st.floats(0, 1)] * 3)


@given(
    st.builds(
        Preprocess,
        st.integers(1, 2048),
        st.none() | st.integers(1, 4096),
        st.sampled_from(["crop", "squash", "pad"]),
        st.sampled_from(["bilinear", "bicubic", "lanczos", "nearest"]),
        _SHARES,
        _SHARES,
    )
)
def test_json__there_and_back(value: Preprocess) -> None:
    import json

    assert Preprocess.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_json__of_a_newer_version_is_refused() -> None:
    newer = {**asked().to_json(), "version": preprocess.VERSION + 1}

    with pytest.raises(ValueError, match="version") as caught:
        Preprocess.from_json(newer)

    assert str(caught.value) == "preprocessing version 3, this headway knows version 2"


@pytest.mark.parametrize(
    ("fit", "resize", "draft"),
    [("crop", 36, 36), ("crop", 20, 32), ("squash", None, 32), ("pad", None, 32), ("crop", None, 1 << 30)],
)
def test_draft__never_below_what_is_needed(fit: str, resize: int | None, draft: int) -> None:
    # A crop without scaling is cut from the image's own pixels: those of a reduced one are others.
    assert asked(fit, 32, resize).draft == draft
