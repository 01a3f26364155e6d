"""The parts of a made-up run that no number is computed for: model, settings, machine, what the data is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NEXT = (
    "Fine-tuning the last stage would take about 3 minutes here and likely bring less than 0.5 points: "
    "the interval is wider than that, so more test images would tell more than more training."
)
WHY_PATH = "Taps all with L2 0.003 has the lowest validation log-loss, and a paired test backs it against the last tap."
WHY_EPOCHS = "The head with the best validation accuracy, reached at epoch 19 of 24; five more brought none better."
SAVED = "Nothing was taken from the cache this time; the next run on these images saves about 81 s."


def result(title: str, n: Mapping[str, int], classes: int) -> dict[str, Any]:
    """The last JSON of `fit`, but its accuracies."""
    total = n["train"] + n["val"] + n["test"]
    return {
        "run": f"runs/{title}-1",
        "bundle": f"runs/{title}-1/bundle",
        "backbone": "tf_efficientnet_lite0",
        "strategy": "probe",
        "classes": classes,
        "n": dict(n),
        "seconds": {"total": 13.4, "data": 0.4, "features": 9.8, "train": 1.1, "evaluate": 0.3, "export": 1.2},
        "features": {
            "computed": total,
            "reused": 0,
            "engine": "onnxruntime",
            "prepare_seconds": 2.1,
            "images_per_second": 203.4,
        },
    }


def model() -> dict[str, Any]:
    return {
        "backbone": "tf_efficientnet_lite0",
        "licence": "Apache-2.0",
        "weights_origin": "packaged",
        "weights_digest": "9f2b61" + "ab" * 29,
        "parameters": 3_374_858,
        "trainable": 9_794,
        "macs": 385_000_000,
        "feature_dim": 4896,
        "bytes_per_image": 19_584,
        "input": 224,
        "layers": [
            {
                "name": f"blocks.{i}",
                "shape": [16 * (i + 1), 112 // (i + 1), 112 // (i + 1)],
                "parameters": 1208 * i + 32,
            }
            for i in range(7)
        ],
    }


def audit(classes: Sequence[str], test: Sequence[int], names: Sequence[str], unlabelled: int) -> dict[str, Any]:
    counts = {name: {"train": 4 * n, "val": (n + 2) // 3, "test": n} for name, n in zip(classes, test, strict=True)}
    accepted = sum(sum(row.values()) for row in counts.values())
    return {
        "schema": 1,
        "found": accepted + 2,
        "accepted": accepted,
        "set_aside": [
            {"name": names[0] + ".981", "reason": "truncated at 61 %"},
            {"name": "Thumbs.db.jpg", "reason": "not an image (data)"},
        ],
        "ignored": {"hidden": 3, ".DS_Store": 2},
        "notes": ["12 images hold content of another format than their name says"],
        "counts": counts,
        "unlabelled": unlabelled,
        "brought": ["train", "test"],
        "conflicts": [{"names": [names[1], names[-1]], "labels": [classes[0], classes[1]]}],
        "straddling": [{"names": [names[2], names[3]], "subsets": ["train", "test"]}],
        "duplicates": 4,
        "sizes": {"width": [42, 500, 1050], "height": [32, 375, 768]},
        "formats": {"JPEG": accepted - 12, "PNG": 12},
    }


def resolved(title: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "settings": {
            "data": f"{title}/",
            "backbone": "tf_efficientnet_lite0",
            "image": 224,
            "taps": "auto",
            "head": "linear",
            "l2": "auto",
            "val": 0.1,
            "test": 0.15,
            "balance": "none",
            "split": None,
            "seed": 0,
        },
        "engine": {"name": "onnxruntime", "precision": "fp32", "batch": 32},
        "preprocess": {
            "version": 1,
            "size": 224,
            "resize": 256,
            "fit": "crop",
            "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "taps": [{"name": "last", "dim": 1280}, {"name": "stage1_mean", "dim": 16}],
        "versions": {"headway": "0.1.0", "python": "3.11.2", "torch": "2.9.0", "onnxruntime": "1.23.0"},
        "machine": {"system": "Linux 6.1", "processor": "AMD EPYC", "cores": 2, "memory_gb": 7.8},
        "threads": 2,
        "seed": 0,
    }
