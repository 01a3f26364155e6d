"""Two processes under torchrun train as one does. They run once for all tests of this file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.training.loop import LoopSettings
from headway.training.norms import told_norms
from headway.world import ALONE, World
from tests.training import nets, ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Case → what each of the two processes told."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    root = Path(__file__).resolve().parents[2]
    address = ("--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *address, str(Path(ranks.__file__)), str(folder), *ranks.CASES],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("case", ["plain", "frozen", "ragged", "micro", "weights", "mixup", "cutmix", "thaw", "memory"])
def test_train__two_processes_give_the_curve_of_one(case: str, both: dict[str, Any], tmp_path: Path) -> None:
    """Nothing here takes statistics of batches; ragged: the last batch is one image, which one process lacks."""
    alone = ranks.run(case, ALONE, tmp_path)
    one, other = both[case]
    assert one == other
    np.testing.assert_allclose(one["curve"], alone["curve"], atol=1e-5)
    assert one["sum"] == pytest.approx(alone["sum"], rel=1e-5)
    assert alone["curve"][0][0] != pytest.approx(alone["curve"][-1][0], abs=1e-3)  # it learns


def test_train__both_take_fewer_images_where_one_lacks_memory(both: dict[str, Any]) -> None:
    assert both["memory"][0]["micro"] == [[0, 6]]  # 24 images, 12 each: halved once


def test_train__live_batch_norm_ends_in_one_state(both: dict[str, Any]) -> None:
    one, other = both["live"]
    assert one == other
    assert one["note"] == (
        "1 BatchNorm layers take their statistics from each of the 2 processes' part of a batch, about 6 images: "
        "the result differs from that of one process. --sync-bn shares them (GPUs only), --freeze-bn keeps them still"
    )


def test_told_norms__says_nothing_where_there_is_nothing() -> None:
    assert told_norms(nets.network(), LoopSettings(), ALONE) is None
    assert told_norms(nets.network(), LoopSettings(sync_bn=True), World(0, 2)) is None
    assert told_norms(nets.network(norm=False), LoopSettings(), World(0, 2)) is None
    assert told_norms(ranks.Frozen(), LoopSettings(), World(0, 2)) is None


def test_train__what_is_not_finite_stops_both(both: dict[str, Any]) -> None:
    one, other = both["nan"]
    assert one == other
    assert one["error"].startswith("the loss or its gradient is not a finite number in epoch 1, batch ")


def test_train__two_processes_go_on_from_the_exact_step(both: dict[str, Any]) -> None:
    assert both["resume"] == [{"resumed": [[2, 2]], "same": True}] * 2


def test_train__the_leader_may_train_alone(both: dict[str, Any], tmp_path: Path) -> None:
    assert both["alone"] == [ranks.run("alone", ALONE, tmp_path), {}]


def test_find_lr__two_processes_find_the_same(both: dict[str, Any], tmp_path: Path) -> None:
    assert both["lr"] == [ranks.run("lr", ALONE, tmp_path)] * 2
