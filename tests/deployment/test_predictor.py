"""Prediction over many images: order, independence, failures by item, bounded memory."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare
from headway.data.images import decode
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.confidence import CARRIES_NONE, Confidence
from headway.deployment.predictor import Item, Prediction, predict, probabilities
from tests import make
from tests.deployment import toys


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(toys.bundle(tmp_path_factory.mktemp("toy")))


@dataclass(frozen=True)
class Means:
    """A model whose logits are the mean colours: what it answers can be worked out by hand."""

    preprocess: Preprocess = field(default_factory=toys.preprocess)
    classes: tuple[str, ...] = ("red", "green", "blue")
    temperature: float = 2.0
    max_pixels: int = 10_000
    confidence: Confidence = CARRIES_NONE
    seen: list[int] = field(default_factory=list)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(len(images))
        return np.asarray(images.mean(axis=(1, 2)) / 100, np.float32)

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.logits(images), np.asarray(images.std(axis=(1, 2)), np.float32)


def _plain(red: int, green: int, blue: int) -> Image.Image:
    return Image.new("RGB", (40, 30), (red, green, blue))


def test_predict__answers_what_can_be_worked_out_by_hand() -> None:
    (found,) = predict(Means(), [_plain(0, 200, 100)], top=2)
    exponentials = np.exp(np.array([0.0, 2.0, 1.0]) / 2.0)
    p = exponentials / exponentials.sum()
    assert found.name == "image 1"
    assert found.label == "green"
    assert [label for label, _ in found.top] == ["green", "blue"]
    np.testing.assert_allclose([value for _, value in found.top], [p[1], p[2]], rtol=1e-6)
    assert found.probability == found.top[0][1]
    assert found.error is None


def test_predict__equal_probabilities_come_in_the_order_of_the_classes() -> None:
    (found,) = predict(Means(), [_plain(90, 90, 90)], top=9)
    assert [label for label, _ in found.top] == ["red", "green", "blue"]


def test_predict__every_way_in_gives_the_same_answer(bundle: Bundle, tmp_path: Path) -> None:
    picture = make.image(1, 5)
    path = make.write(tmp_path / "a.png", make.encode(picture))
    ways: list[Any] = [str(path), path, path.read_bytes(), np.asarray(picture), picture, Item("x", picture)]
    found = list(predict(bundle, ways))
    assert [item.name for item in found] == [str(path), str(path), "image 3", "image 4", "image 5", "x"]
    assert {item.top for item in found} == {found[0].top}
    assert {item.digest for item in found[:3]} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    wanted = bundle.logits(prepare(decode(path.read_bytes(), "a").image, bundle.preprocess)[None])
    best = probabilities(wanted, bundle.temperature)[0]
    assert found[0].probability == best.max()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "La", "RGBa", "PA"]
)
def test_predict__a_pil_image_of_any_mode_follows_the_rule_of_files(mode: str) -> None:
    picture = make.image(2, 1)
    if mode in ("La", "RGBa"):
        picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode == "PA":
        picture = picture.convert("P").convert("PA")
    else:
        picture = picture.convert(mode)
    assert picture.mode == mode
    (found,) = predict(Means(), [picture])
    assert found.error is None
    if mode in ("L", "I;16"):
        grey = Image.merge("RGB", [make.image(2, 1).convert("L")] * 3)
        (wanted,) = predict(Means(), [grey])
        assert found.top == wanted.top


def test_predict__a_turned_photo_is_turned_whichever_way_it_comes(tmp_path: Path) -> None:
    picture = Image.new("RGB", (60, 30), (0, 0, 200))
    picture.paste((200, 0, 0), (0, 0, 30, 30))
    exif = Image.Exif()
    exif[make.EXIF_ORIENTATION] = 6
    content = make.encode(picture, "JPEG", exif=exif, quality=95)
    as_file, as_image = predict(_top_rows(), [content, Image.open(io.BytesIO(content))])
    assert as_file.top == as_image.top
    assert as_file.label == "red"  # the left half is on top once it stands upright


def _top_rows() -> Any:
    class Top(Means):
        def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(images[:, :2].mean(axis=(1, 2)) / 100, np.float32)

    return Top()


def test_predict__what_cannot_be_read_is_an_item_with_its_reason_and_the_rest_goes_on(
    bundle: Bundle, tmp_path: Path
) -> None:
    good = make.write(tmp_path / "good.jpg", make.jpeg())
    text = make.write(tmp_path / "text.jpg", b"hello, this is a text and no photo")
    cut = make.write(tmp_path / "cut.jpg", make.jpeg()[:600])
    empty = make.write(tmp_path / "empty.jpg", b"")
    os.mkfifo(tmp_path / "pipe.jpg")
    ways: list[Any] = [good, text, tmp_path / "no.jpg", cut, tmp_path, tmp_path / "pipe.jpg", "a\0b", empty]
    ways += [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), good]
    found = list(predict(bundle, ways))
    assert [item.name for item in found[:8]] == [str(way) for way in ways[:8]]
    assert [item.error is None for item in found] == [True, *[False] * 9, True]
    assert found[2].error == "does not exist"
    assert found[4].error == "not a file (a folder)"
    assert found[5].error == "not a file (a pipe or device)"
    assert found[1].digest == hashlib.sha256(text.read_bytes()).hexdigest()
    assert found[2].digest is None
    assert str(found[2]) == "not read: does not exist"
    for item in found[1:10]:
        assert (item.label, item.probability, item.top) == (None, None, ())
    assert found[0].top == found[10].top


def test_predict__too_many_pixels_are_an_item_not_a_crash() -> None:
    (found,) = predict(Means(), [make.png(size=(101, 100))])
    assert found.error == "101 x 100 pixels, the limit is 10,000"


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(9)), st.integers(1, 5))
def test_predict__order_and_company_change_nothing(bundle: Bundle, order: list[int], batch: int) -> None:
    pictures = [make.image(n % 3, n) if n != 4 else b"broken" for n in range(9)]
    alone = [next(predict(bundle, [picture])) for picture in pictures]
    together = list(predict(bundle, [pictures[n] for n in order], batch=batch))
    assert [item.top for item in together] == [alone[n].top for n in order]
    assert [item.error for item in together] == [alone[n].error for n in order]


def test_predict__reads_ahead_by_three_batches_at_most() -> None:
    taken = itertools.count()
    drawn: list[int] = []

    def endless() -> Iterator[Image.Image]:
        while True:
            drawn.append(next(taken))
            yield _plain(1, 2, 3)

    model = Means()
    answers = predict(model, endless(), batch=4)
    for answered in range(1, 60):
        next(answers)
        assert len(drawn) <= answered + 3 * 4
    answers.close()  # type: ignore[attr-defined]
    assert set(model.seen) == {4}


def test_predict__leaves_no_thread_behind_when_it_is_dropped() -> None:
    answers = predict(Means(), [_plain(1, 2, 3)] * 50, batch=4)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")] == []


def test_predict__nothing_gives_nothing() -> None:
    model = Means()
    assert list(predict(model, [])) == []
    assert [item.error is None for item in predict(model, [b"", b"x"])] == [False, False]
    assert model.seen == []


@pytest.mark.parametrize("one", ["new.jpg", b"...", Path("new.jpg"), Image.new("RGB", (1, 1))])
def test_predict__one_image_in_the_place_of_several(one: Any) -> None:
    with pytest.raises(TypeError, match=r"^predict takes several images; for one use Bundle\.predict$"):
        next(predict(Means(), one))


def test_prediction__as_json_and_text() -> None:
    done = Prediction("a.jpg", "cat", 0.98, (("cat", 0.98), ("dog", 0.02)), "ff")
    assert str(done) == "cat 0.98"
    assert done.to_json() == {
        "name": "a.jpg",
        "label": "cat",
        "probability": 0.98,
        "top": [{"label": "cat", "probability": 0.98}, {"label": "dog", "probability": 0.02}],
        "digest": "ff",
    }
    failed = Prediction("b.jpg", None, None, (), None, "truncated")
    assert failed.to_json() == {"name": "b.jpg", "error": "truncated", "digest": None}


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-1e4, 1e4, width=32)),
    st.floats(0.01, 100),
)
def test_probabilities__sum_to_one_and_keep_the_order(logits: NDArray[np.float32], temperature: float) -> None:
    found = probabilities(logits, temperature)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    assert (found[np.arange(len(found)), logits.argmax(axis=1)] == found.max(axis=1)).all()
