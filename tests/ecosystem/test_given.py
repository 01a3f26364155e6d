"""What an image may be for an estimator, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headway.ecosystem.refusing import WrongInput
from headway.errors import HeadwayError
from tests import make
from tests.ecosystem.conftest import Photos
from tests.ecosystem.toy import answer, classifier, features

BOTH = pytest.mark.parametrize("make_one", [classifier, features], ids=["classifier", "features"])
Make = Callable[..., Any]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "I;16", "LA"])
def test_pictures__of_every_mode_as_their_files(mode: str, photos: Photos, tmp_path: Path) -> None:
    picture = (
        Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20)
        if mode == "I;16"
        else (make.image(1, 5).convert(mode))
    )
    path = tmp_path / ("one.tif" if mode == "CMYK" else "one.png")
    picture.save(path)
    fitted = features().fit(photos.paths)

    assert np.array_equal(fitted.transform([picture]), fitted.transform([path]))
    assert np.array_equal(fitted.transform([Image.open(path)]), fitted.transform([path.read_bytes()]))


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_arrays__grey_and_with_alpha(mode: str, photos: Photos) -> None:
    picture = make.image(1, 5).convert(mode)
    pixels = np.asarray(picture)
    fitted = features().fit(photos.paths)

    assert np.array_equal(fitted.transform([pixels]), fitted.transform([picture]))
    if mode == "L":
        assert np.array_equal(fitted.transform(pixels[None, :, :, None]), fitted.transform([picture]))
        assert np.array_equal(fitted.transform(pixels[None]), fitted.transform([picture]))


def test_pictures__turned_upright(photos: Photos, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[make.EXIF_ORIENTATION] = 6
    make.image(1, 5).save(tmp_path / "turned.png", exif=exif)
    fitted = features().fit(photos.paths)

    upright = make.image(1, 5).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(fitted.transform([Image.open(tmp_path / "turned.png")]), fitted.transform([upright]))


@BOTH
@pytest.mark.parametrize(
    ("X", "said"),
    [
        ("photos", "X is one path, photos: {expected}, as [X]"),
        (3, "X is of type int: {expected}"),
        ([], "X is empty (0 images): {expected}"),
        (np.zeros((0, 8, 8, 3), np.uint8), "X is empty (0 images): {expected}"),
        (np.zeros((8, 8, 3), np.uint8), "X is one image, uint8 (8, 8, 3): {expected}, as [X]"),
        (np.zeros((4, 1280)), "X is float64 (4, 1280): {expected}; a table of features is for HeadwayHead"),
        (np.zeros((2, 8, 8, 3), np.float32), "X is float32 (2, 8, 8, 3): {expected}"),
        (["a.png", None], "X[1] is of type NoneType: {expected}"),
        (
            [np.zeros((8, 8)), np.zeros((8, 8, 7), np.uint8)],
            "X[0] is float64 (8, 8); X[1] is uint8 (8, 8, 7) (2 of 2): {expected}",
        ),
    ],
    ids=str,
)
def test_refused__what_is_no_image(make_one: Make, X: Any, said: str) -> None:
    with pytest.raises(WrongInput) as caught:
        make_one().fit(X, ["a", "b"])

    expected = "expected a sequence of paths, PIL images or uint8 arrays (height, width, 3)"
    assert str(caught.value) == said.format(expected=expected)


@BOTH
def test_refused__what_cannot_be_read(make_one: Make, photos: Photos, tmp_path: Path) -> None:
    torn = make.write(tmp_path / "torn.png", make.truncated(make.png(seed=999)))
    fitted = make_one().fit(photos.paths, photos.y)

    with pytest.raises(HeadwayError) as caught:
        answer(fitted, [*photos.paths[:2], torn, "nowhere.png"])

    assert str(caught.value) == (
        "2 of 4 images cannot be read. First:\n"
        f"  X[2] ({torn}): truncated at 68 %\n"
        "  X[3] (nowhere.png): does not exist\n"
        "  Each needs an answer of its own: leave them out of X and y"
    )


@BOTH
@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"image_fit": "crup", "engine": "onnx"},
            "2 problems:\n"
            "  image_fit crup: expected crop, squash or pad. Did you mean crop ?\n"
            "  engine onnx: expected auto, torch, compiled, onnxruntime, openvino or native. "
            "Did you mean onnxruntime ?",
        ),
        (
            {"image_fit": "squash", "resize": 80},
            "resize works with image_fit crop only; image_fit squash scales to image",
        ),
        ({"backbone": "resnot"}, "no backbone 'resnot'. Nearest: resnet50, resnet34, resnet26. See: headway backbones"),
    ],
    ids=str,
)
def test_refused__parameters(make_one: Make, parameters: dict[str, Any], said: str, photos: Photos) -> None:
    with pytest.raises(WrongInput) as caught:
        make_one(**parameters).fit(photos.paths, photos.y)

    assert str(caught.value) == said


def test_refused__features_have_no_labels_to_choose_taps_by(photos: Photos) -> None:
    with pytest.raises(WrongInput) as caught:
        features(taps="auto").fit(photos.paths)

    assert str(caught.value) == "taps auto: expected last or all, as there are no labels here to choose by"


def test_refused__classes_too_few_to_hold_one_back(photos: Photos) -> None:
    y = photos.y.astype(object)
    y[0] = "lonely"

    with pytest.raises(WrongInput) as caught:
        classifier().fit(photos.paths, y)

    assert str(caught.value) == ("lonely has 1 image; train and val need one each: add images, or do without (val 0)")
    fitted = classifier(val=0).fit(photos.paths, y)
    assert fitted.score(photos.paths, y) > 0.9
    assert fitted.temperature_ == 1.0
