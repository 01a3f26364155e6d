"""The story through the real command line: from a folder to an answer, and what may never happen on the way."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headway.deployment.unknown import ARRAYS
from tests import make, toy

RUN_FILES = {
    *("settings.yaml", "resolved.json", "split.csv", "history.csv", "evaluation.json", "predictions.csv"),
    *("audit.json", "map.json", "thumbnails.parquet", "explanations.parquet", "report.html"),
    *("bundle/manifest.json", "bundle/model.onnx", "bundle/model.safetensors", "bundle/README.md"),
    *(f"bundle/confidence/{name}.npy" for name in ("sets", *ARRAYS)),
    *("bundle/probe/inputs.npy", "bundle/probe/logits.npy", "bundle/probe/features.npy"),
}
HEAVY = ("timm", "torchvision", "accelerate", "sklearn", "scipy", "onnxscript")


def test_story__from_a_folder_to_an_answer(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 40, "square": 40, "triangle": 40})
    make.write(photos / "circle" / "torn.png", make.truncated(make.png(seed=999)))
    make.write(photos / ".DS_Store", b"\0")
    before = toy.tree_digest(photos)

    first = toy.fit(photos, "--run", tmp_path / "one", cwd=tmp_path)

    run = tmp_path / "one"
    kept = toy.files_of(run)
    assert kept - {"bundle/config.json"} == RUN_FILES
    taps = json.loads((run / "evaluation.json").read_text())["selection"]["taps"]
    assert ("bundle/config.json" in kept) == (taps == "last")
    assert toy.tree_digest(photos) == before
    assert first["n"] == {"train": 90, "val": 12, "test": 18, "unlabelled": 0, "set_aside": 1}
    assert first["test"]["accuracy"] > 0.9
    assert first["features"]["computed"] == 120
    assert json.loads((run / "evaluation.json").read_text())["result"] == first
    assert f"{first['test']['accuracy']:.3f}" in (run / "report.html").read_text()
    audit = json.loads((run / "audit.json").read_text())
    assert [item["name"] for item in audit["set_aside"]] == ["circle/torn.png"]

    # The same command on a finished run does nothing again and says the same.
    stamps = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert toy.fit(photos, "--run", run, cwd=tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == stamps

    # A new run computes nothing and comes to the same bits.
    second = toy.fit(photos, "--run", tmp_path / "two", cwd=tmp_path)
    assert second["features"]["computed"] == 0
    assert second["features"]["reused"] == 120
    assert toy.same_bits(tmp_path / "two") == toy.same_bits(run)

    # Ten new images cost ten forward passes, and every known image stays where it was.
    for seed in range(10):
        make.write(photos / "square" / f"new-{seed}.png", make.png(1, 5000 + seed))
    third = toy.fit(photos, "--run", tmp_path / "three", "--split", run, cwd=tmp_path)
    assert third["features"]["computed"] == 10
    old, new = _split(run), _split(tmp_path / "three")
    assert {name: new[name] for name in old} == old

    # What was shipped answers.
    make.write(tmp_path / "new.png", make.png(2, 777))
    told = json.loads(toy.headway("predict", run / "bundle", "new.png", "--json", cwd=tmp_path).stdout)
    assert told["predictions"][0]["label"] == "triangle"

    # It was calibrated on twelve validation images: what they allow is given, more is refused.
    words = ("predict", run / "bundle", "new.png", "--json", "--coverage")
    told = json.loads(toy.headway(*words, "0.9", "--unknown", "0.1", cwd=tmp_path).stdout)
    assert (told["coverage"], told["unknown"]) == (0.9, 0.1)
    assert "triangle" in told["predictions"][0]["set"]
    assert told["predictions"][0]["unknown"]["rate"] > 0
    refused = toy.headway(*words, "0.95", cwd=tmp_path, check=2)
    assert "takes at least 19 validation images to promise" in refused.stderr
    assert first["confidence"]["n"] == 12
    assert [row["coverage"] for row in first["confidence"]["sets"]] == [0.9]
    assert first["confidence"]["unknown"] == []
    assert "12 validation images are few" in (run / "report.html").read_text()
    assert "coverage C`, C at most 0.923" in (run / "bundle" / "README.md").read_text()


def _split(run: Path) -> dict[str, str]:
    rows = (run / "split.csv").read_text().splitlines()[1:]
    return {row.split(",")[0]: row.split(",")[2] for row in rows if row.split(",")[2]}


def test_story__shuffled_labels_come_out_near_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(240):
        make.write(tmp_path / "images" / f"{number}.png", make.png(number % 2, number))
        lines.append(f"images/{number}.png,{'ab'[rng.integers(2)]}")
    manifest = make.write(tmp_path / "labels.csv", "\n".join(lines).encode())

    result = toy.fit(manifest, "--run", tmp_path / "run", "--test", "0.4", cwd=tmp_path)

    # 96 coins: outside of this once in ten thousand times. More than that would be a leak.
    assert 0.30 <= result["test"]["accuracy"] <= 0.70


def test_warm_fit__imports_nothing_heavy(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 20, "square": 20})
    toy.fit(photos, "--run", tmp_path / "cold", cwd=tmp_path)
    words = ["headway", "fit", str(photos), *toy.BACKBONE, "--run", str(tmp_path / "warm")]
    script = (
        f"import sys, json; sys.argv = {words!r}\n"
        "from headway.cli import main\n"
        "try:\n    main()\n"
        f"except SystemExit as end:\n    print(json.dumps([end.code, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200)

    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stderr


def test_warm_fit__works_out_once_what_features_alone_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, derived = make.class_folders(tmp_path / "photos", {"circle": 20, "square": 20}), tmp_path / "cache/derived"
    monkeypatch.setenv("HEADWAY_CACHE_DIR", str(tmp_path / "cache"))
    words = ("--taps", "last", "--head", "mlp:8", "--epochs", "2", "--run")
    toy.fit(photos, "--taps", "last", "--run", tmp_path / "linear", cwd=tmp_path)
    kept = {path.name: path.read_bytes() for path in derived.glob("*/*.npz")}

    toy.fit(photos, *words, tmp_path / "warm", cwd=tmp_path)
    hit = {path.name: path.read_bytes() for path in derived.glob("*/*.npz")}
    shutil.rmtree(derived)
    toy.fit(photos, *words, tmp_path / "cold", cwd=tmp_path)
    miss = {path.name: path.read_bytes() for path in derived.glob("*/*.npz")}

    assert set(kept) == {"labels.npz", "unknown.npz", "evidence.npz"}
    assert kept == hit
    assert all(arrays_in(kept[name]) == arrays_in(miss[name]) for name in kept)
    one, other = (toy.same_bits(tmp_path / run) for run in ("warm", "cold"))
    assert {**one, "history.csv": ""} == {**other, "history.csv": ""}  # it tells the seconds of epochs
    told = [json.loads((tmp_path / run / "evaluation.json").read_text())["advice"] for run in ("warm", "cold")]
    assert told[0] == told[1]
    for name in ARRAYS:
        made = {(tmp_path / run / f"bundle/confidence/{name}.npy").read_bytes() for run in ("warm", "cold")}
        assert len(made) == 1

    # What is kept is what is used: labels that it calls wrong are told as wrong.
    place = next(derived.glob("*/labels.npz"))
    found = dict(np.load(place))
    found["probabilities"] = np.ascontiguousarray(found["probabilities"][:, ::-1])
    np.savez(place, **found)
    toy.fit(photos, *words, tmp_path / "planted", cwd=tmp_path)
    planted = json.loads((tmp_path / "planted" / "audit.json").read_text())
    assert planted["labels"] != json.loads((tmp_path / "cold" / "audit.json").read_text())["labels"]


def arrays_in(content: bytes) -> dict[str, bytes]:
    """The bytes of each array of a file of arrays, without its dates."""
    with np.load(io.BytesIO(content)) as found:
        return {name: found[name].tobytes() for name in found.files}


def test_fit__makes_the_run_folder_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from headway.settings import fit_settings\n"
        "from headway.workflow import fitting\n"
        f"next(fitting(fit_settings('photos', run={str(tmp_path / 'run')!r})))\n"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'onnx', 'onnxruntime', 'timm') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]", done.stderr
    assert toy.files_of(tmp_path / "run") == {"settings.yaml", "resolved.json"}


def test_fit__no_cache_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 15, "square": 15})
    monkeypatch.setenv("HEADWAY_CACHE_DIR", str(tmp_path / "cache"))

    result = toy.fit(photos, "--run", tmp_path / "run", "--no-cache", cwd=tmp_path)

    assert result["features"]["computed"] == 30
    assert not (tmp_path / "cache").exists()
    assert toy.files_of(tmp_path / "run") - {"bundle/config.json"} == RUN_FILES


def test_evaluate__counts_how_often_a_test_set_was_opened(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"circle": 20, "square": 20})
    toy.fit(photos, "--run", tmp_path / "run", cwd=tmp_path)
    fresh = make.class_folders(tmp_path / "fresh", {"square": 12}, size=(70, 50))
    make.write(fresh / "circle" / "torn.png", make.truncated(make.png(seed=5)))
    make.write(fresh / "circle" / "whole.png", make.png(0, 4321))

    times = [
        json.loads(toy.headway("evaluate", tmp_path / "run" / "bundle", fresh, "--json", cwd=tmp_path).stdout)
        for _ in range(2)
    ]

    assert [result["openings"] for result in times] == [1, 2]
    assert times[0]["n"] == {"test": 13, "set_aside": 1}
    assert times[0]["test"] == times[1]["test"]
    assert times[0]["confidence"] == times[1]["confidence"]
    assert times[0]["confidence"]["n"] > 0
