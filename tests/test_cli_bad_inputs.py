"""Every bad input by hand, through the real command line: the whole message, the exit code, no traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import make, toy
from tests.bad_inputs import FILES, FOLDERS, OPTIONS


@pytest.mark.parametrize("name", FOLDERS)
def test_fit__refuses_bad_data_with_the_whole_message(name: str, tmp_path: Path) -> None:
    bad = FOLDERS[name]
    place = tmp_path / "in"
    place.mkdir()
    path = bad.build(place)

    done = toy.headway("fit", path, "--run", tmp_path / "run", cwd=tmp_path, check=2)

    assert done.stderr == f"headway: {bad.told(path)}\n"
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", OPTIONS)
def test_options__refused_with_the_whole_message(name: str, tmp_path: Path) -> None:
    words, said = OPTIONS[name]

    done = toy.headway(*words.split(), cwd=tmp_path, check=2)

    assert (done.stdout, done.stderr) == ("", f"headway: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_fit__names_every_damaged_file_with_its_reason(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 30, "square": 30})
    damaged = {}
    # The giant JPEG is small enough at the eighth of its scale at which a pass reads it.
    bad_files = {kind: bad for kind, bad in FILES.items() if kind != "jpeg bomb"}
    for number, bad in enumerate(bad_files.values()):
        name = f"{'circle' if number % 2 else 'square'}/bad-{number}-{bad.name}"
        make.write(photos / name, bad.content())
        if bad.reason is not None:
            damaged[name] = bad.reason
    before = toy.tree_digest(photos)

    refused = toy.headway("fit", photos, *toy.BACKBONE, "--run", tmp_path / "run", cwd=tmp_path, check=2)
    result = toy.fit(photos, "--run", tmp_path / "lenient", "--allow-bad", cwd=tmp_path)

    audit = json.loads((tmp_path / "lenient" / "audit.json").read_text())
    found = {item["name"]: item["reason"] for item in audit["set_aside"]}
    # How far a torn JPEG got depends on the scale at which it is read.
    assert {name: _rough(reason) for name, reason in found.items()} == {
        name: _rough(reason) for name, reason in damaged.items()
    }
    assert result["n"]["set_aside"] == len(damaged)
    assert audit["accepted"] + len(damaged) == audit["found"] == 60 + len(bad_files)
    assert result["features"]["computed"] == 0  # the refused run kept what it computed
    assert toy.tree_digest(photos) == before
    first = refused.stderr.splitlines()
    assert first[-1] == f"  The list: {tmp_path / 'run' / 'audit.json'}. Leave them out: --allow-bad"
    assert "Traceback" not in refused.stderr
    total = 60 + len(bad_files)
    share = f"{100 * len(damaged) / total:.1f} %"
    assert f"headway: {len(damaged)} of {total} images in photos/ cannot be read ({share}, more than 1 %)." in (
        refused.stderr
    ), refused.stderr


def _rough(reason: str) -> str:
    return re.sub(r"truncated at \d+ %", "truncated at some %", reason)
