"""A small seeded network for whole runs: timm's own test network with random weights, and how to run headway on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# One engine, as the fastest of a toy network is a matter of chance, and each gives bits of its own.
BACKBONE = (
    *("--backbone", "test_resnet", "--weights", "none", "--image", "64", "--threads", "1"),
    *("--engine", "onnxruntime"),
)


def headway(*words: str | Path, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the real command in its own process. `check`: the exit code it must have."""
    done = subprocess.run(
        [sys.executable, "-m", "headway", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=250
    )
    assert check is None or done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def fit(data: str | Path, *words: str | Path, cwd: Path) -> dict[str, Any]:
    """`headway fit --json` on the toy network; its final JSON."""
    result: dict[str, Any] = json.loads(headway("fit", data, *BACKBONE, "--json", *words, cwd=cwd).stdout)
    return result


def files_of(folder: Path) -> set[str]:
    """Every file under `folder`, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def tree_digest(folder: Path) -> str:
    """One digest over names, bytes and change times of a folder: equal only where nobody wrote into it."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        whole.update(os.fsencode(path.relative_to(folder)) + str(path.lstat().st_mtime_ns).encode())
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


def same_bits(run: Path) -> dict[str, Any]:
    """What two runs of one command must have in common: split, weights, predictions, metrics; no times, no ONNX."""
    evaluation = json.loads((run / "evaluation.json").read_text())
    kept = ("split.csv", "predictions.csv", "history.csv", "bundle/model.safetensors", "audit.json", "map.json")
    return {
        **{name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in kept},
        "metrics": evaluation["subsets"],
        "selection": evaluation["selection"],
    }
