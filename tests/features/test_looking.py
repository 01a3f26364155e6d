"""Getting ready: the preprocessing that fits the images, the key of the store, decoding while the network is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.backbones import opening
from headway.backbones.engines import BATCH
from headway.backbones.opening import BackboneSession
from headway.backbones.trunk import TrunkFiles, cached_trunk
from headway.data import images as images_module
from headway.data.dataset import Dataset
from headway.errors import Refused
from headway.events import Progress
from headway.features import looking
from headway.features.extract import Features, extract
from headway.features.looking import Asked, feature_spec, get_ready, look_again, prepared_images
from headway.features.reading import ReadTask
from headway.features.store import open_store
from headway.features.views import View
from tests import make
from tests.backbones.networks import SIDE, Prepared
from tests.features.toy import OWN, dataset

ASKED = Asked(backbone="test_resnet", weights="none", image=SIDE, threads=1)


def photos(n: int = 6, size: tuple[int, int] = (90, 80)) -> list[bytes]:
    return [make.png(number % 3, number, size) for number in range(n)]


def everything(data: Dataset) -> Any:
    return np.arange(len(data), dtype=np.intp)


def look(data: Dataset, cache: Path, asked: Asked = ASKED, settled: str | None = None) -> Features:
    with get_ready(data, everything(data), asked, cache, settled) as ready:
        going = extract(ready.readings, everything(data), len(data), ready.store, ready.engine)
        features: Features = finished(going)[0]
        return features


def finished(going: Any) -> Any:
    while True:
        try:
            next(going)
        except StopIteration as end:
            return end.value


def chosen(data: Dataset, cache: Path, **asked: Any) -> tuple[str, int | None]:
    with get_ready(data, everything(data), replace(ASKED, **asked), cache) as ready:
        return ready.preprocess.fit, ready.preprocess.resize


# How images are made to fit -------------------------------------------------------------------------------------


def test_fit__large_images_are_cropped(own_resnet: Prepared) -> None:
    assert chosen(dataset(photos()), own_resnet.cache) == ("crop", 67)


def test_fit__small_images_are_scaled_without_cropping(own_resnet: Prepared) -> None:
    assert chosen(dataset(photos(size=(90, SIDE - 1))), own_resnet.cache) == ("squash", None)
    assert chosen(dataset(photos(size=(90, SIDE))), own_resnet.cache) == ("crop", 67)


def test_fit__the_majority_decides_and_damaged_files_have_no_say(own_resnet: Prepared) -> None:
    small, large, bad = photos(3, (40, 40)), photos(2), [b"text"] * 9

    assert chosen(dataset([*small, *large, *bad]), own_resnet.cache) == ("squash", None)
    assert chosen(dataset([*small[:2], *large, *bad]), own_resnet.cache) == ("crop", 67)
    assert chosen(dataset(bad), own_resnet.cache) == ("crop", 67)


def test_fit__samples_are_spread_over_all(own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watch(content: bytes, name: str, **how: Any) -> images_module.Decoded:
        seen.append(name)
        return images_module.decode(content, name, **how)

    monkeypatch.setattr(looking, "decode", watch)
    data = dataset(photos(1) * 100)

    looking._mostly_small(data, 64)

    assert len(seen) <= 32
    assert seen == sorted(seen)
    assert int(seen[-1][:4]) >= 90


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"fit": "crop"}, ("crop", 67)),
        ({"fit": "pad"}, ("pad", None)),
        ({"resize": 70}, ("crop", 70)),
        ({"resize": "none"}, ("crop", None)),
    ],
    ids=str,
)
def test_fit__what_was_asked_wins_over_small_images(
    own_resnet: Prepared, asked: dict[str, Any], expected: tuple[str, int | None]
) -> None:
    assert chosen(dataset(photos(size=(30, 30))), own_resnet.cache, **asked) == expected


# Passes ---------------------------------------------------------------------------------------------------------


def test_look__cold_then_warm(own_resnet: Prepared) -> None:
    data = dataset(photos(40))

    cold = look(data, own_resnet.cache)
    warm = look(data, own_resnet.cache)

    assert (cold.computed, warm.computed, warm.reused) == (40, 0, 40)
    names = [tap.name for tap in cold.taps]
    assert np.array_equal(cold.columns(names, everything(data)), warm.columns(names, everything(data)))


def test_look__warm_builds_no_network(own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(photos())
    look(data, own_resnet.cache)

    def unwanted(*_: Any) -> Any:
        raise AssertionError("built or opened something")

    monkeypatch.setattr(BackboneSession, "module", unwanted)
    monkeypatch.setattr(BackboneSession, "open", unwanted)
    assert look(data, own_resnet.cache).computed == 0


def test_look__warm_reads_the_network_once(own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    look(dataset(photos()), own_resnet.cache)
    reads: list[TrunkFiles | None] = []

    def counted(*given: Any) -> TrunkFiles | None:
        reads.append(cached_trunk(*given))
        return reads[-1]

    monkeypatch.setattr(opening, "cached_trunk", counted)
    look(dataset(photos()), own_resnet.cache)

    assert len(reads) == 1
    assert reads[0] is not None


def test_look__decodes_while_the_network_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The default network's preprocessing is known beforehand: when its graph is asked for, images are under way.
    started: list[int] = []

    class Enough(Exception):
        pass

    def stop(self: BackboneSession) -> TrunkFiles:
        import time

        deadline = time.monotonic() + 5
        while not data.source.reads and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.01)
        started.append(data.source.reads)  # type: ignore[attr-defined]
        raise Enough

    data = dataset(photos(100))
    monkeypatch.setattr(BackboneSession, "trunk", stop)
    before = threads_named("headway-read")
    # _mostly_small reads at most 32; the pass reads all of them.
    with pytest.raises(Enough), get_ready(data, everything(data), Asked(threads=2, offline=True), tmp_path):
        pass

    assert started[0] > 32 or data.source.reads > 32  # type: ignore[attr-defined]
    assert threads_named("headway-read") == before


def threads_named(prefix: str) -> int:
    import threading

    return sum(thread.name.startswith(prefix) for thread in threading.enumerate())


def test_look__a_failure_inside_stops_the_reading(own_resnet: Prepared) -> None:
    data = dataset(photos(200))

    def fail() -> None:
        with get_ready(data, everything(data), ASKED, own_resnet.cache) as ready:
            assert threads_named("headway-read") >= 1
            assert ready.seconds > 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert threads_named("headway-read") == 0


def test_look__the_settled_engine_is_kept(own_resnet: Prepared) -> None:
    data = dataset(photos())
    for settled in ("torch", "onnxruntime"):
        with get_ready(data, everything(data), ASKED, own_resnet.cache, settled) as ready:
            assert ready.choice.name == settled
            assert ready.facts()["engine"]["name"] == settled


def test_look__weights_that_are_not_here(tmp_path: Path) -> None:
    data = dataset(photos())
    with (
        pytest.raises(Refused, match="the weights of resnet18 are not on this machine"),
        get_ready(data, everything(data), Asked(backbone="resnet18", offline=True), tmp_path),
    ):
        pytest.fail("went on")


def test_look__engines_are_held_against_real_images_though_the_first_are_damaged(own_resnet: Prepared) -> None:
    data = dataset([b"text"] * (BATCH + 3) + photos(3))
    with get_ready(data, everything(data), ASKED, own_resnet.cache) as ready:
        sample = looking._sample(data, everything(data), ready.preprocess, None)

    assert np.array_equal(sample, prepared_images(data, range(BATCH + 3, BATCH + 6), ready.preprocess))


def test_again__under_a_view_and_through_torch(own_resnet: Prepared) -> None:
    data = dataset(photos(8))
    # Named: which is faster on so small a network is chance.
    asked = replace(ASKED, engine="onnxruntime")
    with get_ready(data, everything(data), asked, own_resnet.cache) as ready:
        plain, _ = finished(extract(ready.readings, everything(data), 8, ready.store, ready.engine))
        some = np.array([1, 4], np.intp)
        flipped, _ = finished(look_again(ready, some, own_resnet.cache, view=View("flip")))
        torch, contents = finished(look_again(ready, some, own_resnet.cache, engine="torch"))
        twice, _ = finished(look_again(ready, some, own_resnet.cache, view=View("flip")))

    assert (plain.computed, flipped.computed, torch.computed, twice.computed) == (8, 2, 2, 0)
    assert np.flatnonzero(contents.accepted).tolist() == [1, 4]
    last = plain.columns(["last"], some)
    assert np.allclose(torch.columns(["last"], some), last, atol=1e-4)
    assert not np.allclose(flipped.columns(["last"], some), last, atol=1e-6)
    # A mirror image's stage means differ little, its pixels a lot: both come from the same file.
    assert np.corrcoef(flipped.columns(["stage1_mean"], some)[0], plain.columns(["stage1_mean"], some)[0])[0, 1] > 0.99


def test_again__tells_progress(own_resnet: Prepared) -> None:
    data = dataset(photos(3))
    with get_ready(data, everything(data), ASKED, own_resnet.cache) as ready:
        told = list(look_again(ready, everything(data), own_resnet.cache, view=View("flip")))

    assert told == [Progress("features", 3, 3, 0)]


# The key --------------------------------------------------------------------------------------------------------


def test_key__everything_that_decides_bits(own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, own = own_resnet.files, own_resnet.files.preprocess
    facts = trunk.facts
    one, two = own_resnet.session(1), own_resnet.session(2)
    folders = []

    def note(*spec: Any) -> str:
        folders.append(str(open_store(own_resnet.cache, feature_spec(*spec), trunk.taps).folder))
        return folders[-1]

    plain = note(own, trunk, one, "onnxruntime")
    assert note(own, trunk, two, "onnxruntime") == plain  # threads change no bit there
    folders.pop()
    for changed in (
        replace(own, size=63),
        replace(own, resize=68),
        replace(own, fit="squash"),
        replace(own, interpolation="nearest"),
        replace(own, mean=(0.5, 0.5, 0.4)),
        replace(own, std=(0.5, 0.5, 0.4)),
    ):
        note(changed, trunk, one, "onnxruntime")
    note(own, replace(trunk, facts={**facts, "graph_digest": "0" * 64}), one, "onnxruntime")
    note(own, replace(trunk, facts={**facts, "weights": {**facts["weights"], "digest": "1"}}), one, "onnxruntime")
    note(own, trunk, one, "torch")
    note(own, trunk, two, "torch")
    note(own, trunk, one, "torch:cuda")
    for view in (View("flip"), View("crop", 0, 0), View("crop", 0, 1), View("crop", 1, 0)):
        note(own, trunk, one, "onnxruntime", view)
    for name, value in (("PREPROCESS_VERSION", 99), ("DECODE_VERSION", 99)):
        with monkeypatch.context() as patch:
            patch.setattr(looking, name, value)
            note(own, trunk, one, "onnxruntime")
    with monkeypatch.context() as patch:
        patch.setattr(looking, "VIEWS_VERSION", 99)
        note(own, trunk, one, "onnxruntime", View("flip"))
    with monkeypatch.context() as patch:
        patch.setattr("PIL.__version__", "99")
        note(own, trunk, one, "onnxruntime")

    assert len(set(folders)) == len(folders) == 20


def test_images__those_that_can_be_decoded(own_resnet: Prepared) -> None:
    data = dataset([*photos(2), b"text"])
    own = own_resnet.files.preprocess

    assert prepared_images(data, [0, 2, 1], own).shape == (2, SIDE, SIDE, 3)
    assert prepared_images(data, [2], own).shape == (0, SIDE, SIDE, 3)


# With threads or without ----------------------------------------------------------------------------------------


def read_without_threads(monkeypatch: pytest.MonkeyPatch, contents: list[Any], known: Any) -> bool:
    """Whether contents of which some are known are read by the caller itself."""
    asked: list[tuple[int, int, bool]] = []

    def noted(*_: Any, threads: int, ahead: int, light: bool) -> None:
        asked.append((threads, ahead, light))

    monkeypatch.setattr(looking, "Readings", noted)
    data = dataset(contents)
    looking._start_known(ReadTask(data, OWN, known=known), everything(data), 3)
    assert asked[0][:2] == (3, 12)  # for those that have to be decoded after all
    return asked[0][2]


def test_threads__none_for_small_files_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_without_threads(monkeypatch, photos(20, (8, 8)), lambda digest: True)


@pytest.mark.parametrize(
    ("contents", "known"),
    [
        (photos(20, (8, 8)), False),
        ([bytes(9_000)] * 20, True),
        ([np.zeros((60, 60, 3), np.uint8)] * 20, True),
        ([None] * 20, True),
    ],
    ids=["unknown", "large files", "large arrays", "vanished"],
)
def test_threads__several_where_there_is_work_for_them(
    monkeypatch: pytest.MonkeyPatch, contents: list[Any], known: bool
) -> None:
    assert not read_without_threads(monkeypatch, contents, lambda digest: known)
