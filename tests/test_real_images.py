"""The main job on real images, with the real network. Needs ../shared/data; says so where it skips."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import toy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]


def fit(data: Path, *words: str, cwd: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(toy.headway("fit", data, "--json", *words, cwd=cwd).stdout)
    return result


def test_cats_vs_dogs__cold_then_warm(real_images: Path, tmp_path: Path) -> None:
    cold = fit(real_images / "cats-vs-dogs", cwd=tmp_path)
    warm = fit(real_images / "cats-vs-dogs", cwd=tmp_path)

    assert cold["test"]["accuracy"] >= 0.98
    assert cold["n"] == {"train": 1400, "val": 300, "test": 300, "unlabelled": 0, "set_aside": 0}
    assert (cold["features"]["computed"], warm["features"]["computed"]) == (2000, 0)
    assert (warm["val"], warm["test"]) == (cold["val"], cold["test"])
    assert [run["run"] for run in (cold, warm)] == ["runs/cats-vs-dogs-1", "runs/cats-vs-dogs-2"]
    assert toy.same_bits(tmp_path / warm["run"]) == toy.same_bits(tmp_path / cold["run"])


def test_cats_vs_dogs__the_bundle_says_in_torch_what_it_says_in_onnx(real_images: Path, tmp_path: Path) -> None:
    import timm
    import torch

    import headway

    result = fit(real_images / "cats-vs-dogs" / "test", "--taps", "last", cwd=tmp_path)
    bundle = headway.load_bundle(tmp_path / result["bundle"])
    model = timm.create_model(f"local-dir:{bundle.path}", pretrained=True).eval()
    images = np.load(bundle.path / "probe" / "inputs.npy")

    with torch.inference_mode():
        scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        logits = model((scaled - 0.5) / 0.5).numpy()

    assert np.abs(logits - bundle.logits(images)).max() <= 1e-5 * max(1.0, float(np.abs(logits).max()))


def test_blood_cells__split_by_itself_and_judged_class_by_class(real_images: Path, tmp_path: Path) -> None:
    result = fit(real_images / "blood-cells", cwd=tmp_path)

    run = tmp_path / result["run"]
    test = json.loads((run / "evaluation.json").read_text())["subsets"]["test"]
    counts = json.loads((run / "audit.json").read_text())["counts"]
    assert counts["monocyte"] == {"train": 15, "val": 2, "test": 3}  # of 20: a tenth, and 15 %
    assert all(own["recall_interval"][0] <= own["recall"] <= own["recall_interval"][1] for own in test["per_class"])
    report = (run / "report.html").read_text()
    assert f"{test['balanced_accuracy']:.3f}" in report
    assert "monocyte" in report


def test_seed_networks__work_from_a_local_file(real_images: Path, tmp_path: Path) -> None:
    """Random weights stand in for the hub's, which cannot be reached: what is shown is the way, not the accuracy."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet18.tv_in1k").state_dict(), tmp_path / "resnet18.safetensors")
    photos = tmp_path / "photos"
    for label in ("cats", "dogs"):
        for path in sorted((real_images / "cats-vs-dogs" / "val" / label).iterdir())[:20]:
            (photos / label).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, photos / label / path.name)

    result = fit(photos, "--backbone", "resnet18.tv_in1k", "--weights", "resnet18.safetensors", cwd=tmp_path)

    assert result["backbone"] == "resnet18.tv_in1k"
    assert result["features"]["computed"] == 40


def test_cifar100__peak_memory_is_bounded(real_images: Path, tmp_path: Path) -> None:
    """6,000 images more must not cost more than their features: measured on two sizes of the same data."""
    import pyarrow.parquet as pq

    peaks = {}
    for n in (2_000, 8_000):
        folder = tmp_path / f"cifar-{n}"
        folder.mkdir()
        table = pq.read_table(real_images / "cifar100" / "test.parquet").slice(0, n)
        pq.write_table(table, folder / "train.parquet", row_group_size=1000)
        code = (
            "import resource, sys; sys.argv = ['headway', 'fit', *sys.argv[1:]]\n"
            "from headway.cli import main\n"
            "try:\n    main()\n"
            "except SystemExit as end:\n"
            "    print(end.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        words = [str(folder), *toy.BACKBONE, "--taps", "last", "--l2", "0.1"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=250,
        )
        exit_code, kilobytes = done.stdout.splitlines()[-1].split()
        assert exit_code == "0", done.stderr
        peaks[n] = int(kilobytes) / 1024

    features = 6_000 * 4 * 512 / 2**20  # generously: the toy has fewer than 512 numbers an image
    assert peaks[8_000] - peaks[2_000] < 4 * features + 60, peaks
