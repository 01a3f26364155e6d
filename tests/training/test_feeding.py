"""Feeds: the same bits from memory and disk and for any number of threads; nothing is left when they are left."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare
from headway.data.dataset import Dataset
from headway.data.images import decode
from headway.data.sources import load_dataset
from headway.errors import HeadwayError
from headway.events import Progress, drain
from headway.features.reading import content_digest
from headway.training import feeding
from headway.training.augment import KINDS, Augment, augmented, sample_generator, stream_of
from headway.training.feeding import (
    fits_in_memory,
    free_memory,
    from_disk,
    from_features,
    from_memory,
    hold_images,
    keeps_whole,
)
from headway.training.task import Feed
from tests import make
from tests.features.toy import OWN, Memory, dataset

EVERY = [np.array([3, 0, 7, 7, 11]), np.array([], dtype=np.intp), np.array([1]), np.arange(12), np.array([9, 8])]

SMALL = replace(OWN, resize=None)  # keeps an image of its size as it is


def lost(name: str, reason: str) -> str:
    """The whole message on a file that is not what it was."""
    return (
        f"{name} could be used when this run looked through the images, and cannot be used any more: {reason}. "
        "Put it back as it was and go on with the same run, or start a new one without it"
    )


def contents() -> list[bytes | NDArray[np.uint8] | None]:
    """Twelve images of many sizes and kinds; a JPEG among them is decoded at 1/8 scale, for crops at 1/4."""
    pixels = np.asarray(make.image(1, 9, (30, 20)))
    files = [make.png(kind, kind, (20 + 7 * kind, 50 - 4 * kind)) for kind in range(9)]
    return [*files, make.jpeg(2, 2, (200, 150)), pixels, make.rotated(6)]


def keys_of(data: Dataset) -> NDArray[np.uint64]:
    digests = [content_digest(data.source.read(index))[:8] for index in range(len(data))]
    return np.frombuffer(b"".join(digests), np.uint64)


def disk(augment: Augment, workers: int = 0, seed: int = 1, own: Preprocess = OWN) -> Feed:
    data = dataset(contents())
    return from_disk(data, np.arange(12), own, keys_of(data), augment, seed, workers)


def batches_of(feed: Feed, epoch: int, asked: Sequence[NDArray[np.intp]] = EVERY) -> list[bytes]:
    found = []
    for positions, batch in zip(asked, feed(asked, epoch), strict=True):
        assert batch.shape == (len(positions), 16, 16, 3)
        assert batch.dtype == torch.uint8
        assert batch.is_contiguous()
        found.append(batch.numpy().tobytes())
    return found


def feeding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("headway-feed")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert feeding_threads() == []


# From the disk ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("erase", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_disk__each_image_is_a_function_of_file_seed_epoch_and_key(kind: str, erase: float) -> None:
    augment, data = Augment(kind, erase=erase), dataset(contents())
    keys = keys_of(data)
    feed = disk(augment)
    for epoch in (0, 1, 2):
        expected = []
        for index, content in enumerate(contents()):
            assert content is not None
            used = augment if epoch else Augment("none")
            image = decode(content, f"{index}.png", shortest=used.shortest(OWN)).image
            draws = sample_generator(stream_of(1, epoch), int(keys[index]))
            expected.append(augmented(image, used, OWN, draws) if epoch else prepare(image, OWN))
        wanted = np.stack(expected)
        assert batches_of(feed, epoch) == [wanted[positions].tobytes() for positions in EVERY]


@pytest.mark.parametrize("kind", ["none", "crop", "trivial"])
def test_disk__workers_change_no_bit(kind: str) -> None:
    augment = Augment(kind, erase=0.3)
    found = [batches_of(disk(augment, workers), epoch) for workers in (0, 1, 2, 5) for epoch in (3,)]

    assert found == [found[0]] * 4


def test_disk__another_seed_and_another_epoch_change_images() -> None:
    seen = {b"".join(batches_of(disk(Augment("crop"), 2, seed), epoch)) for seed in range(3) for epoch in range(1, 4)}

    assert len(seen) == 9


def test_disk__positions_are_those_of_the_indices() -> None:
    data = dataset(contents())
    chosen = np.array([5, 2, 8])
    feed = from_disk(data, chosen, OWN, keys_of(data)[chosen], Augment("crop"), 1, 2)

    (found,) = batches_of(feed, 1, [np.array([2, 0])])
    assert [found] == batches_of(disk(Augment("crop")), 1, [np.array([8, 5])])


@pytest.mark.parametrize("workers", [0, 2])
def test_disk__a_file_that_is_gone_is_named(workers: int) -> None:
    data = dataset(contents())
    keys = keys_of(data)
    assert isinstance(data.source, Memory)
    data.source.contents[7] = None
    feed = from_disk(data, np.arange(12), OWN, keys, Augment("none"), 0, workers)
    batches = feed([np.array([0, 1]), np.array([2, 7]), np.array([3])], 1)

    assert len(next(batches)) == 2
    with pytest.raises(HeadwayError) as caught:
        next(batches)
    assert caught.value.exit_code == 1
    assert str(caught.value) == lost("0007.png", "does not exist")


@pytest.mark.parametrize("content", [make.png(0, 99), b"text", b"", make.truncated(make.png(4, 4, (48, 34)))])
def test_disk__a_file_that_was_changed_is_named(content: bytes) -> None:
    data = dataset(contents())
    keys = keys_of(data)
    assert isinstance(data.source, Memory)
    data.source.contents[4] = content
    with pytest.raises(HeadwayError) as caught:
        list(from_disk(data, np.arange(12), OWN, keys, Augment("none"), 0, 0)([np.array([4])], 1))

    assert str(caught.value) == lost("0004.png", "its content is another one")


@pytest.mark.parametrize("place", range(8))
def test_disk__all_eight_bytes_of_the_key_are_compared(place: int) -> None:
    data = dataset(contents())
    keys = keys_of(data).copy()
    keys[4] ^= np.uint64(1 << 8 * place)
    with pytest.raises(HeadwayError) as caught:
        list(from_disk(data, np.arange(12), OWN, keys, Augment("none"), 0, 0)([np.array([4])], 1))

    assert str(caught.value) == lost("0004.png", "its content is another one")


@pytest.mark.parametrize("workers", [0, 2])
def test_disk__files_of_a_folder_that_are_moved_or_overwritten_are_named(tmp_path: Path, workers: int) -> None:
    """Real files; what came before the broken one was given, and the feed goes on where it is put back."""
    root = make.class_folders(tmp_path / "pets", {"cats": 3, "do\ngs": 3})
    data = load_dataset(root)
    feed = from_disk(data, np.arange(6), OWN, keys_of(data), Augment("crop"), 0, workers)
    batches = [np.array([0, 5]), np.array([4, 1])]
    before = batches_of(feed, 1, batches)
    place = root / data.names[4]
    whole = place.read_bytes()

    def told() -> str:
        given = feed(batches, 1)
        assert next(given).numpy().tobytes() == before[0]
        with pytest.raises(HeadwayError) as caught:
            next(given)
        assert feeding_threads() == []
        return str(caught.value)

    place.unlink()
    assert told() == lost("do\\ngs/0001.jpg", "does not exist")
    place.mkdir()
    assert told() == lost("do\\ngs/0001.jpg", "not a file (a folder)")
    place.rmdir()
    place.write_bytes(make.truncated(whole))
    assert told() == lost("do\\ngs/0001.jpg", "its content is another one")
    place.write_bytes(whole)
    assert batches_of(feed, 1, batches) == before


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("kind", "step"), [("none", "prepare"), ("crop", "augmented")])
def test_disk__too_little_memory_names_the_image(
    kind: str, step: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> NDArray[np.uint8]:
        raise MemoryError

    monkeypatch.setattr(feeding, step, exhausted)
    with pytest.raises(HeadwayError) as caught:
        list(disk(Augment(kind), workers)([np.array([2])], 1))

    assert str(caught.value) == lost("0002.png", "not enough memory to scale it")


def test_disk__what_the_system_cannot_read_is_named() -> None:
    class Broken:
        def read(self, index: int) -> bytes:
            raise OSError(5, "Input/output error")

    data = replace(dataset(contents()), source=Broken())
    with pytest.raises(HeadwayError) as caught:
        list(from_disk(data, np.arange(12), OWN, np.zeros(12, np.uint64), Augment("none"), 0, 1)([np.arange(3)], 1))

    assert str(caught.value) == lost("0000.png", "cannot be read: Input/output error")


# Threads ----------------------------------------------------------------------------------------------------------


class Slow:
    """A source that counts what is read of it, in which threads, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.inner, self.seconds = Memory(contents() * 20), seconds
        self.threads: set[str] = set()

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        return self.inner.read(index)


def slow_feed(source: Slow, workers: int) -> Feed:
    data = replace(dataset(contents() * 20), source=source)
    keys = np.tile(keys_of(dataset(contents())), 20)
    return from_disk(data, np.arange(240), OWN, keys, Augment("none"), 0, workers)


def test_threads__none_where_there_are_no_workers() -> None:
    source = Slow()
    list(slow_feed(source, 0)([np.arange(20)], 1))

    assert source.threads == {threading.current_thread().name}


def test_threads__all_of_them_work_on_the_first_batch() -> None:
    source = Slow(0.002)
    list(slow_feed(source, 3)([np.arange(100)], 1))

    assert source.threads == {f"headway-feed_{number}" for number in range(3)}


def test_threads__only_a_few_batches_are_made_ahead() -> None:
    source = Slow()
    batches = slow_feed(source, 2)([np.arange(10)] * 12, 1)
    next(batches)
    time.sleep(0.2)
    assert source.inner.reads == 40  # the one that was asked for, and three more
    assert sum(1 for _ in batches) == 11
    assert source.inner.reads == 120


def test_threads__nothing_is_read_before_the_first_batch_is_asked_for() -> None:
    source = Slow()
    slow_feed(source, 2)([np.arange(10)], 1)

    assert source.inner.reads == 0


def test_threads__end_soon_where_the_feed_is_left() -> None:
    source = Slow(0.1)
    batches: Any = slow_feed(source, 2)([np.arange(4), *[np.arange(240)] * 3], 1)
    next(batches)
    start = time.monotonic()
    batches.close()

    assert time.monotonic() - start < 0.5  # what a thread has begun with takes 0.8 s, all that is under way 36 s
    assert feeding_threads() == []


def test_threads__a_feed_may_be_left_without_being_closed() -> None:
    source = Slow(0.02)
    for batch in slow_feed(source, 2)([np.arange(4)] * 50, 1):
        assert len(batch) == 4
        break

    assert feeding_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_threads__torch_computes_in_one_thread_each_and_is_left_as_it_was(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)  # the fixture of this room puts it back
    seen: list[int] = []

    def spy(*given: Any) -> NDArray[np.uint8]:
        seen.append(torch.get_num_threads())
        return augmented(*given)

    monkeypatch.setattr(feeding, "augmented", spy)
    for _ in disk(Augment("trivial"), workers)([np.arange(12)] * 3, 1):
        assert torch.get_num_threads() == 2
    new: list[int] = []
    later = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
    later.start()
    later.join()

    assert seen == [1] * 36
    assert (torch.get_num_threads(), new) == (2, [2])


# In memory --------------------------------------------------------------------------------------------------------


def squares(n: int = 30, side: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("erase", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["none", "flip"])
def test_memory__gives_the_bits_of_the_disk(kind: str, erase: float) -> None:
    augment, data = Augment(kind, erase=erase), dataset(contents())
    images = drain(hold_images(data, np.arange(12), OWN, 2))
    for epoch in (0, 1, 2):
        for workers in (0, 2):
            feed = from_memory(images, keys_of(data), augment, 1, workers, preprocess=OWN)
            assert batches_of(feed, epoch) == batches_of(disk(augment), epoch)


@pytest.mark.parametrize("kind", KINDS)
def test_memory__gives_the_bits_of_the_disk_with_crops_of_whole_images(kind: str) -> None:
    own, pixels = replace(OWN, resize=None, interpolation="bilinear"), squares()
    data = dataset(list(pixels))
    keys, augment = keys_of(data), Augment(kind, erase=0.2)
    assert keeps_whole(own)
    held = from_memory(pixels, keys, augment, 4, 0, preprocess=own)
    for workers in (0, 1, 2, 5):
        feed = from_memory(pixels, keys, augment, 4, workers, preprocess=own)
        read = from_disk(data, np.arange(30), own, keys, augment, 4, workers)
        assert batches_of(feed, 2) == batches_of(read, 2) == batches_of(held, 2)


def test_memory__batches_may_be_changed_and_images_stay() -> None:
    pixels = squares()
    before = pixels.copy()
    pixels.flags.writeable = False
    for kind in ("none", "flip"):
        for batch in from_memory(pixels, np.arange(30, dtype=np.uint64), Augment(kind), 0, 0)(EVERY, 1):
            batch.zero_()

    assert np.array_equal(pixels, before)


@given(st.integers(0, 2**32), st.integers(1, 50), st.lists(st.integers(0, 29), max_size=40))
def test_memory__mirrors_by_sample_not_by_place_in_the_batch(seed: int, epoch: int, positions: list[int]) -> None:
    pixels, keys = squares(), np.arange(30, dtype=np.uint64) ** 3
    feed = from_memory(pixels, keys, Augment("flip"), seed, 0)
    (whole,) = feed([np.arange(30)], epoch)
    (some,) = feed([np.array(positions, dtype=np.intp)], epoch)

    assert torch.equal(some, whole[positions])
    turned = [not np.array_equal(image, before) for image, before in zip(whole.numpy(), pixels, strict=True)]
    expected = [sample_generator(stream_of(seed, epoch), int(key)).random() < 0.5 for key in keys]
    assert turned == expected
    for image, before, turn in zip(whole.numpy(), pixels, turned, strict=True):
        assert np.array_equal(image, before[:, ::-1] if turn else before)


@pytest.mark.parametrize("augment", [Augment("crop"), Augment("none", erase=0.1)])
def test_memory__crops_and_erasing_need_the_preprocess(augment: Augment) -> None:
    with pytest.raises(ValueError, match="crops and erasing need the preprocess of the images"):
        from_memory(squares(), np.arange(30, dtype=np.uint64), augment, 0, 0)


@pytest.mark.parametrize("kind", ["none", "flip"])
def test_memory__plain_and_mirrored_batches_need_no_thread(kind: str) -> None:
    for _ in from_memory(squares(), np.arange(30, dtype=np.uint64), Augment(kind), 0, 2, preprocess=SMALL)(EVERY, 1):
        assert feeding_threads() == []


def test_features__are_given_as_they_are() -> None:
    rows = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)
    for epoch in (0, 3):
        for positions, batch in zip(EVERY, from_features(rows)(EVERY, epoch), strict=True):
            assert batch.dtype == torch.float32
            assert np.array_equal(batch.numpy(), rows[positions])


# Held -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_hold__is_prepare(fit: Any, threads: int) -> None:
    own = replace(OWN, fit=fit)
    chosen = np.array([9, 0, 10, 11, 4])
    images = drain(hold_images(dataset(contents()), chosen, own, threads))

    files = [contents()[index] for index in chosen]
    expected = [prepare(decode(file, "", shortest=own.draft).image, own) for file in files if file is not None]
    assert np.array_equal(images, np.stack(expected))
    assert images.dtype == np.uint8


SIDES = st.integers(1, 20)
OWNS = st.builds(
    Preprocess,
    st.just(16),
    st.one_of(st.none(), st.integers(10, 20)),
    st.sampled_from(["crop", "squash", "pad"]),
    st.sampled_from(["bilinear", "bicubic", "lanczos", "nearest"]),
    st.just((0.5, 0.5, 0.5)),
    st.just((0.5, 0.5, 0.5)),
)


@given(OWNS, st.one_of(st.just((16, 16)), st.tuples(SIDES, SIDES)))
def test_hold__pixels_of_the_inputs_size_by_the_short_way_are_the_same(own: Preprocess, size: tuple[int, int]) -> None:
    pixels = np.asarray(make.image(size=size))

    (image,) = drain(hold_images(dataset([pixels]), np.arange(1), own, 0))

    assert np.array_equal(image, prepare(decode(pixels, "").image, own))
    if keeps_whole(own) and size == (16, 16):
        assert np.array_equal(image, pixels)


def test_hold__says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "_SAID_EVERY", 0.0)
    data = dataset(contents() * 20)

    assert list(hold_images(data, np.arange(150), OWN, 1)) == [
        Progress("images", 64, 150),
        Progress("images", 128, 150),
        Progress("images", 150, 150),
    ]


def test_hold__left_half_way_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "_SAID_EVERY", 0.0)
    steps = hold_images(dataset(contents() * 40), np.arange(480), OWN, 2)
    next(steps)
    steps.close()

    assert feeding_threads() == []


def test_hold__of_nothing_is_empty() -> None:
    assert drain(hold_images(dataset(contents()), np.arange(0), OWN, 1)).shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"", "empty file"),
        (make.encode(make.image(), "BMP")[: 54 + 24 * 64 * 3], "truncated at 50 %"),  # 24 rows of 48
        (np.zeros((16, 16), np.uint8), "pixels uint8 (16, 16), expected uint8 (height, width, 3)"),
        (np.zeros((16, 16, 3), np.float32), "pixels float32 (16, 16, 3), expected uint8 (height, width, 3)"),
    ],
)
@pytest.mark.parametrize("threads", [0, 2])
def test_hold__a_file_that_cannot_be_used_any_more_is_named(content: Any, reason: str, threads: int) -> None:
    files = contents()
    files[3] = content
    with pytest.raises(HeadwayError) as caught:
        drain(hold_images(dataset(files), np.arange(12), replace(OWN, resize=None), threads))

    assert caught.value.exit_code == 1
    assert str(caught.value) == lost("0003.png", reason)


def test_hold__pixels_that_need_no_scaling_are_neither_decoded_nor_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be done")

    pixels = squares()
    monkeypatch.setattr(feeding, "decode", unwanted)
    monkeypatch.setattr(feeding, "prepare", unwanted)

    assert np.array_equal(drain(hold_images(dataset(list(pixels)), np.arange(30), SMALL, 2)), pixels)


@pytest.mark.parametrize("size", [(36, 36), (60, 50), (100, 80), (200, 150)])
def test_hold__a_jpeg_is_decoded_no_smaller_than_the_network_needs(size: tuple[int, int]) -> None:
    content = make.jpeg(1, 4, size)
    with Image.open(io.BytesIO(content)) as picture:  # Pillow's own choice, as long as both sides keep 18 pixels
        scale = max(times for times in (1, 2, 4, 8) if min(size) // times >= 18)
        picture.draft("RGB", (size[0] // scale, size[1] // scale))
        expected = prepare(picture.convert("RGB"), OWN)

    (image,) = drain(hold_images(dataset([content]), np.arange(1), OWN, 0))
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("resize", [None, 8, 15, 16, 17, 18])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_keeps_whole__is_what_prepare_does(fit: Any, resize: int | None) -> None:
    own = replace(OWN, fit=fit, resize=resize)
    images = [prepare(Image.fromarray(pixels), own) for pixels in squares()]

    assert keeps_whole(own) == np.array_equal(np.stack(images), squares())


# Memory -----------------------------------------------------------------------------------------------------------


def test_fits__a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(feeding, "free_memory", lambda: 4 * 10 * 16 * 16 * 3)

    assert fits_in_memory(10, 16)
    assert not fits_in_memory(11, 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert fits_in_memory(5, 16)
    assert not fits_in_memory(6, 16)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="not Linux")
def test_free_memory__is_what_the_system_says() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvail"))

    assert 0 < free_memory() <= whole
    assert free_memory() < 1.2 * 1024 * int(available.split()[1])
