"""SIGKILL at random moments of training, then `fit --resume`: the weights of the uninterrupted run, bit for bit."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import make
from tests.forking import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KILLS = 17  # for each road: 51 in all
_TOY = ("--weights", "none", "--threads", "1", "--checkpoint-every", "0")
ROADS = {
    "scratch": ("--strategy", "scratch", "--backbone", "cnn", "--head", "mlp:16", "--epochs", "6", "--batch", "16"),
    "finetune": (
        *("--strategy", "finetune", "--backbone", "test_resnet", "--image", "64", "--no-freeze-bn", "--ema", "0.9"),
        *("--augment", "trivial", "--mixup", "0.2", "--epochs", "4", "--batch", "16"),
    ),
    "head": ("--backbone", "test_resnet", "--image", "64", "--head", "mlp:256", "--dropout", "0.3", "--epochs", "60"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def weights(run: Path) -> str:
    return hashlib.sha256((run / "bundle" / "model.safetensors").read_bytes()).hexdigest()


def photos(place: Path) -> Path:
    return make.class_folders(place / "photos", {"circle": 60, "square": 60, "cross": 20}, size=(32, 32))


@pytest.mark.parametrize("road", ROADS)
def test_kill__random_moments_of_training(road: str, server: Server, tmp_path: Path) -> None:
    """What was killed goes on with --resume, killed or not before its first checkpoint, and ends in the same bits."""
    data, words = photos(tmp_path), ROADS[road]
    server.run(tmp_path, "fit", data, "--run", "straight", *words, *_TOY)  # also warms the cache
    began = time.monotonic()
    server.run(tmp_path, "fit", data, "--run", "again", *words, *_TOY)
    length = time.monotonic() - began
    expected = weights(tmp_path / "straight")
    assert weights(tmp_path / "again") == expected
    moments = random.Random(f"kill {road}")
    found: list[str] = []
    for number in range(3 * KILLS):
        run = tmp_path / f"killed-{number}"
        pid = server.start(tmp_path, "fit", data, "--run", run.name, *words, *_TOY)
        while not (run / "settings.yaml").exists() or not (run / "settings.yaml").stat().st_size:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.95 * length))
        os.kill(pid, signal.SIGKILL)
        killed = server.wait(pid) == -signal.SIGKILL  # else it had ended just before
        server.run(tmp_path, "fit", "--resume", run.name)
        assert not (run / "checkpoints").exists()
        assert weights(run) == expected
        if killed:
            found.append(run.name)
        shutil.rmtree(run)
        if len(found) == KILLS:
            break
    assert len(found) == KILLS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop__saves_and_ends_with_75(number: signal.Signals, server: Server, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM within an epoch that no checkpoint would have ended: --resume has nothing to do again."""
    data, words = photos(tmp_path), (*ROADS["scratch"], "--epochs", "60", "--checkpoint-every", "1000")
    server.run(tmp_path, "fit", data, "--run", "straight", *words, *_TOY[:-2])
    pid = server.start(tmp_path, "fit", data, "--run", "stopped", *words, *_TOY[:-2])
    kept = tmp_path / "stopped" / "checkpoints" / "network"
    while not list(kept.glob("*.safetensors")):
        time.sleep(0.002)
    time.sleep(0.1)
    os.kill(pid, number)

    assert server.wait(pid) == 75, (tmp_path / "said").read_text()
    assert "What was computed is kept" in (tmp_path / "said").read_text()
    server.run(tmp_path, "fit", "--resume", "stopped")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


@pytest.mark.parametrize("workers", ["0", "1", "2"])
@pytest.mark.parametrize("road", ["scratch", "finetune"])
def test_workers__their_number_changes_no_bit(road: str, workers: str, server: Server, tmp_path: Path) -> None:
    data = photos(tmp_path)
    few = (*ROADS[road], "--augment", "trivial", "--epochs", "2")
    server.run(tmp_path, "fit", data, "--run", "default", *few, *_TOY)
    server.run(tmp_path, "fit", data, "--run", "own", *few, *_TOY, "--workers", workers)
    assert weights(tmp_path / "own") == weights(tmp_path / "default")


def test_comparison__one_ulp_is_seen(server: Server, tmp_path: Path) -> None:
    """The check that the others rest on: the smallest change of one weight gives another digest."""
    data = photos(tmp_path)
    server.run(tmp_path, "fit", data, "--run", "run", *ROADS["scratch"], "--epochs", "1", *_TOY)
    before = weights(tmp_path / "run")
    path = tmp_path / "run" / "bundle" / "model.safetensors"
    tensors = load_file(path)
    name = next(key for key, value in tensors.items() if value.dtype == np.float32 and value.ndim > 1)
    changed = tensors[name].copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(np.inf))
    save_file({**tensors, name: changed}, path, metadata={"format": "pt"})
    assert weights(tmp_path / "run") != before
    save_file(tensors, path, metadata={"format": "pt"})
    assert weights(tmp_path / "run") == before
