"""Augmentation: a function of seed, epoch and sample alone; cuts and operations are torchvision's, draws our own."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare
from headway.errors import Refused
from headway.training.augment import (
    KINDS,
    OPERATIONS,
    Augment,
    Operation,
    augmented,
    draw_rand,
    draw_trivial,
    flipped,
    operate,
    sample_generator,
    stream_of,
)
from tests import make

OWN = Preprocess(16, 18, "crop", "bicubic", (0.2, 0.4, 0.6), (0.5, 0.5, 0.5))
WORDS = st.integers(0, 2**64 - 1)


class Script:
    """A generator that gives the numbers it was told; who asks for more is wrong."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


def with_draws(image: Image.Image, augment: Augment, *numbers: float, own: Preprocess = OWN) -> NDArray[np.uint8]:
    script: Any = Script(*numbers)
    seen = augmented(image, augment, own, script)
    assert script.numbers == []
    return seen


def one(kind: str, epoch: int = 1, key: int = 5, image: Image.Image | None = None, **more: Any) -> NDArray[np.uint8]:
    generator = sample_generator(stream_of(0, epoch), key)
    return augmented(image or make.image(), Augment(kind, **more), OWN, generator)


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "fliip"}, "--augment fliip is not known. Nearest: flip. Known: none, flip, crop, trivial, rand"),
        ({"crop_scale": 0.0}, "--crop-scale 0: expected a share above 0, up to 1"),
        ({"crop_scale": 1.5}, "--crop-scale 1.5: expected a share above 0, up to 1"),
        ({"crop_scale": math.nan}, "--crop-scale nan: expected a share above 0, up to 1"),
        ({"erase": -0.1}, "--erase -0.1: expected a chance from 0 to 1"),
        ({"erase": 1.1}, "--erase 1.1: expected a chance from 0 to 1"),
    ],
)
def test_augment__refuses_what_it_does_not_know(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as caught:
        Augment(**values)

    assert str(caught.value) == message


def test_augment__tells_what_it_does() -> None:
    told = {kind: (Augment(kind).crops, Augment(kind).changes, Augment(kind).computes) for kind in KINDS}

    assert told == {
        "none": (False, False, False),
        "flip": (False, True, False),
        "crop": (True, True, False),
        "trivial": (True, True, True),
        "rand": (True, True, True),
    }
    assert Augment("none", erase=0.5).changes


# Draws ------------------------------------------------------------------------------------------------------------


@given(WORDS, st.lists(WORDS, max_size=20))
def test_flipped__is_the_first_draw_of_each_generator(stream: int, keys: list[int]) -> None:
    expected = [sample_generator(stream, key).random() < 0.5 for key in keys]

    assert flipped(stream, np.array(keys, dtype=np.uint64)).tolist() == expected


def test_generator__is_philox_under_sample_and_stream() -> None:
    key = np.array([7, stream_of(3, 4)], dtype=np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).random(9)

    assert np.array_equal(sample_generator(stream_of(3, 4), 7).random(9), expected)


def test_stream__another_for_each_seed_and_epoch() -> None:
    assert len({stream_of(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900
    assert all(0 <= stream_of(seed, 1) < 2**64 for seed in range(30))


def test_draws__of_neighbours_have_nothing_to_do_with_each_other() -> None:
    """First draws over small keys and over epochs: even, and uncorrelated from one to the next."""
    by_key = np.array([sample_generator(stream_of(0, 1), key).random() for key in range(4000)])
    by_epoch = np.array([sample_generator(stream_of(0, epoch), 1).random() for epoch in range(4000)])
    for draws in (by_key, by_epoch):
        counts, _ = np.histogram(draws, bins=10, range=(0, 1))
        assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
        assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 3.3 / math.sqrt(4000)


# Plain and mirrored -----------------------------------------------------------------------------------------------


@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["crop", "squash", "pad"]), WORDS)
def test_none__is_prepare(width: int, height: int, fit: Any, key: int) -> None:
    own = replace(OWN, fit=fit)
    image = make.image(size=(width, height))
    generator = sample_generator(1, key)

    assert np.array_equal(augmented(image, Augment("none"), own, generator), prepare(image, own))
    assert np.array_equal(augmented(np.asarray(image), Augment("none"), own, generator), prepare(image, own))


@pytest.mark.parametrize(("draw", "turned"), [(0.0, True), (0.4999, True), (0.5, False), (0.99, False)])
def test_flip__every_second_time(draw: float, turned: bool) -> None:
    plain = prepare(make.image(), OWN)

    seen = with_draws(make.image(), Augment("flip"), draw)

    assert np.array_equal(seen, np.flip(plain, axis=1) if turned else plain)
    assert seen.flags.c_contiguous
    assert seen.flags.writeable or not turned


def test_flip__half_of_them() -> None:
    share = flipped(stream_of(0, 1), np.arange(10_000, dtype=np.uint64)).mean()

    assert abs(share - 0.5) < 3.3 * 0.5 / 100


# Crops ------------------------------------------------------------------------------------------------------------


def torchvisions_box(
    size: tuple[int, int], scale: float, numbers: list[float], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int, int, int]:
    """What torchvision's RandomResizedCrop cuts out where its own draws are `numbers`."""
    from torchvision.transforms import v2

    left = list(numbers)

    def uniform(self: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.tensor([float(low) + (float(high) - float(low)) * left.pop(0)], dtype=torch.float64)

    def randint(low: int, high: int, size: Any = ()) -> torch.Tensor:
        return torch.tensor([low + int((high - low) * left.pop(0))])

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "uniform_", uniform)
        patched.setattr(torch, "randint", randint)
        cut = v2.RandomResizedCrop(16, (scale, 1.0)).make_params([Image.new("RGB", size)])
    return cut["left"], cut["top"], cut["left"] + cut["width"], cut["top"] + cut["height"]


@pytest.mark.parametrize("scale", [0.08, 0.35, 1.0])
@pytest.mark.parametrize(
    "size", [(64, 48), (48, 64), (500, 3), (3, 500), (1, 1), (2, 3), (90, 10), (7, 7), (200, 205), (205, 200)]
)
def test_crop__is_the_box_of_torchvision(size: tuple[int, int], scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make.image(size=size)
    for seed in range(15):
        numbers = np.random.default_rng(seed).random(40).tolist()
        box = torchvisions_box(size, scale, numbers, monkeypatch)
        expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BICUBIC))
        script: Any = Script(0.9, *numbers)

        assert np.array_equal(augmented(image, Augment("crop", scale), OWN, script), expected)


def test_crop__areas_and_ratios_are_as_the_paper_says() -> None:
    from headway.training.augment import _crop_box

    areas, ratios, lefts = [], [], []
    for key in range(3000):
        left, top, right, bottom = _crop_box((1000, 1000), 0.08, sample_generator(0, key))
        areas.append((right - left) * (bottom - top) / 1e6)
        ratios.append(math.log((right - left) / (bottom - top)))
        lefts.append(left / max(1, 1000 - (right - left)))
    small = np.array(areas) < 0.7  # those always fit at the first try
    assert min(areas) > 0.079
    assert max(areas) <= 1
    assert abs(np.mean(np.array(areas)[small]) - 0.39) < 0.01
    assert -math.log(4 / 3) - 0.01 < min(ratios)
    assert max(ratios) < math.log(4 / 3) + 0.01
    assert abs(np.mean(ratios)) < 0.015
    assert abs(np.std(np.array(ratios)[small]) - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.01
    assert abs(np.mean(lefts) - 0.5) < 0.03


def check_alike(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Boxes (n, 4) left, top, width, height: each of the four, areas and proportions are spread as the others'."""
    n, columns = len(ours), []
    for boxes in (ours, theirs):
        columns.append([*boxes.T, boxes[:, 2] * boxes[:, 3], boxes[:, 2] / boxes[:, 3]])
    for mine, other in zip(*columns, strict=True):
        at = np.union1d(mine, other)
        shares = [np.searchsorted(np.sort(values), at, "right") / n for values in (mine, other)]
        assert np.abs(shares[0] - shares[1]).max() < 1.95 * math.sqrt(2 / n)  # Kolmogorov and Smirnov, p = 0.001


@pytest.mark.parametrize(("size", "scale"), [((100, 100), 0.35), ((90, 50), 0.6), ((60, 100), 0.6)])
def test_crop__boxes_are_spread_as_torchvisions(size: tuple[int, int], scale: float) -> None:
    """Against what torchvision draws by itself: how often none fits and the middle is taken, areas, sides, places."""
    from torchvision.transforms import v2

    from headway.training.augment import _crop_box

    n, (width, height) = 2000, size
    picture, cut = [Image.new("RGB", size)], v2.RandomResizedCrop(16, (scale, 1.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [cut.make_params(picture) for _ in range(n)]
    theirs = np.array([[box[name] for name in ("left", "top", "width", "height")] for box in drawn], float)
    ours = np.array([_crop_box(size, scale, sample_generator(8, key)) for key in range(n)], float)
    ours[:, 2:] -= ours[:, :2]
    middle = (min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3)))
    fallen = [np.mean((boxes[:, 2:] == middle).all(axis=1)) for boxes in (ours, theirs)]
    assert abs(fallen[0] - fallen[1]) < 3.3 * math.sqrt(2 * max(fallen[1], 0.01) * (1 - fallen[1]) / n)
    assert fallen[1] > 0.1 or width == height
    check_alike(ours, theirs)


@given(st.integers(400, 3000), st.integers(400, 3000), st.sampled_from([0.08, 0.35, 1.0]), WORDS)
@examples(max_examples=40)
def test_shortest__a_jpeg_decoded_smaller_still_fills_the_crop(width: int, height: int, scale: float, key: int) -> None:
    from headway.training.augment import _crop_box

    own = replace(OWN, size=224, resize=256)
    shortest = Augment("crop", scale).shortest(own)
    times = next((times for times in (8, 4, 2) if min(width, height) // shortest >= times), 1)
    if max(width, height) > 4 / 3 * min(width, height) or min(width, height) < shortest:
        return
    left, top, right, bottom = _crop_box((width // times, height // times), scale, sample_generator(1, key))

    assert min(right - left, bottom - top) >= 224 - 3


def test_shortest__of_plain_and_mirrored_is_the_preprocessings() -> None:
    assert Augment("none").shortest(OWN) == Augment("flip").shortest(OWN) == OWN.draft
    assert Augment("crop", 0.08).shortest(replace(OWN, size=224)) == 915


# Operations -------------------------------------------------------------------------------------------------------


def spaces() -> dict[str, tuple[Any, Any, float]]:
    """Kind → torchvision's class, our draw, sides of the image."""
    from torchvision.transforms import v2

    return {
        "trivial": (v2.TrivialAugmentWide(), lambda draws: draw_trivial(draws), 32),
        "rand": (v2.RandAugment(), lambda draws: draw_rand(draws, 40), 40),
    }


@pytest.mark.parametrize("kind", ["trivial", "rand"])
def test_operations__are_torchvisions_with_its_magnitudes(kind: str) -> None:
    """Each operation at each of its magnitudes, plus and minus, against torchvision's table and its own method."""
    theirs, draw, side = spaces()[kind]
    image = torch.from_numpy(np.array(make.image(size=(40, 40)))).permute(2, 0, 1).contiguous()
    table = theirs._AUGMENTATION_SPACE
    assert set(table) == set(OPERATIONS)
    seen = 0
    for number, name in enumerate(OPERATIONS):
        strengths, signed = table[name][0](31, int(side), int(side)), table[name][1]
        bins = range(31) if kind == "trivial" else [9]
        for place in bins if strengths is not None else [0]:
            for sign in (0.2, 0.8) if signed else (None,):
                draws = [(number + 0.5) / len(OPERATIONS), *([(place + 0.5) / 31] if kind == "trivial" else [])]
                ours = draw(Script(*draws, *([] if sign is None else [sign])))
                expected = 0.0 if strengths is None else float(strengths[place]) * (-1 if sign == 0.2 else 1)
                assert ours.name == name
                assert ours.magnitude == pytest.approx(expected, abs=1e-5)
                wanted = theirs._apply_image_or_video_transform(image, name, expected, "nearest", theirs._fill)
                assert torch.equal(operate(image, Operation(name, expected)), wanted), (name, place)
                seen += 1
    assert seen > 300 if kind == "trivial" else seen == 23


@pytest.mark.parametrize("kind", ["trivial", "rand"])
def test_operations__all_are_drawn_alike(kind: str) -> None:
    _, draw, _ = spaces()[kind]
    counts = Counter(draw(sample_generator(2, key)).name for key in range(4200))

    assert set(counts) == set(OPERATIONS)
    assert sum((count - 300) ** 2 / 300 for count in counts.values()) < 34.5  # 13 degrees of freedom, p = 0.001


def test_trivial__strengths_and_signs_are_drawn_alike() -> None:
    angles = [draw_trivial(sample_generator(3, key)) for key in range(20_000)]
    turns = np.array([found.magnitude for found in angles if found.name == "Rotate"])

    assert abs((turns > 0).mean() - 0.5) < 0.06
    assert len(np.unique(np.abs(turns).round(3))) == 31
    assert abs(np.abs(turns).mean() - 67.5) < 4


def test_operate__leaves_its_input_alone() -> None:
    image = torch.from_numpy(np.array(make.image(size=(20, 20)))).permute(2, 0, 1).contiguous()
    before = image.clone()
    for name in OPERATIONS:
        seen = operate(image, Operation(name, {"Posterize": 3.0, "Translate": 4.0}.get(name, 0.4)))
        assert seen.dtype == torch.uint8
        assert seen.shape == image.shape
    assert torch.equal(image, before)


def test_trivial__crop_mirror_and_one_operation_in_this_order() -> None:
    rotate = (OPERATIONS.index("Rotate") + 0.5) / len(OPERATIONS)
    image = make.image(size=(60, 60))
    cut = with_draws(image, Augment("crop", 0.5), 0.1, 0.5, 0.5, 0.5, 0.5)

    seen = with_draws(image, Augment("trivial", 0.5), 0.1, 0.5, 0.5, 0.5, 0.5, rotate, 20.5 / 31, 0.9)

    expected = operate(torch.from_numpy(cut.copy()).permute(2, 0, 1), Operation("Rotate", 90.0)).permute(1, 2, 0)
    assert np.array_equal(seen, expected.numpy())
    assert seen.flags.c_contiguous


def test_rand__two_operations_one_after_the_other() -> None:
    invert = (OPERATIONS.index("Solarize") + 0.5) / len(OPERATIONS)
    equal = (OPERATIONS.index("Equalize") + 0.5) / len(OPERATIONS)
    image = make.image(size=(60, 60))
    cut = torch.from_numpy(with_draws(image, Augment("crop"), 0.9, 0.5, 0.5, 0.5, 0.5).copy()).permute(2, 0, 1)

    seen = with_draws(image, Augment("rand"), 0.9, 0.5, 0.5, 0.5, 0.5, invert, equal)

    expected = operate(operate(cut, Operation("Solarize", 0.7)), Operation("Equalize"))
    assert np.array_equal(seen, expected.permute(1, 2, 0).numpy())


# Erasing ----------------------------------------------------------------------------------------------------------


def test_erase__paints_one_rectangle_in_the_mean_colour() -> None:
    plain, own = prepare(make.image(), OWN), [51, 102, 153]
    shares = []
    for key in range(300):
        seen = augmented(make.image(), Augment("none", erase=1.0), OWN, sample_generator(4, key))
        rows, columns = np.nonzero((seen != plain).any(axis=2))
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert (seen[top:bottom, left:right] == own).all()
        outside = np.ones((16, 16), bool)
        outside[top:bottom, left:right] = False
        assert np.array_equal(seen[outside], plain[outside])
        shares.append((bottom - top) * (right - left) / 256)
    assert min(shares) > 0.008
    assert max(shares) < 0.40
    assert 0.13 < np.mean(shares) < 0.21  # the mean of 0.02..0.33 is 0.175; the longest do not fit


def test_erase__rectangles_are_spread_as_torchvisions() -> None:
    from torchvision.transforms import v2

    n, white, own = 2000, np.full((16, 16, 3), 255, np.uint8), replace(OWN, resize=None)
    erasing = v2.RandomErasing(1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [erasing.make_params([torch.zeros(3, 16, 16)]) for _ in range(n)]
    theirs = np.array([[box[name] for name in ("j", "i", "w", "h")] for box in drawn], float)
    ours = np.empty((n, 4))
    for key in range(n):
        seen = augmented(white, Augment("none", erase=1.0), own, sample_generator(12, key))
        rows, columns = np.nonzero((seen != 255).all(axis=2))
        ours[key] = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    check_alike(ours, theirs)
    assert ours[:, 2:].max() == theirs[:, 2:].max() == 15  # never from edge to edge


def test_erase__as_often_as_asked() -> None:
    plain = prepare(make.image(), OWN)
    for chance in (0.0, 0.25):
        seen = [
            augmented(make.image(), Augment("none", erase=chance), OWN, sample_generator(6, key)) for key in range(800)
        ]
        share = np.mean([not np.array_equal(image, plain) for image in seen])
        assert abs(share - chance) < 3.3 * math.sqrt(chance * (1 - chance) / 800) + 1e-9


def test_erase__what_was_prepared_stays_as_it_is() -> None:
    image = make.image(size=(16, 16))
    before = np.asarray(image).copy()
    own = replace(OWN, resize=None)

    augmented(before, Augment("none", erase=1.0), own, sample_generator(0, 0))

    assert np.array_equal(before, np.asarray(image))


# All of it --------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([0.01, 0.35, 1.0]),
    st.sampled_from([0.0, 1.0]),
    WORDS,
)
@examples(max_examples=150)
def test_augmented__any_image_becomes_the_input(
    kind: str, size: tuple[int, int], scale: float, erase: float, key: int
) -> None:
    image, augment = make.image(size=size), Augment(kind, scale, erase)
    before = image.tobytes()

    seen = augmented(image, augment, OWN, sample_generator(9, key))

    assert seen.shape == (16, 16, 3)
    assert seen.dtype == np.uint8
    assert seen.flags.c_contiguous
    assert image.tobytes() == before
    np.random.default_rng().normal()  # nothing that is drawn elsewhere matters
    torch.rand(1)
    assert np.array_equal(seen, augmented(np.asarray(image), augment, OWN, sample_generator(9, key)))


@pytest.mark.parametrize("kind", ["crop", "trivial", "rand"])
def test_augmented__others_for_other_epochs_and_samples(kind: str) -> None:
    seen = {one(kind, epoch, key).tobytes() for epoch in range(1, 6) for key in range(5)}

    assert len(seen) >= 23  # shifted by more than its side, an image is black


@pytest.mark.parametrize("kind", KINDS)
def test_augmented__asks_torch_for_no_chance(kind: str) -> None:
    before = torch.get_rng_state()
    one(kind, erase=1.0)

    assert torch.equal(torch.get_rng_state(), before)
