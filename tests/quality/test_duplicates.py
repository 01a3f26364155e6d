"""Duplicates: every planted copy is found, and nothing else, whatever the order."""

from __future__ import annotations

import functools
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from headway.data.dataset import TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Contents, Dataset, Split
from headway.data.descriptors import BYTES, describe, pixel_digest
from headway.data.images import decode
from headway.quality import duplicates as module
from headway.quality.duplicates import Duplicates, crossing, find_duplicates, group_pairs, too_alike
from headway.quality.matching import find_matches
from headway.quality.signatures import CENTRE, n_even, nearest, signatures

Change = Callable[[Image.Image], Image.Image]


@functools.cache
def photo(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A picture with the spectrum of a photograph: noise whose amplitude falls with the frequency."""
    rng = np.random.default_rng([seed, 77])
    width, height = size
    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    fall = 1 / np.maximum(np.hypot(down, across), 1 / max(size)) ** 1.2
    planes = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) * fall).real for _ in range(3)]
    mixed = [planes[0] + 0.4 * plane for plane in planes]
    scaled = [128 + 45 * (plane - plane.mean()) / plane.std() for plane in mixed]
    return Image.fromarray(np.clip(np.stack(scaled, axis=-1), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return Image.open(stream).convert("RGB")


def half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


def crop(image: Image.Image) -> Image.Image:
    return image.crop((round(0.08 * image.width), 0, round(0.98 * image.width), round(0.9 * image.height)))


def flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Change] = {"jpeg": jpeg, "half": half, "crop": crop, "flip": flip}


def described(images: list[Image.Image]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(describe(image) for image in images), np.uint8).reshape(-1, BYTES)


def contents_of(images: list[Image.Image | None]) -> Contents:
    """What a pass sees of them; None = could not be read."""
    n = len(images)
    accepted = np.array([image is not None for image in images], bool)
    pixels = np.zeros((n, 32), np.uint8)
    for index, image in enumerate(images):
        if image is not None:
            pixels[index] = np.frombuffer(pixel_digest(np.asarray(image)), np.uint8)
    reasons = {index: "damaged PNG" for index in np.flatnonzero(~accepted).tolist()}
    return Contents(accepted, reasons, pixels.copy(), pixels, np.zeros((n, 2), np.int32))


def found_in(images: list[Image.Image]) -> Duplicates:
    return find_duplicates(contents_of([*images]), described(images), np.arange(len(images), dtype=np.intp))


def a_dataset(n: int) -> Dataset:
    class Nothing:
        def read(self, index: int) -> bytes:
            raise AssertionError("no image is read")

    return Dataset(
        name="d",
        kind="folders",
        names=[f"{index}.jpg" for index in range(n)],
        labels=np.array([-1 if index == 4 else index % 2 for index in range(n)], np.int32),
        given=np.full(n, UNASSIGNED, np.int8),
        groups=None,
        classes=("cat", "dog"),
        source=Nothing(),
    )


# Planted copies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [(96, 80), (32, 32), (240, 180)])
def test_near__a_changed_copy_is_found_and_nothing_else(change: str, size: tuple[int, int]) -> None:
    images = [photo(seed, size) for seed in range(40)]
    copies = [CHANGES[change](images[index]) for index in (3, 17, 30)]

    found = found_in([*images, *copies])

    assert (found.exact, found.near) == ((), ((3, 40), (17, 41), (30, 42)))


def test_near__several_changes_at_once() -> None:
    images = [photo(seed) for seed in range(40)]

    assert found_in([*images, flip(jpeg(crop(images[5])))]).near == ((5, 40),)


def test_near__all_copies_of_one_picture_are_one_group() -> None:
    images = [photo(seed) for seed in range(30)]
    copies = [change(images[7]) for change in CHANGES.values()]

    assert found_in([*images, *copies]).near == ((7, 30, 31, 32, 33),)


def test_near__takes_exact_copies_along() -> None:
    images = [photo(seed) for seed in range(20)]

    found = found_in([*images, images[4], jpeg(images[4]), images[9]])

    assert found.exact == ((4, 20), (9, 22))
    assert found.near == ((4, 20, 21),)


def test_near__pictures_without_contrast_are_no_copies() -> None:
    grey = [Image.new("RGB", (40, 40), (value, value, value)) for value in (0, 1, 80, 128, 254, 255)]

    assert found_in(grey).near == ()


def test_near__pictures_that_are_alike_by_nature_are_called_no_copies() -> None:
    digits = load_digits()
    images = [Image.fromarray(np.uint8(image * 15)).convert("RGB").resize((64, 64)) for image in digits.images[:500]]

    found = found_in(images)

    assert found.near is None
    assert found.why.startswith("near copies cannot be told here: ")
    assert found.why.endswith(
        " of 500 images look like copies of others, in large groups, as pictures do that are alike by nature (digits, "
        "icons), and frames of a film. Frames of one film belong in one set: give them a group"
    )


@pytest.mark.parametrize(
    ("sizes", "n", "expected"),
    [([], 0, False), ([2] * 40, 100, False), ([9], 100, False), ([9, 9], 100, True), ([100, 2, 2], 2000, False)],
    ids=["nothing", "many pairs", "one group of a tenth at most", "two of them", "one large group of many images"],
)
def test_near__what_is_too_alike(sizes: list[int], n: int, expected: bool) -> None:
    assert too_alike(sizes, n) is expected


def test_near__other_pictures_are_no_copies() -> None:
    assert found_in([photo(seed) for seed in range(200)]).near == ()


def test_near__does_not_depend_on_the_order() -> None:
    images = [photo(seed) for seed in range(25)]
    images += [change(images[number]) for number, change in enumerate(CHANGES.values())]
    order = np.random.default_rng(3).permutation(len(images))

    straight, turned = found_in(images), found_in([images[index] for index in order])

    assert turned.near is not None
    back = sorted(tuple(sorted(int(order[member]) for member in group)) for group in turned.near)
    assert back == list(straight.near or ()) != []


def test_near__of_samples_with_holes_between_them() -> None:
    images = [photo(seed) for seed in range(10)]
    whole: list[Image.Image | None] = [None, *images[:5], None, *images[5:], flip(images[6])]
    kept = np.array([index for index, image in enumerate(whole) if image is not None], np.intp)
    shown = described([image for image in whole if image is not None])

    assert find_duplicates(contents_of(whole), shown, kept).near == ((8, 12),)


@pytest.mark.parametrize("n", [0, 1])
def test_near__of_hardly_anything(n: int) -> None:
    assert found_in([photo(0)][:n]) == Duplicates((), (), ())


def test_near__nobody_looked() -> None:
    found = find_duplicates(contents_of([photo(0), flip(photo(0))]), why="too many")

    assert (found.near, found.why) == (None, "too many")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(CHANGES)))
def test_matches__either_way_round(seed: int, change: str) -> None:
    one = photo(seed)
    other = CHANGES[change](one)

    assert find_matches(described([one, other])).tolist() == [[0, 1]]
    assert find_matches(described([other, one])).tolist() == [[0, 1]]


def test_matches__any_number_of_threads_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.quality.signatures._ROWS", 9)
    monkeypatch.setattr("headway.quality.matching._PAIRS", 5)
    images = [photo(seed) for seed in range(40)]
    shown = described([*images, *(change(images[3 * n]) for n, change in enumerate(CHANGES.values()))])

    one, three = find_matches(shown), find_matches(shown, 3)

    assert one.tolist() == three.tolist() == [[0, 40], [3, 41], [6, 42], [9, 43]]


def test_nearest__memory_stays_bounded_where_all_is_alike() -> None:
    # Eight million pairs are similar: their 20 bytes, and sorting them, would take 300 MB.
    rng = np.random.default_rng(0)
    (one,) = signatures(described([photo(1)]))
    many = (one + rng.normal(scale=0.01, size=(4000, len(one)))).astype(np.float32)
    tracemalloc.start()
    try:
        found = nearest(many, many, 3, 0.5)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(group_pairs(found.pairs, 4000)) == 1
    assert most < 80e6


@pytest.mark.slow
def test_near__on_real_photos(real_images: Path) -> None:
    files = sorted((real_images / "cats-vs-dogs" / "test").rglob("*.jpg"))
    images = [decode(path.read_bytes(), path.name).image for path in files]
    copies = [change(images[40 * n + one]) for n, change in enumerate(CHANGES.values()) for one in range(40)]

    found = found_in([*images, *copies])

    pairs = {(40 * n + one, len(images) + 40 * n + one) for n in range(len(CHANGES)) for one in range(40)}
    assert found.near is not None
    assert set(found.near) <= pairs
    assert len(found.near) >= 0.97 * len(pairs)


# Candidates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False])
def test_nearest__as_comparing_one_by_one(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.quality.signatures._ROWS", 7)
    monkeypatch.setattr("headway.quality.signatures._COLUMNS", 5)
    monkeypatch.setattr("headway.quality.signatures._MOST_HITS", 20)
    images = [photo(seed, (32, 32)) for seed in range(30)]
    shown = described([*images, *(flip(crop(image)) for image in images[:9])])
    mirrored = described([*(flip(image) for image in images), *(crop(image) for image in images[:9])])
    others = signatures(shown)
    queries = others if same else signatures(shown, CENTRE)
    turned = signatures(mirrored)

    found = nearest(queries, others, 3, 0.1)

    expected = set()
    for one in range(len(queries)):
        values = np.maximum(queries[one] @ others.T, queries[one] @ turned.T)
        values[: one + 1 if same else 0] = -1
        values[one] = -1
        best = [int(other) for other in np.argsort(-values, kind="stable")[:3] if values[other] > 0.1]
        expected |= {(one, other, bool(queries[one] @ turned[other] > queries[one] @ others[other])) for other in best}
    pairs = [(*pair, turn) for pair, turn in zip(found.pairs.tolist(), found.mirrored.tolist(), strict=True)]
    assert {(int(a), int(b), bool(c)) for a, b, c in pairs} == expected
    assert len(pairs) == len(expected)


def test_signatures__a_mirrored_image_turns_the_odd_part() -> None:
    image = photo(4, (16, 16))
    plain, turned = signatures(described([image, flip(image)]))
    even = n_even()

    assert np.allclose(plain[:even], turned[:even], atol=0.01)
    assert np.allclose(plain[even:], -turned[even:], atol=0.01)
    assert np.linalg.norm(plain) <= 1


def test_signatures__the_middle_of_a_picture_is_that_picture_cut() -> None:
    image = photo(8, (400, 400))
    left = round(200 * (1 - CENTRE))
    cut = image.crop((left, left, 400 - left, 400 - left))

    (middle,), (plain,) = signatures(described([image]), CENTRE), signatures(described([cut]))

    assert float(middle @ plain) > 0.98 * float(plain @ plain)


# Groups ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups__as_a_walk_over_the_graph(n: int, edges: list[tuple[int, int]]) -> None:
    edges = [(a % n, b % n) for a, b in edges]
    expected, seen = [], set()
    for start in range(n):
        reached, todo = {start}, [start]
        while todo:
            one = todo.pop()
            new = {b for a, b in edges if a == one} | {a for a, b in edges if b == one}
            todo += new - reached
            reached |= new
        if start not in seen and len(reached) > 1:
            expected.append(tuple(sorted(reached)))
        seen |= reached

    assert sorted(group_pairs(np.array(edges, np.intp).reshape(-1, 2), n)) == sorted(expected)


def test_groups__a_long_chain() -> None:
    order = np.random.default_rng(1).permutation(5000)
    chain = np.stack([order[:-1], order[1:]], axis=1)

    assert group_pairs(chain, 5000) == (tuple(range(5000)),)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_exact__as_counting(samples: list[tuple[int, bool]]) -> None:
    pixels = np.zeros((len(samples), 32), np.uint8)
    pixels[:, 31] = [kind for kind, _ in samples]
    accepted = np.array([good for _, good in samples], bool)
    seen = Contents(accepted, {}, pixels, pixels, np.zeros((len(samples), 2), np.int32))

    groups = find_duplicates(seen).exact

    alike = [[i for i, (kind, good) in enumerate(samples) if good and kind == one] for one in range(6)]
    assert sorted(map(list, groups)) == sorted(group for group in alike if len(group) > 1)


# What is told ---------------------------------------------------------------------------------------------------


def test_json__all_of_it() -> None:
    found = Duplicates(((0, 2), (1, 3)), (True, False), ((0, 2, 4), (5, 6)))
    split = Split(np.array([TRAIN, VAL, TEST, VAL, UNLABELLED, TRAIN, TRAIN], np.int8), ("test",))

    told = found.to_json(a_dataset(7), split)

    first = {"names": ["0.jpg", "2.jpg"], "labels": ["cat", "cat"], "subsets": ["train", "test"], "n": 2}
    second = {"names": ["1.jpg", "3.jpg"], "labels": ["dog", "dog"], "subsets": ["val", "val"], "n": 2}
    three = {
        "names": ["0.jpg", "2.jpg", "4.jpg"],
        "labels": ["cat", "cat", None],
        "subsets": ["train", "test", "unlabelled"],
        "n": 3,
    }
    last = {"names": ["5.jpg", "6.jpg"], "labels": ["dog", "cat"], "subsets": ["train", "train"], "n": 2}
    assert told == {
        "duplicates": {
            "exact_groups": [{**first, "same_bytes": True}, {**second, "same_bytes": False}],
            "exact_count": 2,
            "near_groups": [three, last],
            "near_count": 2,
            "not_looked": "",
        },
        "leaks": {
            "exact_groups": [{**first, "same_bytes": True}],
            "exact_count": 1,
            "near_groups": [three],
            "near_count": 1,
            "not_looked": "",
        },
    }
    assert json.loads(json.dumps(told)) == told


def test_json__nobody_looked_and_no_split() -> None:
    told = Duplicates(((0, 1),), (True,), None, "too many").to_json(a_dataset(2), None)

    assert told["duplicates"]["near_groups"] is told["leaks"]["near_count"] is None
    assert told["duplicates"]["not_looked"] == "too many"
    assert told["leaks"]["exact_groups"] == []
    assert told["duplicates"]["exact_groups"][0]["subsets"] == [None, None]


def test_json__is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GROUPS", 2)
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    groups = ((0, 1, 2, 3, 4), (5, 6), (7, 8))

    told = Duplicates(groups, (True,) * 3, groups).to_json(a_dataset(9), None)["duplicates"]

    for kind in ("exact", "near"):
        assert [len(group["names"]) for group in told[f"{kind}_groups"]] == [3, 2]
        assert (told[f"{kind}_groups"][0]["n"], told[f"{kind}_count"]) == (5, 3)


def test_crossing__unlabelled_images_leak_nothing() -> None:
    subsets = np.array([TRAIN, UNLABELLED, TEST, UNASSIGNED, VAL, TEST], np.int8)

    assert crossing(((0, 1), (2, 3), (0, 1, 2), (4, 5)), subsets) == ((0, 1, 2), (4, 5))
