"""Several processes under torchrun, as on several GPUs or machines: the same command, the same classifier."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import make, toy

pytestmark = pytest.mark.slow
N = 90  # no multiple of the batch: its last one is ragged

FINETUNE = (
    *("--strategy", "finetune", "--augment", "none", "--epochs", "3", "--batch", "16", "--lr", "0.01"),
    *("--optimizer", "sgd", "--layer-decay", "1", "--warmup", "0"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "photos"
    return make.class_folders(folder, {"circle": N // 2, "square": N // 2}, size=(48, 40))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options]


def two(data: Path, cwd: Path, *words: str) -> dict[str, Any]:
    """`headway fit --json` by two processes of one machine."""
    address = ("--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    # `--`: or torchrun takes --run for a beginning of its own --run-path.
    command = [*torchrun(*address), "-m", "--", "headway", "fit", str(data), *toy.BACKBONE, "--json", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout)  # one object, though two processes ran
    return result


def curve(run: Path) -> list[tuple[float, float]]:
    with (run / "history.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] == "epoch" and row["step"] != "0"]
    return [(float(row["train_loss"]), float(row["val_loss"])) for row in rows]


def test_probe__two_processes_look_at_each_image_once_and_give_the_same_bits(photos: Path, tmp_path: Path) -> None:
    alone = toy.fit(photos, "--run", "alone", "--no-cache", cwd=tmp_path)
    both = two(photos, tmp_path, "--run", "both")

    assert alone["features"]["computed"] == both["features"]["computed"] == N
    assert toy.same_bits(tmp_path / "alone") == toy.same_bits(tmp_path / "both")
    resolved = json.loads((tmp_path / "both" / "resolved.json").read_text())
    assert resolved["world_size"] == 2
    assert resolved["threads"] == 1


def test_probe__two_processes_share_the_archives_and_give_the_same_bits(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))
    for start in range(0, N, 30):
        members = [(path.relative_to(photos).as_posix(), path.read_bytes()) for path in files[start : start + 30]]
        make.tar(tmp_path / "shards" / f"shard-{start:03d}.tar", members)

    alone = toy.fit(tmp_path / "shards", "--run", "alone", "--no-cache", cwd=tmp_path)
    both = two(tmp_path / "shards", tmp_path, "--run", "both")

    assert alone["features"]["computed"] == both["features"]["computed"] == N
    assert toy.same_bits(tmp_path / "alone") == toy.same_bits(tmp_path / "both")


def test_finetune__two_processes_give_the_loss_curve_of_one(photos: Path, tmp_path: Path) -> None:
    """BatchNorm is frozen, so a half batch in each process is the whole batch in one."""
    toy.fit(photos, "--run", "alone", *FINETUNE, cwd=tmp_path)
    two(photos, tmp_path, "--run", "both", *FINETUNE)

    alone, both = curve(tmp_path / "alone"), curve(tmp_path / "both")
    assert len(alone) == len(both) == 3
    for one, other in zip(alone, both, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert alone[0][0] != alone[-1][0]  # it does learn


def test_finetune__live_batch_norm_in_two_processes_is_said(photos: Path, tmp_path: Path) -> None:
    address = ("--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    words = [*torchrun(*address), "-m", "headway", "fit", str(photos), *toy.BACKBONE, *FINETUNE, "--no-freeze-bn"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "BatchNorm" in said
    assert "--sync-bn" in said


def test_finetune__two_machines_as_two_addresses(photos: Path, tmp_path: Path) -> None:
    """Two torchruns of one process each, that know each other by address alone, as on two machines."""
    port = str(free_port())
    running = []
    for rank, address in enumerate(("127.0.0.1", "127.0.0.2")):
        place = ("--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1")
        master = ("--master-addr", "127.0.0.1", "--master-port", port, "--local-addr", address)
        words = ("-m", "--", "headway", "fit", str(photos), *toy.BACKBONE, *FINETUNE, "--run", "both", "--json")
        running.append(
            subprocess.Popen(
                [*torchrun(*place, *master), *words],
                cwd=tmp_path,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=280) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert json.loads(said[0][0])["strategy"] == "finetune"
    assert said[1][0] == ""
    toy.fit(photos, "--run", "alone", *FINETUNE, cwd=tmp_path)
    for one, other in zip(curve(tmp_path / "alone"), curve(tmp_path / "both"), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
