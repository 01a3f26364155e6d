"""SIGKILL at any moment, the same command again: the same bits, and nothing that was kept is computed twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import make, toy

N_IMAGES = 2600  # two shards close by count while the pass is under way
_POLL = 0.002


def _appears(*patterns: str) -> Callable[[Path, Path], bool]:
    """True as soon as something stands in the run folder or the cache that fits one of `patterns`."""
    return lambda run, cache: any(next(root.glob(pattern), None) for root in (run, cache) for pattern in patterns)


def _shards(n: int) -> Callable[[Path, Path], bool]:
    return lambda run, cache: len(list(cache.glob("features/*/*.parquet"))) >= n


# What is waited for, and how long after it the process group is killed, in seconds. `cold`: with nothing prepared.
MOMENTS: list[tuple[str, Callable[[Path, Path], bool] | None, float, bool]] = [
    ("at once", None, 0.02, True),
    ("first imports", None, 0.3, True),
    ("settings written", _appears("settings.yaml"), 0.0, True),
    ("resolved written", _appears("resolved.json"), 0.0, True),
    ("reading the data", _appears("resolved.json"), 0.4, True),
    ("importing timm", _appears("resolved.json"), 2.0, True),
    ("exporting the graph", _appears("trunks/.*"), 0.2, True),
    ("graph just kept", _appears("trunks/*/facts.json"), 0.0, True),
    ("engine just settled", _appears("engines/*.json"), 0.0, True),
    ("pass begun", _appears("features/*/spec.json"), 0.3, False),
    ("first shard being written", _appears("features/*/.*.tmp"), 0.0, False),
    ("first shard closed", _shards(1), 0.0, False),
    ("between two shards", _shards(1), 0.3, False),
    ("second shard closed", _shards(2), 0.05, False),
    ("pass over", _appears("audit.json"), 0.0, False),
    ("head begun", _appears("split.csv"), 0.2, False),
    ("head under way", _appears("split.csv"), 1.0, False),
    ("bundle being written", _appears(".bundle.*"), 0.0, False),
    ("bundle nearly there", _appears(".bundle.*/manifest.json"), 0.0, False),
    ("results being written", _appears("predictions.csv"), 0.0, False),
    ("report not yet drawn", _appears("evaluation.json"), 0.0, False),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill") / "photos"
    return make.class_folders(folder, {"circle": N_IMAGES // 2, "square": N_IMAGES // 2}, size=(40, 32))


@pytest.fixture(scope="module")
def straight(photos: Path) -> dict[str, Any]:
    """The uninterrupted run: its bits, its features, and a cache with the prepared network alone."""
    place = photos.parent / "straight"
    _start(photos, place / "run", place / "cache").communicate(timeout=250)
    prepared = photos.parent / "prepared"
    for room in ("trunks", "engines"):
        shutil.copytree(place / "cache" / room, prepared / room)
    return {
        "bits": toy.same_bits(place / "run"),
        "features": _features(place / "cache"),
        "files": toy.files_of(place / "run"),
        "prepared": prepared,
    }


def _start(photos: Path, run: Path, cache: Path) -> subprocess.Popen[bytes]:
    run.parent.mkdir(parents=True, exist_ok=True)
    words = ("fit", photos, *toy.BACKBONE, "--run", run, "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "headway", *map(str, words)],
        env={**os.environ, "HEADWAY_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _features(cache: Path) -> dict[bytes, tuple[object, ...]]:
    """Every row of every shard that ONNX Runtime filled: digest → the rest."""
    rows: dict[bytes, tuple[object, ...]] = {}
    for spec in cache.glob("features/*/spec.json"):
        if json.loads(spec.read_text())["engine"]["name"] == "onnxruntime":
            for shard in sorted(spec.parent.glob("*.parquet")):
                table = pq.read_table(shard).to_pylist()
                rows.update({row["digest"]: tuple(map(repr, row.values())) for row in table})
    return rows


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(("name", "reached", "after", "cold"), MOMENTS, ids=[moment[0] for moment in MOMENTS])
def test_kill__the_same_command_ends_with_the_same_bits(
    name: str,
    reached: Callable[[Path, Path], bool] | None,
    after: float,
    cold: bool,
    photos: Path,
    straight: dict[str, Any],
    tmp_path: Path,
) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    if not cold:
        shutil.copytree(straight["prepared"], cache)

    process = _start(photos, run, cache)
    deadline = time.monotonic() + 120
    while reached is not None and process.poll() is None and not reached(run, cache):
        assert time.monotonic() < deadline, f"{name} was never reached"
        time.sleep(_POLL)
    time.sleep(after)
    finished = process.poll() is not None
    os.killpg(process.pid, signal.SIGKILL) if not finished else None
    process.communicate()
    assert not finished, f"the run ended before it could be killed at: {name}"
    kept = len(_features(cache))

    again = _start(photos, run, cache)
    said, told = again.communicate(timeout=250)

    assert again.returncode == 0, told.decode()
    result = json.loads(said)
    assert result["features"]["computed"] == N_IMAGES - kept
    assert toy.same_bits(run) == straight["bits"]
    assert _features(cache) == straight["features"]
    assert toy.files_of(run) == straight["files"]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_kill__one_changed_bit_would_be_seen(photos: Path, straight: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(photos.parent / "straight" / "run", run)
    weights = run / "bundle" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1

    weights.write_bytes(content)

    assert toy.same_bits(run) != straight["bits"]
