"""What is remembered about a machine, and which images are measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.advice.measuring import Notebook, engine, looking_up, product, reference, sampled
from headway.data.sources import load_dataset
from headway.features.reading import content_digest
from headway.features.store import Row, open_store
from tests import make

NETWORK = {"name": "net", "side": 64}


@pytest.mark.parametrize(
    ("ratio", "slower"), [(2.4, 2.0), (1.2, 1.0), (1.15, 1.0), (1.0, 1.0), (0.85, 1.0), (0.5, 0.6)]
)
def test_notebook__measures_once_and_scales_by_the_machine(tmp_path: Path, ratio: float, slower: float) -> None:
    """Two seconds and a size, noted when the fixed computation took so long; later it takes another time."""
    first = Notebook.open(tmp_path, NETWORK, 2)
    assert first.measured("step", lambda: [1.0, 3.0, 640.0], seconds=2) == [1.0, 3.0, 640.0]

    later = Notebook.open(tmp_path, NETWORK, 2)
    later.now = ratio * later.known["step"]["reference"]
    found = later.measured("step", lambda: pytest.fail("measured again"), seconds=2)
    assert found == [pytest.approx(slower), pytest.approx(3 * slower), 640.0]
    assert later.remembered("graph") is None


def test_notebook__another_network_or_damage_is_another_matter(tmp_path: Path) -> None:
    first = Notebook.open(tmp_path, NETWORK, 2)
    first.measured("step", lambda: [1.0])

    assert Notebook.open(tmp_path, {**NETWORK, "side": 96}, 2).remembered("step") is None
    assert Notebook.open(tmp_path, NETWORK, 1).remembered("step") is None
    first.place.write_text('{"step": {"values": "many"}}')
    assert Notebook.open(tmp_path, NETWORK, 2).remembered("step") is None
    first.place.write_text("no JSON")
    assert Notebook.open(tmp_path, NETWORK, 2).known == {}


def test_reference__takes_some_time() -> None:
    assert 0 < reference(1) < 60


class Engine:
    """Notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        self.shown.append(images.shape)
        return {}


@pytest.mark.parametrize(("n", "batches"), [(1, 1), (16, 1), (50, 3)])
def test_engine__sees_whole_batches_and_the_first_does_not_count(n: int, batches: int) -> None:
    toy = Engine()

    (seconds,) = engine(lambda: toy, 16, np.zeros((n, 8, 8, 3), np.uint8))

    assert 0 < seconds < 10
    assert toy.shown == [(16, 8, 8, 3)] * (1 + 3 * batches)


def test_product__is_of_a_size_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered for 2 classes may not be that of 45 images, of which a call takes longer than the product."""
    import torch

    made: list[tuple[int, ...]] = []
    full = torch.full

    def noted(shape: tuple[int, int], value: float) -> torch.Tensor:
        made.append(shape)
        return full(shape, value)

    monkeypatch.setattr(torch, "full", noted)

    seconds, memory = product(1280, 2)

    assert made == [(4096, 1280), (1280, 2)]
    assert seconds > 0
    assert memory > 0


def test_sampled__never_what_the_data_gives_as_test(tmp_path: Path) -> None:
    photos = make.split_folders(tmp_path / "photos", {"train": {"a": 5, "b": 4}, "test": {"a": 3, "b": 3}})
    dataset = load_dataset(photos)
    chosen = sampled(dataset, 6)

    assert len(chosen) == len(set(chosen.tolist())) == 6
    assert all(dataset.names[index].startswith("train") for index in chosen)
    assert len(sampled(dataset, 100)) == 9
    assert len(sampled(replace(dataset, given=np.full(len(dataset), 2, np.int8)), 5)) == 0


def test_looking_up__the_share_that_a_store_holds(tmp_path: Path) -> None:
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"a": 4, "b": 4}))
    store = open_store(tmp_path / "cache", {"any": "spec"}, ())
    held = [content_digest(dataset.source.read(index)) for index in (0, 3, 5)]
    store.add([Row(digest, "", bytes(32), 4, 4, {}) for digest in held])
    store.refresh()
    empty = open_store(tmp_path / "cache", {"another": "spec"}, ())

    seconds, share, none = looking_up(dataset, np.arange(8), [store, empty], 2)
    assert seconds > 0
    assert (share, none) == (3 / 8, 0.0)
