"""Scaling by our own code: Pillow's bytes, whatever the shape, the box and the filter; else Pillow scales."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from headway.backbones.native import compiling
from headway.backbones.native.compiling import compiled
from headway.backbones.preprocess import Preprocess, prepare, scaled_box
from headway.data.dataset import Dataset
from headway.features import scaling
from headway.features.reading import ReadTask
from headway.features.scaling import SCALE, Scaler, as_pillow, open_scaler
from tests import make
from tests.conftest import require
from tests.features.toy import dataset


@pytest.fixture(autouse=True, scope="module")
def _compiler() -> None:
    require("compiler", compiling.compiler() is not None, "there is no C compiler")


@pytest.fixture(scope="module")
def scaler() -> Scaler:
    """The scaler in this Pillow's order."""
    code = compiled(SCALE)
    return next(one for one in (Scaler(code, True), Scaler(code, False)) if as_pillow(one))


SIDE = st.one_of(st.integers(1, 40), st.integers(1, 400))


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(SIDE, SIDE),
    target=st.tuples(SIDE, SIDE),
    part=st.none() | st.tuples(*[st.floats(0, 1)] * 4),
    name=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    seed=st.integers(0, 9),
)
def test_scaler__pillows_bytes(
    scaler: Scaler,
    size: tuple[int, int],
    target: tuple[int, int],
    part: tuple[float, float, float, float] | None,
    name: str,
    seed: int,
) -> None:
    (width, height), (a, b, c, d) = size, part or (0.0, 0.0, 1.0, 1.0)
    box = (min(a, c) * width, min(b, d) * height, max(a, c) * width, max(b, d) * height)
    assume(box[2] - box[0] > 0.01 and box[3] - box[1] > 0.01)
    pixels = np.random.default_rng(seed).choice(np.array([0, 255, 128, 7], np.uint8), (height, width, 3))

    found = scaler(pixels, box, target, name)

    expected = Image.fromarray(pixels).resize(target, scaling._FILTERS[name], box=box)
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("resize", [40, 48])
@pytest.mark.parametrize("size", [(32, 32), (20, 50), (90, 60), (61, 300), (500, 37)])
def test_scaler__as_prepare(scaler: Scaler, fit: str, resize: int, size: tuple[int, int]) -> None:
    preprocess = Preprocess(40, resize, fit, "bicubic", (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    box = scaled_box(size, preprocess)
    assert box is not None

    assert np.array_equal(scaler(pixels, box, (40, 40), "bicubic"), prepare(Image.fromarray(pixels), preprocess))


@pytest.mark.parametrize(
    ("preprocess", "size"),
    [
        (Preprocess(32, None, "squash", "bicubic", (0.5,) * 3, (0.5,) * 3), (32, 32)),
        (Preprocess(32, None, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3), (40, 60)),
        (Preprocess(32, 40, "pad", "bicubic", (0.5,) * 3, (0.5,) * 3), (40, 60)),
        (Preprocess(32, 40, "crop", "nearest", (0.5,) * 3, (0.5,) * 3), (80, 60)),
        (Preprocess(32, 40, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3, version=1), (80, 60)),
    ],
    ids=["as it is", "cut alone", "padded", "nearest", "older rules"],
)
def test_scaled_box__none_where_an_image_is_prepared_in_another_way(
    preprocess: Preprocess, size: tuple[int, int]
) -> None:
    assert scaled_box(size, preprocess) is None


@pytest.mark.parametrize("instructions", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_scaler__in_every_set_of_instructions(
    monkeypatch: pytest.MonkeyPatch, scaler: Scaler, instructions: str
) -> None:
    told = subprocess.run(["/lib64/ld-linux-x86-64.so.2", "--help"], capture_output=True, text=True, check=False)
    if instructions != "x86-64" and f"{instructions} (supported" not in told.stdout:
        pytest.skip(f"this processor does not know {instructions}")
    flags = [flag if not flag.startswith("-m") else f"-march={instructions}" for flag in compiling._flags()]
    monkeypatch.setattr(compiling, "_flags", lambda: flags)

    code = compiled(SCALE)

    assert as_pillow(Scaler(code, scaler.down_first))
    assert bool(code.headway_scale_pays()) == (instructions != "x86-64")


@pytest.fixture
def anew() -> Iterator[None]:
    """Whether there is a scaler is asked once a process: here, once a test."""
    open_scaler.cache_clear()
    yield
    open_scaler.cache_clear()


def photos() -> Dataset:
    return dataset([make.jpeg(size=(90, 60)), make.png(size=(61, 300)), make.jpeg(size=(40, 40)), b"no image"])


def test_reading__the_same_with_it_and_without(scaler: Scaler) -> None:
    preprocess, data = Preprocess(32, 40, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3), photos()

    plain, own = (ReadTask(data, preprocess, scaler=one)(range(4)) for one in (None, scaler))

    for left, right in zip(plain, own, strict=True):
        assert (left.digest, left.reason, left.pixels, left.descriptor) == (
            *(right.digest, right.reason),
            *(right.pixels, right.descriptor),
        )
        assert (left.image is None) == (right.image is None)
        if left.image is not None and right.image is not None:
            assert np.array_equal(left.image, right.image)


def test_open_scaler__none_where_pillow_gives_other_bytes(monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    monkeypatch.setattr(scaling, "_POINT", 21)  # as if Pillow rounded weights otherwise
    scaling.axis_of.cache_clear()

    found = open_scaler()

    scaling.axis_of.cache_clear()
    assert found is None


def test_open_scaler__none_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    class Plain:
        def headway_scale_pays(self) -> int:
            return 0

    monkeypatch.setattr(scaling, "compiled", lambda *_: Plain())

    assert open_scaler() is None


def test_open_scaler__none_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert open_scaler() is None


def test_open_scaler__once(anew: None) -> None:
    first = open_scaler()

    assert open_scaler() is first
    assert first is None or isinstance(first.code, ctypes.CDLL)
