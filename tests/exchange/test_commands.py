"""headway fetch and headway convert as they are typed: what they print, how they end, and that fit reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from headway.cli import app
from headway.exchange.catalog import KNOWN
from headway.files import read_csv
from headway.terminal import outcome
from tests import make, toy
from tests.exchange.test_fetching import cifar, served


def headway(*words: str) -> int:
    """Run the program in this process; returns its exit code."""
    return outcome.run(typer.main.get_command(app), words)


def test_convert__what_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make.split_folders(tmp_path / "photos", {"train": {"a": 2, "b": 3}, "test": {"a": 1, "b": 1}})
    (tmp_path / "photos/train/a/0000.jpg").write_bytes(b"no image")

    assert headway("convert", "photos", "out", "--to", "coco") == 0

    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "data     photos  7 images, 2 classes (a 3 · b 4), split folders train 5 · test 2",
        f"written  out/  6 images, 2 classes, {_megabytes(tmp_path / 'out')} MB (train 4 · test 2)",
    ]
    assert err == "note     set aside: train/a/0000.jpg: not an image (starts with 'no image')\n"


def _megabytes(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.rglob('*.jpg')) / 1e6:,.1f}"


def test_convert__json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.class_folders(tmp_path / "photos", {"a": 1, "b": 1})

    assert headway("convert", str(tmp_path / "photos"), str(tmp_path / "out"), "--json", "--to", "csv") == 0

    assert json.loads(capsys.readouterr().out) == {
        "path": str(tmp_path / "out"),
        "kind": "csv",
        "images": 2,
        "classes": 2,
        "subsets": {"all": 2},
        "bytes": sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.jpg")),
        "set_aside": [],
    }


def test_fetch__list(capsys: pytest.CaptureFixture[str]) -> None:
    assert headway("fetch", "--list", "--json") == 0
    told = json.loads(capsys.readouterr().out)["datasets"]
    assert [row["name"] for row in told] == [known.name for known in KNOWN]
    assert told[0] == {
        "name": "cifar10", "title": "CIFAR-10", "images": 60000, "classes": 10, "splits": ["train", "test"],
        "megabytes": 170, "licence": "none stated", "page": "https://www.cs.toronto.edu/~kriz/cifar.html",
    }  # fmt: skip

    assert headway("fetch", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "images", "classes", "MB", "splits", "licence", "what"]
    assert len(lines) == 1 + len(KNOWN)


def test_fetch__no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert headway("fetch") == 2
    assert capsys.readouterr().err == "headway: headway fetch needs NAME. See: headway fetch --list\n"


@pytest.mark.slow
def test_fetch_and_convert__fit_reads_what_they_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make.class_folders(tmp_path / "photos", {"a": 12, "b": 12})
    (tmp_path / "www").mkdir()
    with served(tmp_path / "www") as address:
        cifar(tmp_path / "www", monkeypatch, address)
        assert headway("fetch", "cifar10", "--quiet") == 0
    splits = []
    for data in ("photos", "coco"):
        if data != "photos":
            assert headway("convert", "photos", data, "--to", data, "--quiet") == 0
        toy.fit(data, "--run", f"run-{data}", cwd=tmp_path)
        splits.append({(row["digest"], row["label"], row["subset"]) for row in read_csv(Path(f"run-{data}/split.csv"))})
    toy.headway("audit", "cifar10", *toy.BACKBONE, "--run", "audited", cwd=tmp_path)

    # The split goes by content, so the same images in another form are used for the same.
    assert splits[1] == splits[0]
    assert len(splits[0]) == 24
