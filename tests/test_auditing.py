"""`headway audit` through the real command line, and what `fit` says of the data beside its training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.auditing import check
from headway.errors import Refused
from headway.settings import fit_settings
from tests import make, toy


def audit(data: str | Path, *words: str | Path, cwd: Path) -> dict[str, Any]:
    """`headway audit --json` on the toy network; its final JSON."""
    result: dict[str, Any] = json.loads(toy.headway("audit", data, *toy.BACKBONE, "--json", *words, cwd=cwd).stdout)
    return result


def photos(folder: Path) -> Path:
    """Two kinds that are easily told, with faults: a label each way, another encoder for one class, broken, flat."""
    make.class_folders(folder, {"circle": 60, "square": 60})
    for path in sorted((folder / "square").iterdir()):
        path.write_bytes(make.jpeg(1, int(path.stem) + 7000, quality=40))
    make.write(folder / "circle" / "wrong.jpg", make.jpeg(1, 9001, quality=90))
    make.write(folder / "circle" / "torn.jpg", make.truncated(make.jpeg(0, 9002)))
    make.write(folder / "circle" / "flat.png", make.encode(make.image().resize((1, 1)).resize((64, 48))))
    return folder


@pytest.mark.slow
def test_audit__finds_what_was_planted_and_writes_a_clean_list(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")
    before = toy.tree_digest(data)

    told = audit(data, "--write", "clean.csv", cwd=tmp_path)

    assert toy.tree_digest(data) == before
    assert told["run"] == "runs/photos-audit-1"
    run = tmp_path / told["run"]
    assert toy.files_of(run) == {"audit.json", "audit.html", "thumbnails.parquet"}
    kept = json.loads((run / "audit.json").read_text())
    assert {**kept, "run": told["run"], "page": told["page"], "written": "clean.csv"} == told
    assert [item["name"] for item in told["set_aside"]] == ["circle/torn.jpg"]
    assert "circle/wrong.jpg" in [item["name"] for item in told["labels"]["items"]]
    assert told["labels"]["found"] <= 3
    first = told["shortcuts"]["found"][0]
    assert first["cue"] == "encoder"
    assert first["class"] in ("circle", "square")
    assert [item["name"] for item in told["oddities"]["items"] if item["kind"] == "flat"] == ["circle/flat.png"]
    assert told["command"].startswith("headway audit ")

    # What fit reads from the list is the data without the suspects.
    lines = (tmp_path / "clean.csv").read_text().splitlines()
    listed = {line.split(",")[0] for line in lines[1:]}
    assert {"./photos/circle/wrong.jpg", "./photos/circle/torn.jpg", "./photos/circle/flat.png"} & listed == set()
    result = toy.fit("clean.csv", "--run", tmp_path / "run", cwd=tmp_path)
    assert sum(result["n"][key] for key in ("train", "val", "test")) == len(listed) > 110
    assert result["features"]["computed"] == 0

    # Done again it makes another folder and may write its own list anew, but nothing of anybody else's.
    assert audit(data, "--write", "clean.csv", cwd=tmp_path)["run"] == "runs/photos-audit-2"
    make.write(tmp_path / "mine.csv", b"path,label\nx,y\n")
    done = toy.headway("audit", data, *toy.BACKBONE, "--write", "mine.csv", cwd=tmp_path, check=2)
    assert done.stderr == (
        "headway: --write mine.csv exists and was not written by headway audit. Choose another name\n"
    )
    assert (tmp_path / "mine.csv").read_bytes() == b"path,label\nx,y\n"


def test_fit__says_what_is_wrong_with_the_data(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")

    done = toy.headway("fit", data, *toy.BACKBONE, "--run", "run", cwd=tmp_path)

    assert "\naudit    " in done.stdout
    assert "Encoder alone recognises" in done.stdout
    kept = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert "circle/wrong.jpg" in [item["name"] for item in kept["labels"]["items"]]
    left = "borders and pictures of nearly one colour were not looked for: headway audit does"
    assert kept["left"] == [left]
    assert "Likely label errors" in (tmp_path / "run" / "report.html").read_text()


def test_audit__a_class_too_small_to_split_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    data = make.class_folders(tmp_path / "photos", {"circle": 30, "square": 1})

    done = toy.headway("audit", data, *toy.BACKBONE, "--run", "own", cwd=tmp_path)

    assert "there is no split: " in done.stderr
    assert toy.files_of(tmp_path / "own") == {"audit.json", "audit.html", "thumbnails.parquet"}
    assert json.loads((tmp_path / "own" / "audit.json").read_text())["imbalance"]["ratio"] == 30.0


@pytest.mark.slow
def test_audit__nothing_readable_is_refused(tmp_path: Path) -> None:
    for label in ("a", "b"):
        make.write(tmp_path / "photos" / label / "1.jpg", b"nothing")

    done = toy.headway("audit", "photos", *toy.BACKBONE, cwd=tmp_path, check=2)

    assert done.stderr.startswith("headway: none of 2 images in photos/ can be read. First five:")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_audit__stopped_by_ctrl_c_it_leaves_nothing_but_the_cache(tmp_path: Path) -> None:
    data = make.class_folders(tmp_path / "photos", {"circle": 400, "square": 400})
    cache = Path(os.environ["HEADWAY_CACHE_DIR"])
    words = [sys.executable, "-m", "headway", "audit", str(data), *toy.BACKBONE, "--write", "clean.csv"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not next(cache.glob("features/*/spec.json"), None):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)

    told = process.communicate(timeout=100)[1]

    assert process.returncode == 75, told
    assert told.endswith("headway: stopped. What was computed is kept; the same command goes on from there.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_audit__from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = make.class_folders(tmp_path / "photos", {"circle": 12, "square": 12})

    told = headway.audit(data, backbone="test_resnet", weights="none", image=64, threads=1, run=tmp_path / "own")

    assert told["run"] == str(tmp_path / "own")
    assert told["accepted"] == 24
    assert told["written"] is None


def test_check__refusals(tmp_path: Path) -> None:
    make.write(tmp_path / "run" / "x", b"")
    with pytest.raises(Refused) as taken:
        check(fit_settings("photos", run=tmp_path / "run"))
    assert str(taken.value) == (
        f"{tmp_path / 'run'} is not empty: an audit makes a folder of its own. Choose another --run"
    )
    with pytest.raises(Refused) as small:
        check(fit_settings("photos", backbone="cnn"))
    assert str(small.value) == "--backbone cnn has no weights to look through: an audit needs a pretrained one"
    check(fit_settings("photos", run=tmp_path / "none"))
