"""Features read block by block: a file gives what memory gives, in little memory, and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.errors import HeadwayError
from headway.events import drain
from headway.training import design
from headway.training.design import Design, fits, gather, in_memory, moments
from headway.training.probe import HeadSettings, ProbeData, probe
from headway.training.solvers import pose

Rows = NDArray[np.float32]


def some_rows(n: int, d: int, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, d)) * random.uniform(0.1, 10, d) + 3 * random.normal(size=d)).astype(np.float32)


def some_labels(X: Rows, c: int) -> NDArray[np.int64]:
    random = np.random.default_rng(1)
    scores = X @ random.normal(size=(X.shape[1], c)).astype(np.float32) / X.std(axis=0).sum()
    return np.asarray(np.argmax(scores + 0.3 * random.gumbel(size=scores.shape), axis=1))


def in_file(X: Rows, folder: Path) -> closing[Design]:
    every = np.arange(len(X), dtype=np.intp)
    return closing(gather([lambda indices: X[indices]], every, X.shape[1], folder, memory=1))


def every_block(rows: Design, beside: int = 0) -> list[torch.Tensor]:
    return [block.clone() for _, block in rows.blocks(beside)]


@pytest.mark.parametrize(
    ("n_bytes", "memory", "expected"), [(25, 100, True), (26, 100, False), (10**15, None, True), (0, 0, True)]
)
def test_fits__a_quarter_of_the_memory(n_bytes: int, memory: int | None, expected: bool) -> None:
    assert fits(n_bytes, memory) is expected


def test_gather__keeps_in_memory_what_fits(tmp_path: Path) -> None:
    X = some_rows(10, 4)
    read, every = [lambda indices: X[indices]], np.arange(10, dtype=np.intp)
    for memory, stays in ((4 * X.nbytes, True), (4 * X.nbytes - 1, False)):
        with closing(gather(read, every, 4, tmp_path, memory)) as rows:
            assert isinstance(rows.whole, torch.Tensor) == stays


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), d=st.integers(1, 9), block=st.integers(1, 200), cut=st.integers(0, 8))
def test_design__a_file_gives_the_blocks_of_memory(n: int, d: int, block: int, cut: int, tmp_path_factory: Any) -> None:
    X, part = some_rows(n, d), slice(min(cut, d - 1), d)
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch, in_file(X, folder) as scratch:
        patch.setattr(design, "_BLOCK", block)
        whole, file = in_memory(X).part(part), scratch.part(part)
        ours, theirs = every_block(file, 3), every_block(whole, 3)
        assert [len(one) for one in ours] == [len(one) for one in theirs]
        assert torch.equal(torch.cat(ours), torch.from_numpy(X[:, part]))
        assert torch.equal(torch.cat(theirs), torch.from_numpy(X[:, part]))
        assert torch.equal(file.sample(3), torch.from_numpy(X[::3, part]))


def test_gather__rows_of_every_read_one_below_the_other(tmp_path: Path) -> None:
    X, chosen = some_rows(9, 3), np.array([5, 2, 7], np.intp)
    reads = [lambda indices: X[indices], lambda indices: -X[indices]]
    expected = np.concatenate([X[chosen], -X[chosen]])
    for memory in (None, 1):
        with closing(gather(reads, chosen, 3, tmp_path, memory)) as rows:
            (block,) = every_block(rows)
        np.testing.assert_array_equal(block.numpy(), expected)


@pytest.mark.parametrize("block", [7, 40, 10_000])
def test_moments__are_those_of_numpy_whatever_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X = some_rows(101, 5)
    monkeypatch.setattr(design, "_BLOCK", block)
    mean, deviation = moments(in_memory(X))
    np.testing.assert_allclose(mean, X.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, X.astype(np.float64).std(axis=0), rtol=1e-12)


def test_moments__name_the_row_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    X = some_rows(50, 4)
    X[37, 2] = np.inf
    monkeypatch.setattr(design, "_BLOCK", 40)
    with pytest.raises(HeadwayError, match=r"^feature 2 of training row 37 is inf, not a finite number$"):
        moments(in_memory(X))


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_solve__a_file_as_memory(far: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same blocks give the same bits; other blocks agree as closely as float32 sums do."""
    X = some_rows(600, 30)
    y = some_labels(X, 5)
    X += np.float32(far)
    whole = pose(X, y, 5).solve(0.01, tolerance=1e-5)
    with in_file(X, tmp_path) as rows:
        file = pose(rows, y, 5).solve(0.01, tolerance=1e-5)
    assert file.weight.tobytes() == whole.weight.tobytes()
    assert file.bias.tobytes() == whole.bias.tobytes()
    monkeypatch.setattr(design, "_BLOCK", 35 * 64)
    with in_file(X, tmp_path) as rows:
        blocked = pose(rows, y, 5).solve(0.01, tolerance=1e-5)
    assert blocked.loss == pytest.approx(whole.loss, rel=1e-6)
    np.testing.assert_allclose(blocked.weight, whole.weight, atol=2e-4 * np.abs(whole.weight).max())


def test_probe__chooses_from_a_file_what_it_chooses_from_memory(tmp_path: Path) -> None:
    X = some_rows(300, 12)
    labels, folder = some_labels(X, 4), tmp_path / "made" / "head"
    names = {"early": slice(0, 5), "last": slice(5, 12)}

    def columns(taps: tuple[str, ...], indices: NDArray[np.intp]) -> Rows:
        return np.concatenate([X[indices, names[tap]] for tap in taps], axis=1)

    def heads(memory: int | None) -> Any:
        order = np.arange(300, dtype=np.intp)
        data = ProbeData(columns, labels, order[:200], order[200:], (("early", 5), ("last", 7)), 4, memory=memory)
        return drain(probe(data, HeadSettings(), folder))

    memory, file = heads(None), heads(1)
    assert file.chosen == memory.chosen
    assert file.head.layers[0].weight.tobytes() == memory.head.layers[0].weight.tobytes()
    assert list(folder.iterdir()) == []  # made for the file, which has no name


def test_gather__no_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")

    def never(indices: NDArray[np.intp]) -> Rows:
        raise AssertionError

    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0, 0, 3_000_000_000))
    with pytest.raises(HeadwayError) as caught:
        gather([never], np.arange(1_000_000, dtype=np.intp), 1280, tmp_path, memory=8_000_000_000)
    assert str(caught.value) == (
        "the features of the training images take 5.1 GB, more than a quarter of this machine's memory (8.0 GB), "
        f"and a scratch file for them has no room in {tmp_path}: 3.0 GB are free, 6.2 GB are needed. Free some, "
        "or take fewer columns: --taps last"
    )


SOLVES = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import numpy as np
    import torch
    torch.set_num_threads(1)
    from headway.training.design import gather
    from headway.training.solvers import pose
    n, memory, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    d, c = 256, 100
    def read(indices):
        random = np.random.default_rng(int(indices[0]))
        rows = random.standard_normal((len(indices), d), np.float32)
        rows[:, :10] += (indices % c / c)[:, None]
        return rows
    rows = gather([read], np.arange(n, dtype=np.intp), d, folder, memory)
    problem = pose(rows, np.arange(n) % c, c)
    print("posed", flush=True)
    if sys.argv[4:]:
        time.sleep(60)
    problem.solve(0.01, tolerance=0.1)
    status = Path("/proc/self/status").read_text()  # ru_maxrss begins with that of the parent
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
    """
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_solve__memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """420,000 rows more, 430 MB of features and 168 MB of logits: from a file, none of it in memory."""
    peaks = []
    for n in (140_000, 560_000):
        words = [sys.executable, "-c", SOLVES, str(n), "1", str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
        peaks.append(float(done.stdout.splitlines()[-1]))
    assert peaks[1] < peaks[0] + 100, peaks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="how a killed process's file goes is the system's")
def test_scratch__is_gone_after_sigkill(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SOLVES, "30000", "1", str(tmp_path), "wait"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "posed\n"
        links = [str(link.readlink()) for link in Path(f"/proc/{child.pid}/fd").iterdir() if link.is_symlink()]
        assert any(str(tmp_path) in link for link in links), links  # it is at work on it
        child.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
