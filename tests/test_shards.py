"""The story from tar shards: through the real command line, from the disk and from a web server."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import make, toy
from tests.conftest import require
from tests.range_server import Behaviour, serving


def packed(photos: Path, folder: Path, each: int = 30) -> Path:
    """The images below `photos` in archives of `each`, classes mixed, with their labels beside them."""
    files = sorted(photos.rglob("*.jpg"), key=lambda path: path.name)
    for start in range(0, len(files), each):
        members = []
        for i, path in enumerate(files[start : start + each], start):
            members += [(f"{i:05d}.jpg", path.read_bytes()), (f"{i:05d}.cls", path.parent.name.encode())]
        make.tar(folder / f"shard-{start // each:06d}.tar", members)
    return folder


def by_digest(run: Path) -> dict[str, tuple[str, str]]:
    """Digest → label and subset of every image of a run."""
    with (run / "split.csv").open() as stream:
        return {row["digest"]: (row["label"], row["subset"]) for row in csv.DictReader(stream)}


def test_story__shards_are_the_folder_they_were_made_of(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 40, "square": 40})
    shards = packed(photos, tmp_path / "shards")
    before = toy.tree_digest(shards)

    plain = toy.fit(photos, "--run", "plain", cwd=tmp_path)
    result = toy.fit(shards, "--run", "tar", cwd=tmp_path)
    cold = toy.fit(shards, "--run", "cold", "--no-cache", cwd=tmp_path)

    # Features belong to contents: those of the folder are those of the archives.
    assert result["features"]["computed"] == 0
    assert result["features"]["reused"] == cold["features"]["computed"] == 80
    assert by_digest(tmp_path / "plain") == by_digest(tmp_path / "tar") == by_digest(tmp_path / "cold")
    assert toy.same_bits(tmp_path / "tar") == toy.same_bits(tmp_path / "cold")
    for key in ("n", "test"):
        assert result[key] == cold[key]
    assert result["n"] == plain["n"]
    assert toy.tree_digest(shards) == before
    pattern = toy.fit(shards / "shard-{000000..000002}.tar", cwd=tmp_path)
    assert pattern["test"] == result["test"]
    assert (tmp_path / "runs" / "shards-1").is_dir()


def test_story__a_damaged_image_in_an_archive_is_named(tmp_path: Path) -> None:
    members = [(f"{name}/{i}.png", make.png(k, i)) for k, name in enumerate(("circle", "square")) for i in range(60)]
    members[7] = ("circle/torn.png", make.truncated(make.png(seed=999)))
    archive = make.tar(tmp_path / "photos.tar", members)

    result = toy.fit(archive, "--run", "run", cwd=tmp_path)

    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert [item["name"] for item in audit["set_aside"]] == ["photos/circle/torn.png"]
    assert result["n"]["set_aside"] == 1


@pytest.mark.slow
def test_story__from_a_web_server(tmp_path: Path) -> None:
    require("http", find_spec("aiohttp") is not None, "no aiohttp (pip install 'fsspec[http]')")
    photos = make.class_folders(tmp_path / "photos", {"circle": 30, "square": 30})
    shards = packed(photos, tmp_path / "shards", 20)
    plain = toy.fit(shards, "--run", "plain", cwd=tmp_path)
    behaviour = Behaviour()
    with serving(shards, behaviour) as url:
        place = f"{url}/shard-{{000000..000002}}.tar"
        result = toy.fit(place, "--run", "far", "--no-cache", cwd=tmp_path)
        assert toy.same_bits(tmp_path / "plain") == toy.same_bits(tmp_path / "far")
        assert result["test"] == plain["test"]
        settings = (tmp_path / "far" / "settings.yaml").read_text()
        assert place in settings

        # The server breaks down once the archives are known; the same command then goes on.
        behaviour.asked.clear()
        behaviour.fail_after = 36
        stopped = toy.headway("fit", place, *toy.BACKBONE, "--run", "torn", cwd=tmp_path, check=75)
        said = stopped.stderr.splitlines()[-1]
        assert "cannot be reached any more (4 tries: " in said
        assert said.endswith("What was computed is kept: give the same command again")
        assert "Traceback" not in stopped.stderr
        behaviour.fail_after = None
        toy.fit(place, "--run", "torn", cwd=tmp_path)
        assert toy.same_bits(tmp_path / "torn") == toy.same_bits(tmp_path / "plain")


@pytest.mark.parametrize("url", ["memory://nothing/a.tar", "s9://bucket/a.tar"])
def test_fit__refuses_an_address_in_one_line(url: str, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    done = toy.headway("fit", url, "--run", "run", cwd=tmp_path, check=2)
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"headway: {url}")
    assert not (tmp_path / "run").exists()
