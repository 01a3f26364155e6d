"""Seed B's transfer run, as a tutorial writes it: a frozen ResNet-18, the whole of it run in every epoch.

python benchmarks/peers/seed_b_loop.py FOLDER WEIGHTS EPOCHS

FOLDER has train, val and test with a folder for each class. Prints one JSON line: seconds of each epoch (training and
validation) and of the test, accuracies. BatchNorm stays in eval mode, so that the network is the one headway sees.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BATCH, RATE = 200, 1e-3


class Pictures(ImageFolder):  # type: ignore[misc]
    """A folder for each class; a small slice may lack some in val or test, so that train's numbers count."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        names = sorted(path.name for path in (Path(directory).parent / "train").iterdir())
        return names, {name: number for number, name in enumerate(names)}


def network(weights: Path, n_classes: int) -> nn.Module:
    """ResNet-18 without its last layer, frozen, and a head 512 → 256 → classes."""
    backbone = resnet18()
    tensors = load_file(weights) if weights.suffix == ".safetensors" else torch.load(weights, weights_only=True)
    backbone.load_state_dict({key: value for key, value in tensors.items() if not key.startswith("fc.")}, strict=False)
    backbone.fc = nn.Identity()
    backbone.requires_grad_(False).eval()
    return nn.Sequential(backbone, nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, n_classes))


def epoch(model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer | None = None) -> float:
    """One pass, with steps where there is an optimizer; returns the accuracy over it."""
    loss_of, right, n = nn.CrossEntropyLoss(), 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for images, labels in loader:
            logits = model(images)
            if optimizer is not None:
                optimizer.zero_grad()
                loss_of(logits, labels).backward()
                optimizer.step()
            right += int((logits.argmax(1) == labels).sum())
            n += len(labels)
    return right / n


def main() -> None:
    """Train, validate after each epoch, test once."""
    folder, weights, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(0)
    preprocess = transforms.Compose(
        [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    sets = {name: Pictures(str(folder / name), preprocess, allow_empty=True) for name in ("train", "val", "test")}
    loaders: dict[str, DataLoader[Any]] = {
        name: DataLoader(data, batch_size=BATCH, shuffle=name == "train", num_workers=2) for name, data in sets.items()
    }
    model = network(weights, len(sets["train"].classes))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    seconds, train, val = [], 0.0, 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        train, val = epoch(model, loaders["train"], optimizer), epoch(model, loaders["val"])
        seconds.append(round(time.perf_counter() - start, 3))
    start = time.perf_counter()
    test = epoch(model, loaders["test"])
    took = round(time.perf_counter() - start, 3)
    print(json.dumps({"epochs": seconds, "test_seconds": took, "train": train, "val": val, "test": test}))


if __name__ == "__main__":
    main()
