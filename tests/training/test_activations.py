"""Activations of a frozen front on the disk: run once, gone on with, made again where damaged, the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.backbones.preprocess import Preprocess
from headway.errors import Stopped
from headway.events import Progress, drain
from headway.training import activations
from headway.training.activations import BATCH, cut_activations
from headway.training.augment import Augment
from headway.training.feeding import from_memory
from headway.training.task import Feed

N, SIDE = 150, 8  # five batches, the last of 22


class Front(nn.Module):
    """Convolution, BatchNorm and dropout; counts what it is shown, and breaks at call number `breaks`."""

    def __init__(self, breaks: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.body = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5))
        self.calls, self.breaks = 0, breaks

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape == (BATCH, SIDE, SIDE, 3)
        assert not torch.is_grad_enabled()
        if self.calls == self.breaks:
            raise KeyboardInterrupt
        self.calls += 1
        given: Tensor = self.body(images.permute(0, 3, 1, 2).float() / 255)
        return given


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 rows of (5, 4, 4) float32, three a view."""
    monkeypatch.setattr(activations, "_CHUNK_BYTES", 70 * 5 * 4 * 4 * 4)


def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)


def plain(n: int = N) -> Feed:
    return from_memory(images()[:n], np.arange(n, dtype=np.uint64), Augment("flip"), 1, 0)


def expected(epoch: int, positions: NDArray[np.intp]) -> NDArray[np.float32]:
    """The front's answer to each image by itself, of a fresh front."""
    front = Front().eval()
    with torch.no_grad():
        (shown,) = plain()([positions], epoch)
        rows = [front.body(image[None].permute(0, 3, 1, 2).float() / 255) for image in shown]
    return torch.cat(rows).numpy()


def read(feed: Feed, positions: Sequence[int], epoch: int) -> NDArray[np.float32]:
    (batch,) = feed([np.array(positions, dtype=np.intp)], epoch)
    assert batch.dtype == torch.float32
    return batch.numpy()


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_cut__plain_activations_are_the_fronts(tmp_path: Path) -> None:
    front = Front().train()
    steps = cut_activations(front, plain(), N, tmp_path / "kept", key="k")
    feed = drain(steps)
    order = np.random.default_rng(5).permutation(N)

    assert front.calls == 5  # 150 images, once each
    assert front.training  # handed back as it was
    assert front.body[1].num_batches_tracked == 0
    for epoch in (0, 1, 7):
        np.testing.assert_allclose(read(feed, order.tolist(), epoch), expected(0, order), rtol=0, atol=1e-6)
    assert [len(batch) for batch in feed([order[:3], order[:0], order[:1]], 1)] == [3, 0, 1]
    assert front.calls == 5


@pytest.mark.parametrize("n", [1, BATCH - 1, BATCH, BATCH + 1, 64, 65, 128])
def test_cut__any_number_of_images(n: int, tmp_path: Path) -> None:
    front = Front()
    feed = drain(cut_activations(front, plain(n), n, tmp_path, key="k"))

    assert front.calls == -(-n // BATCH)
    np.testing.assert_allclose(read(feed, range(n), 0), expected(0, np.arange(n)), rtol=0, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".npy") == [
        f"view0-{start:09d}.npy" for start in range(0, n, 64)
    ]


def test_cut__views_take_turns(tmp_path: Path) -> None:
    front = Front()
    feed = drain(cut_activations(front, plain(), N, tmp_path, 2, key="k"))
    every = np.arange(N)

    assert front.calls == 10
    for epoch, view in ((1, 1), (2, 2), (3, 1), (4, 2)):
        np.testing.assert_allclose(read(feed, range(N), epoch), expected(view, every), rtol=0, atol=1e-6)
    assert not np.array_equal(read(feed, range(N), 1), read(feed, range(N), 2))
    with pytest.raises(ValueError, match="epoch 0 of activations that are kept of augmented images only"):
        read(feed, [0], 0)


def test_cut__progress_counts_images_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_SAID_EVERY", 0.0)

    said = list(cut_activations(Front(), plain(), N, tmp_path, 2, key="k"))

    counts = [32, 64, 96, 128, 150, 182, 214, 246, 278, 300]
    assert said == [Progress("activations", done, 300) for done in counts]


@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.parametrize("breaks", range(5))
def test_cut__killed_and_gone_on_with_is_the_same_bits(breaks: int, views: int, tmp_path: Path) -> None:
    straight = Front()
    drain(cut_activations(straight, plain(), N, tmp_path / "straight", views, key="k"))
    first, second = Front(breaks), Front()
    with pytest.raises(KeyboardInterrupt):
        drain(cut_activations(first, plain(), N, tmp_path / "killed", views, key="k"))
    feed = drain(cut_activations(second, plain(), N, tmp_path / "killed", views, key="k"))

    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "straight")
    kept = {0: 0, 1: 0, 2: 2, 3: 2, 4: 4}[breaks]  # whole chunks are of two batches
    assert second.calls == straight.calls - kept
    epoch = 1 if views else 0
    np.testing.assert_allclose(read(feed, range(N), epoch), expected(epoch, np.arange(N)), rtol=0, atol=1e-6)


def test_cut__left_half_way_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_SAID_EVERY", 0.0)
    closed: list[int] = []

    def feed(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        try:
            yield from plain()(batches, epoch)
        finally:
            closed.append(epoch)

    steps: Generator[Progress, None, Feed] = cut_activations(Front(), feed, N, tmp_path, key="k")
    assert [next(steps).done for _ in range(3)] == [32, 64, 96]
    steps.close()
    assert closed == [0]
    front = Front()
    drain(cut_activations(front, feed, N, tmp_path, key="k"))

    assert front.calls == 3


def test_cut__done_once_needs_no_front(tmp_path: Path) -> None:
    drain(cut_activations(Front(), plain(), N, tmp_path, key="k"))
    before = all_bytes(tmp_path)

    def never(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        raise AssertionError

    feed = drain(cut_activations(Front(breaks=0), never, N, tmp_path, key="k"))

    assert all_bytes(tmp_path) == before
    np.testing.assert_allclose(read(feed, range(N), 0), expected(0, np.arange(N)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", [{"key": "other"}, {"n_views": 1}, {"n": 140}])
def test_cut__another_key_starts_anew(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not a chunk")
    drain(cut_activations(Front(), plain(), n=N, folder=tmp_path, key="k"))
    front = Front()
    asked = {"n": N, "n_views": 0, "key": "k", **change}
    drain(cut_activations(front, plain(), folder=tmp_path, **asked))

    assert front.calls == 5
    assert (tmp_path / "mine.txt").exists()
    names = {path.name for path in tmp_path.glob("view*")}
    assert names == {f"view{asked['n_views']}-{start:09d}.npy" for start in (0, 64, 128)}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def another_shape(path: Path) -> None:
    np.save(path, np.zeros((64, 5, 4, 3), np.float32))


@pytest.mark.parametrize("damage", [Path.unlink, cut_short, one_bit, another_shape])
def test_cut__a_damaged_chunk_alone_is_made_again(damage: Any, tmp_path: Path) -> None:
    drain(cut_activations(Front(), plain(), N, tmp_path, key="k"))
    before = all_bytes(tmp_path)
    damage(tmp_path / "view0-000000064.npy")
    front = Front()
    drain(cut_activations(front, plain(), N, tmp_path, key="k"))
    after = all_bytes(tmp_path)

    assert front.calls == 2
    assert json.loads(after.pop("activations.json")) == json.loads(before.pop("activations.json"))
    assert after == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"made": 1}'])
def test_cut__without_a_readable_index_it_starts_anew(content: bytes, tmp_path: Path) -> None:
    drain(cut_activations(Front(), plain(), N, tmp_path, key="k"))
    before = all_bytes(tmp_path)
    (tmp_path / "activations.json").write_bytes(content)
    (tmp_path / ".view0-000000000.npy.abc.tmp").write_bytes(b"half")
    front = Front()
    drain(cut_activations(front, plain(), N, tmp_path, key="k"))

    assert front.calls == 5
    assert all_bytes(tmp_path) == before


def test_cut__no_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(activations, "_SPARE", 2 * free)
    folder = tmp_path / "run" / "kept"
    with pytest.raises(Stopped) as caught:
        drain(cut_activations(Front(), plain(), N, folder, 100, key="k"))

    shown = str(caught.value)
    before, _, after = shown.partition(", where ")
    assert before == f"what the frozen part of the network gives needs 0.0 GB in {folder}"
    assert after.partition(" ")[2] == (
        "GB are free. Make room and go on, or need less: train fewer stages (a smaller --thaw), "
        "take fewer --views, or --augment crop without --views, which keeps nothing"
    )
    assert list(tmp_path.iterdir()) == []


def test_cut__chunks_grow_where_there_would_be_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(activations, "_MOST_CHUNKS", 2)
    feed = drain(cut_activations(Front(), plain(), N, tmp_path, key="k"))

    assert len(list(tmp_path.glob("*.npy"))) == 3  # 64 rows each: whole batches
    np.testing.assert_allclose(read(feed, range(N), 0), expected(0, np.arange(N)), rtol=0, atol=1e-6)


def test_cut__workers_change_no_bit(tmp_path: Path) -> None:
    own = Preprocess(SIDE, None, "crop", "bilinear", (0.5,) * 3, (0.5,) * 3)
    found = []
    for workers in (0, 1, 2, 5):
        crops = from_memory(images(), np.arange(N, dtype=np.uint64), Augment("crop"), 1, workers, preprocess=own)
        folder = tmp_path / str(workers)
        drain(cut_activations(Front(), crops, N, folder, 2, key="k"))
        found.append(all_bytes(folder))
    assert all(one == found[0] for one in found)
