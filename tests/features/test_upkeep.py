"""Looking after the cache: telling, checking, throwing away what nobody uses."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.events import Event, Line, Progress
from headway.features.derived import place_of
from headway.features.upkeep import info, prune, verify
from tests.backbones.networks import Prepared
from tests.features.test_extract import pngs
from tests.features.toy import dataset, run


def told(going: Generator[Event, None, dict[str, Any]]) -> tuple[list[Event], dict[str, Any]]:
    events: list[Event] = []
    while True:
        try:
            events.append(next(going))
        except StopIteration as end:
            return events, end.value


def lines(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Line)]


@pytest.fixture
def cache(own_resnet: Prepared) -> Path:
    """A cache with one prepared network, and features of 40 images in one shard."""
    run(dataset(pngs(40)), own_resnet.cache)
    return own_resnet.cache


def shard_of(cache: Path) -> Path:
    return next(cache.glob("features/*/*.parquet"))


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for item in folder.iterdir():
        os.utime(item, (then, then))


def test_info__of_nothing(tmp_path: Path) -> None:
    events, value = told(info(tmp_path / "none"))

    assert lines(events) == [f"{tmp_path}/none  0.0 MB"]
    assert value == {"path": str(tmp_path / "none"), "bytes": 0, "parts": []}


def test_info__names_rows_bytes_and_use(cache: Path) -> None:
    events, value = told(info(cache))

    features, trunk = value["parts"]
    assert (features["kind"], features["name"], features["rows"]) == ("features", "toy numpy 16 px", 40)
    assert (trunk["kind"], trunk["name"], trunk["rows"]) == ("trunks", "test_resnet", 0)
    total = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert value["bytes"] == features["bytes"] + trunk["bytes"] == total
    assert lines(events)[1].startswith("toy numpy 16 px  40 images, 0.0 MB, used 0 days ago")
    assert lines(events)[0] == f"{cache}  {total / 1e6:,.1f} MB"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"backbone": 1}'])
def test_info__goes_on_past_what_cannot_be_read(cache: Path, content: str) -> None:
    (shard_of(cache).parent / "spec.json").write_text(content)
    next(cache.glob("trunks/*/facts.json")).write_text(content)

    _, value = told(info(cache))

    assert {part["name"].partition(" ")[2] for part in value["parts"]} == {"(not readable: headway cache verify)"}


def test_info__goes_on_past_a_torn_shard(cache: Path) -> None:
    shard_of(cache).write_bytes(b"PAR1")

    _, value = told(info(cache))

    assert value["parts"][0]["name"].endswith("(not readable: headway cache verify)")


def test_verify__all_whole(cache: Path) -> None:
    events, value = told(verify(cache))

    assert value == {"path": str(cache), "checked": 2, "damaged": []}
    assert lines(events) == ["2 files checked, all whole"]
    assert [event for event in events if isinstance(event, Progress)][-1] == Progress("verify", 2, 2, 0)
    assert shard_of(cache).exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_verify__a_flipped_bit_anywhere_is_found_and_removed(cache: Path, share: float) -> None:
    path = shard_of(cache)
    content = bytearray(path.read_bytes())
    content[int(share * 40 * 119)] ^= 1  # inside the data pages
    path.write_bytes(content)

    events, value = told(verify(cache))

    assert value["damaged"] == [str(path)]
    assert lines(events) == [f"2 files checked, 1 damaged, removed: {path}"]
    assert not path.exists()
    assert told(verify(cache))[1]["damaged"] == []


def test_verify__a_damaged_network_is_removed(cache: Path) -> None:
    graph = next(cache.glob("trunks/*/graph.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1])

    _, value = told(verify(cache))

    assert value["damaged"] == [str(graph.parent)]
    assert not graph.parent.exists()
    assert shard_of(cache).exists()


def test_derived__told_verified_and_pruned(cache: Path) -> None:
    place = place_of(cache, "labels", 1)
    place.write({"probabilities": np.zeros((9, 2), np.float32)})
    found = told(info(cache))[1]["parts"][-1]
    whole = told(verify(cache))[1]
    place.path.write_bytes(place.path.read_bytes()[:-9])
    torn = told(verify(cache))[1]
    age(place.path.parent, 40)
    os.utime(place.path.parent, (0, 0))
    removed = told(prune(cache, days=30, dry_run=False))[1]["removed"]

    assert (found["kind"], found["name"], found["path"]) == ("derived", "labels", str(place.path.parent))
    assert (whole["checked"], whole["damaged"]) == (3, [])
    assert torn["damaged"] == [str(place.path)]
    assert removed == [str(place.path.parent)]
    assert shard_of(cache).exists()


def test_verify__leaves_what_is_being_written_alone(cache: Path) -> None:
    half = cache / "trunks" / ".abc.xyz.tmp"
    half.mkdir()
    (half / "graph.onnx").touch()

    _, value = told(verify(cache))

    assert value == {"path": str(cache), "checked": 2, "damaged": []}
    assert half.exists()


def test_verify__does_not_count_as_use(cache: Path) -> None:
    (trunk,) = cache.glob("trunks/*")
    age(trunk, 40)

    told(verify(cache))

    assert (time.time() - (trunk / "facts.json").stat().st_mtime) / 86400 > 39


def test_prune__what_nobody_used(cache: Path) -> None:
    (features,), (trunk,) = cache.glob("features/*"), cache.glob("trunks/*")
    age(features, 31)
    age(trunk, 29)
    size = sum(path.stat().st_size for path in features.iterdir())

    before = told(prune(cache, days=30, dry_run=True))
    assert features.exists()
    after = told(prune(cache, days=30, dry_run=False))

    assert not features.exists()
    assert trunk.exists()
    assert before[1] == {"path": str(cache), "removed": [str(features)], "bytes": size, "dry_run": True}
    assert after[1] == {**before[1], "dry_run": False}
    assert lines(before[0]) == ["1 part would be removed, 0.0 MB"]
    assert lines(after[0]) == ["1 part removed, 0.0 MB"]


def test_prune__what_killed_runs_left(cache: Path) -> None:
    (features,) = cache.glob("features/*")
    old, new = features / ".a.1.tmp", features / ".b.2.tmp"
    folder = cache / "trunks" / ".c.3.tmp"
    folder.mkdir()
    for item in (old, new):
        item.write_bytes(b"half")
    for item in (old, folder):
        os.utime(item, (1, 1))

    told(prune(cache, days=30, dry_run=False))

    assert (old.exists(), new.exists(), folder.exists(), features.exists()) == (False, True, False, True)


def test_prune__everything(cache: Path) -> None:
    _, value = told(prune(cache, days=0, dry_run=False))

    assert len(value["removed"]) == 2
    assert list(cache.glob("*/*")) == []


def test_prune__of_nothing(tmp_path: Path) -> None:
    assert told(prune(tmp_path / "none", days=0, dry_run=False))[1]["removed"] == []
