"""One pass: nothing lost, nothing computed twice, a hit equal to a miss, whatever interrupts it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.backbones.engines import BATCH
from headway.backbones.preprocess import prepare
from headway.data.descriptors import pixel_digest
from headway.data.images import BadImage, decode
from headway.events import Progress
from headway.features import extract as extract_module
from headway.features import reading
from headway.features.reading import Readings, ReadTask, content_digest
from headway.features.store import DamagedShard, Store, open_store
from headway.features.views import View
from tests import make
from tests.features.toy import OWN, SPEC, TAPS, Toy, a_pass, all_columns, dataset, features_of, run

TEXT = b"this is no image, it only has the name of one"


def pngs(n: int, start: int = 0) -> list[bytes]:
    return [make.png(number % 3, number, (24, 20)) for number in range(start, start + n)]


def naive(contents: list[bytes]) -> NDArray[np.float32]:
    """What a plain loop gives: decode, prepare, toy network, one image after the other."""
    rows = []
    for content in contents:
        values = features_of(prepare(decode(content, "x.png").image, OWN))
        rows.append(np.concatenate([values[tap.name] for tap in TAPS]))
    return np.stack(rows)


def test_pass__gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    contents = pngs(70)

    features, seen = run(dataset(contents), tmp_path)

    assert np.array_equal(all_columns(features), naive(contents))
    assert (features.computed, features.reused) == (70, 0)
    assert seen.accepted.all()
    assert seen.reasons == {}
    assert [row.tobytes() for row in seen.digests] == [content_digest(content) for content in contents]
    assert [row.tobytes() for row in seen.pixels] == [
        pixel_digest(np.asarray(decode(content, "x").image)) for content in contents
    ]
    assert seen.sizes.tolist() == [[24, 20]] * 70


@pytest.mark.parametrize("n", [0, 1, BATCH - 1, BATCH, BATCH + 1])
def test_pass__batches_of_any_number(tmp_path: Path, n: int) -> None:
    engine = Toy()

    features, seen = run(dataset(pngs(n)), tmp_path, engine)

    assert (features.computed, len(seen.accepted), engine.calls) == (n, n, -(-n // BATCH))


class Late(Toy):
    """Answers only when asked; it notes how many answers were open when the next images came."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.most = 0, 0

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Any]:
        self.open += 1
        self.most = max(self.most, self.open)
        images = images.copy()

        def answer() -> Any:
            self.open -= 1
            return self.run(images)

        return answer


@pytest.mark.parametrize("n", [1, BATCH, 3 * BATCH + 7])
def test_pass__an_engine_that_answers_late(tmp_path: Path, n: int) -> None:
    contents, engine = pngs(n), Late()

    features, _ = run(dataset(contents), tmp_path, engine)

    assert np.array_equal(all_columns(features), naive(contents))
    assert (engine.open, engine.most, features.computed) == (0, min(2, -(-n // BATCH)), n)


def test_pass__where_all_are_damaged_no_engine_is_opened(tmp_path: Path) -> None:
    def unwanted() -> Toy:
        raise AssertionError("opened an engine")

    contents: Any = [TEXT, None, b""]

    features, seen = run(dataset(contents), tmp_path, unwanted)

    assert (features.computed, seen.accepted.sum(), len(seen.reasons)) == (0, 0, 3)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["fine", "again", "text", "torn", "gone"]), max_size=40))
def test_pass__accepted_and_rejected_are_all(tmp_path_factory: pytest.TempPathFactory, kinds: list[str]) -> None:
    def content(number: int, kind: str) -> bytes | None:
        if kind == "gone":
            return None
        if kind in ("text", "again"):
            return TEXT if kind == "text" else make.png(seed=7)
        whole = make.png(seed=number + 10)
        return make.truncated(whole) if kind == "torn" else whole

    contents = [content(number, kind) for number, kind in enumerate(kinds)]

    features, seen = run(dataset(contents), tmp_path_factory.mktemp("cache"))

    fine = [kind in ("fine", "again") for kind in kinds]
    assert seen.accepted.tolist() == fine
    assert sorted(seen.reasons) == [number for number, good in enumerate(fine) if not good]
    assert all(seen.reasons.values())
    assert (features.positions >= 0).tolist() == fine
    assert features.computed == len({content for content, good in zip(contents, fine, strict=True) if good})
    assert features.computed + features.reused == sum(fine)
    for number, good in enumerate(fine):
        assert seen.pixels[number].any() == good
        assert seen.digests[number].any() == (kinds[number] != "gone")


def test_pass__names_why_each_is_set_aside(tmp_path: Path) -> None:
    contents: list[bytes | None] = [make.png(), TEXT, None, b"", make.truncated(make.png(seed=3))]

    _, first = run(dataset(contents), tmp_path)
    _, again = run(dataset(contents), tmp_path)

    expected: dict[int, str] = {2: "does not exist"}
    for number in (1, 3, 4):
        with pytest.raises(BadImage) as caught:
            decode(contents[number] or b"", f"{number:04d}.png")
        expected[number] = caught.value.reason
    assert first.reasons == again.reasons == expected


def test_pass__the_same_bytes_are_computed_once(tmp_path: Path) -> None:
    contents = [make.png(seed=number % 4) for number in range(50)]
    engine = Toy()

    features, _ = run(dataset(contents), tmp_path, engine)

    assert (features.computed, features.reused, engine.calls) == (4, 46, 1)
    assert np.array_equal(all_columns(features), naive(contents))


def test_columns__are_the_same_from_memory_and_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: list[bytes | None] = [*pngs(20), TEXT, *pngs(3)]
    features, _ = run(dataset(contents), tmp_path)
    asked, names = np.array([22, 3, 3, 0]), [tap.name for tap in reversed(TAPS)]
    monkeypatch.setattr(extract_module, "_HELD", 0)
    stored = features.columns(names, asked)
    monkeypatch.undo()
    reads: list[tuple[str, ...]] = []
    read = Store.columns

    def counted(store: Store, taps: Sequence[str], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        reads.append(tuple(taps))
        return read(store, taps, positions)

    monkeypatch.setattr(Store, "columns", counted)

    for _ in range(3):
        found = features.columns(names, asked)
        assert np.array_equal(found, stored)
        found[:] = -1  # what is handed out is the caller's own
    assert sorted(reads) == sorted((name,) for name in names)


@pytest.mark.parametrize(("machine", "kept"), [(16 * 4 * 20 * 8, True), (16 * 4 * 20 * 8 - 1, False), (None, True)])
def test_columns__stay_in_memory_where_those_asked_for_are_few_beside_the_machine(
    machine: int | None, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 images, 5 + 3 of the 11 columns: a sixteenth of what the machine has."""
    features, _ = run(dataset(pngs(20)), tmp_path)
    monkeypatch.setattr(extract_module, "memory_bytes", lambda: machine)
    for names in (["last"], ["last", "stage1_mean"]):
        features.columns(names, np.arange(20))
    monkeypatch.setattr(Store, "columns", lambda *_: pytest.fail("read again"))
    if kept:
        assert features.columns(["last", "stage1_mean"], np.array([3])).shape == (1, 8)
    else:
        assert features.columns(["last"], np.array([3])).shape == (1, 5)
        with pytest.raises(pytest.fail.Exception):
            features.columns(["last", "stage1_mean"], np.array([3]))


def test_columns__that_could_not_be_read_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = run(dataset(pngs(5)), tmp_path)

    def damaged(*_: Any) -> Any:
        raise DamagedShard(tmp_path)

    with monkeypatch.context() as broken:
        broken.setattr(Store, "columns", damaged)
        with pytest.raises(DamagedShard):
            features.columns(["last"], np.arange(5))

    assert np.array_equal(all_columns(features), naive(pngs(5)))


def test_warm__computes_and_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: list[bytes | None] = [*pngs(40), TEXT]
    cold, first = run(dataset(contents), tmp_path)

    def unwanted(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(reading, "decode", unwanted)
    engine = Toy()
    warm, again = run(dataset(contents), tmp_path, engine)

    assert (warm.computed, warm.reused, engine.calls) == (0, 40, 0)
    assert np.array_equal(all_columns(warm), all_columns(cold))
    for name in ("accepted", "digests", "pixels", "sizes"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.reasons == again.reasons


def test_warm__what_was_decoded_before_the_store_was_known_is_not_computed_again(tmp_path: Path) -> None:
    # As after `headway cache prune` took the network and left its features: decoding began before they were found.
    data, store, engine = dataset(pngs(40)), open_store(tmp_path, SPEC, TAPS), Toy()
    run(data, tmp_path, store=store)
    everything = np.arange(40, dtype=np.intp)

    with Readings(ReadTask(data, OWN), everything, threads=2, ahead=4) as readings:
        told = list(extract_module.extract(readings, everything, 40, store, lambda: engine))

    assert told[-1] == Progress("features", 40, 40, 0)
    assert engine.calls == 0


def test_warm__ten_new_images_cost_ten_passes(tmp_path: Path) -> None:
    contents = pngs(100)
    run(dataset(contents), tmp_path)
    grown = contents[:33] + pngs(10, start=500) + contents[33:]

    features, _ = run(dataset(grown), tmp_path)

    assert (features.computed, features.reused) == (10, 100)
    assert np.array_equal(all_columns(features), naive(grown))


def test_bits__depend_neither_on_order_nor_on_neighbours(tmp_path: Path) -> None:
    contents = pngs(75)
    features, _ = run(dataset(contents), tmp_path / "a")
    order = np.random.default_rng(0).permutation(75)
    shuffled: Any = [contents[number] for number in order]
    shuffled[10:10] = [TEXT, None]

    other, _ = run(dataset(shuffled), tmp_path / "b", threads=4)

    assert np.array_equal(all_columns(other), all_columns(features)[order])


def test_pass__over_some_samples_only(tmp_path: Path) -> None:
    contents = pngs(9)

    features, seen = run(dataset(contents), tmp_path, indices=np.array([7, 2]))

    assert np.flatnonzero(seen.accepted).tolist() == [2, 7]
    assert np.flatnonzero(features.positions >= 0).tolist() == [2, 7]
    assert np.array_equal(features.columns(["last"], np.array([7, 2])), naive(contents)[[7, 2], :5])


def test_pass__tells_its_progress(tmp_path: Path) -> None:
    contents: list[bytes | None] = [*pngs(70), TEXT]
    going = a_pass(dataset(contents), open_store(tmp_path, SPEC, TAPS))

    told = [(one.done, one.total, one.set_aside) for one in going if isinstance(one, Progress)]

    assert told == [(32, 71, 0), (64, 71, 0), (71, 71, 1)]


# Which change costs what ----------------------------------------------------------------------------------------


def _pixel(contents: list[bytes]) -> list[bytes]:
    image = make.image(0, 3, (24, 20))
    image.putpixel((5, 5), (1, 2, 3))
    return [*contents[:3], make.encode(image), *contents[4:]]


def _same_size(contents: list[bytes]) -> list[bytes]:
    bmp = bytearray(make.encode(make.image(0, 3, (24, 20)), "BMP"))
    bmp[-1] ^= 255
    return [*contents[:3], bytes(bmp), *contents[4:]]


def _swapped(contents: list[bytes]) -> list[bytes]:
    return [contents[1], contents[0], *contents[2:]]


@pytest.mark.parametrize(
    ("change", "computed"), [(_pixel, 1), (_same_size, 1), (_swapped, 0)], ids=["a pixel", "same size", "two swapped"]
)
def test_change__of_files_costs_those_files(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], computed: int
) -> None:
    contents = pngs(8)
    contents[3] = make.encode(make.image(0, 3, (24, 20)), "BMP")
    run(dataset(contents), tmp_path)

    features, _ = run(dataset(change(contents)), tmp_path)

    assert features.computed == computed
    assert np.array_equal(all_columns(features), naive(change(contents)))


def test_change__of_a_file_that_kept_its_time_and_size(tmp_path: Path) -> None:
    import os

    from headway.data.sources import load_dataset

    photos = make.class_folders(tmp_path / "photos", {"a": 3, "b": 3}, suffix=".png")
    path = make.write(photos / "a" / "bitmap.bmp", make.encode(make.image(), "BMP"))
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    run(load_dataset(photos), tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=times)

    features, _ = run(load_dataset(photos), tmp_path)

    assert features.computed == 1


# Interrupted ----------------------------------------------------------------------------------------------------


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("engine")], ids=["ctrl-c", "engine"])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_interrupted__by_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int, error: BaseException
) -> None:
    # Shards of 40 rows: three batches are two closed shards and an open one.
    monkeypatch.setattr(extract_module, "SHARD_ROWS", 40)
    contents = pngs(130)
    with pytest.raises(type(error)):
        run(dataset(contents), tmp_path, Toy(stop_at=batches, error=error))

    features, _ = run(dataset(contents), tmp_path)

    assert features.computed == 130 - batches * BATCH
    assert np.array_equal(all_columns(features), naive(contents))


@pytest.mark.parametrize("how", ["thrown", "closed"])
def test_interrupted__between_two_steps(tmp_path: Path, how: str) -> None:
    contents = pngs(100)
    going: Any = a_pass(dataset(contents), open_store(tmp_path, SPEC, TAPS))
    next(going)
    next(going)
    if how == "thrown":
        with pytest.raises(Interrupt):
            going.throw(Interrupt())
    else:
        going.close()

    features, _ = run(dataset(contents), tmp_path)

    assert features.computed == 100 - 2 * BATCH
    assert np.array_equal(all_columns(features), naive(contents))


def test_shards__close_when_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "SHARD_ROWS", 40)

    features, _ = run(dataset(pngs(100)), tmp_path)

    assert len(list(features.store.folder.glob("*.parquet"))) == 3


def test_shards__close_when_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "SHARD_SECONDS", 0.0)

    features, _ = run(dataset(pngs(5)), tmp_path)

    assert len(list(features.store.folder.glob("*.parquet"))) == 5
    assert (extract_module.SHARD_ROWS, SHARD_SECONDS) == (1024, 10.0)


SHARD_SECONDS = extract_module.SHARD_SECONDS


# Not the content's fault ----------------------------------------------------------------------------------------


def test_unreadable__is_set_aside_and_not_kept(tmp_path: Path) -> None:
    contents: list[bytes | None] = [*pngs(3), None]
    _, seen = run(dataset(contents), tmp_path)
    contents[3] = make.png(seed=99)

    features, again = run(dataset(contents), tmp_path)

    assert seen.reasons == {3: "does not exist"}
    assert again.accepted.all()
    assert features.computed == 1


def test_unreadable__says_what_the_system_says(tmp_path: Path) -> None:
    class Failing:
        def read(self, index: int) -> bytes:
            if index == 1:
                raise OSError(5, "Input/output error")
            return make.png(seed=index)

    _, seen = run(replace(dataset(pngs(3)), source=Failing()), tmp_path)

    assert seen.reasons == {1: "cannot be read: Input/output error"}


def test_unreadable__too_little_memory_now_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(content: bytes, name: str, **_: Any) -> Any:
        try:
            raise MemoryError
        except MemoryError as error:
            raise BadImage(name, "not enough memory for 9,000 x 9,000 pixels") from error

    contents = pngs(2)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "decode", exhausted)
        _, seen = run(dataset(contents), tmp_path)
    features, again = run(dataset(contents), tmp_path)

    assert set(seen.reasons.values()) == {"not enough memory for 9,000 x 9,000 pixels"}
    assert again.accepted.all()
    assert features.computed == 2


def test_unreadable__too_little_memory_to_scale_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(reading, "prepare_view", exhausted)
    features, seen = run(dataset(pngs(2)), tmp_path)

    assert seen.reasons == dict.fromkeys((0, 1), "not enough memory to scale it")
    assert len(features.store) == 0


# Reading --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_digest__of_pixels_knows_their_shape(height: int, width: int, other: int) -> None:
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)

    assert content_digest(pixels) == content_digest(pixels.copy(order="F"))
    assert len(content_digest(pixels)) == 32
    same = (height, width) == (width, height)
    assert (content_digest(pixels) == content_digest(pixels.reshape(width, height, 3))) == same
    changed = pixels.copy()
    changed[0, 0, 0] += other
    assert content_digest(changed) != content_digest(pixels)


@pytest.mark.parametrize("n", [0, 1, 32, 33, 150])
@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_readings__in_order_whatever_is_ahead(n: int, ahead: int) -> None:
    data = dataset(pngs(n))
    order = np.random.default_rng(n).permutation(n).astype(np.intp)

    with Readings(ReadTask(data, OWN), order, threads=3, ahead=ahead) as readings:
        seen = [one.index for one in readings]

    assert seen == order.tolist()


def test_readings__the_first_images_are_given_again() -> None:
    data = dataset([TEXT, *pngs(50)])
    with Readings(ReadTask(data, OWN), np.arange(51, dtype=np.intp), threads=2, ahead=2) as readings:
        first = readings.first(40)
        seen = list(readings)

    assert len(first) == 40
    assert len(seen) == 51
    assert all(np.array_equal(image, one.image) for image, one in zip(first, seen[1:41], strict=True))  # type: ignore[arg-type]


def test_readings__stay_only_so_far_ahead() -> None:
    data: Any = dataset(pngs(32 * 8))
    with Readings(ReadTask(data, OWN), np.arange(256, dtype=np.intp), threads=2, ahead=2) as readings:
        time.sleep(0.3)
        assert data.source.reads <= 64
        assert next(iter(readings)).index == 0


def test_readings__leaving_stops_them() -> None:
    data: Any = dataset(pngs(32 * 8))
    with Readings(ReadTask(data, OWN), np.arange(256, dtype=np.intp), threads=1, ahead=8) as readings:
        next(iter(readings))

    stopped = data.source.reads
    time.sleep(0.2)
    assert stopped < 256
    assert data.source.reads == stopped


class Threads:
    """Contents that lie in memory, and the names of the threads that read them."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        self.contents, self.readers = contents, list[str]()

    def read(self, index: int) -> bytes:
        self.readers.append(threading.current_thread().name)
        return self.contents[index]


@pytest.mark.parametrize("unknown", [[], [0], [40], [70, 159], list(range(160))])
def test_readings__known_contents_are_read_by_the_caller_until_one_has_to_be_decoded(unknown: list[int]) -> None:
    contents = pngs(160)
    source = Threads(contents)
    data = replace(dataset(contents), source=source)
    new = {content_digest(contents[index]) for index in unknown}
    order = np.arange(160, dtype=np.intp)
    task = ReadTask(data, OWN, known=lambda digest: digest not in new)

    with Readings(task, order, threads=2, ahead=2, light=True) as readings:
        seen = list(readings)

    assert [one.index for one in seen] == order.tolist()
    assert [one.index for one in seen if not one.known] == unknown
    assert [one.digest for one in seen] == [content_digest(content) for content in contents]
    here = (unknown[0] // 32 + 1) * 32 if unknown else 160
    own = [name == threading.current_thread().name for name in source.readers]
    assert own == [True] * here + [False] * (160 - here)


def test_readings__left_while_the_caller_reads() -> None:
    data: Any = dataset(pngs(100))

    with Readings(ReadTask(data, OWN, known=lambda _: True), np.arange(100), threads=2, ahead=2, light=True) as some:
        next(iter(some))

    assert data.source.reads == 32


def test_reading__a_jpeg_for_crops_keeps_more_of_its_pixels() -> None:
    photo = make.jpeg(size=(200, 200))
    flip, crop = View("flip"), View("crop", 0, 1)

    def decoded(view: View | None) -> bytes:
        (one,) = ReadTask(dataset([photo]), OWN, view)([0])
        return one.pixels

    scaled = decode(photo, "x", shortest=OWN.draft).image
    assert decoded(None) == decoded(flip) == pixel_digest(np.asarray(scaled))
    assert decoded(crop) != decoded(None)
