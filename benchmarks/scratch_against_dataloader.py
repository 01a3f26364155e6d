"""The same small network on the same images: headway's loop against DataLoader, PIL and torchvision transforms.

python -m benchmarks.scratch_against_dataloader CIFAR100_FOLDER [--images 20000] [--epochs 2] [--rounds 3]

Both train seed B's network (Adam 1e-3, batch 200, no augmentation) on the first N training images, in turn; what is
compared is images per second of training, everything from the first batch to the last, each in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.racing import module
from benchmarks.told import tell
from headway.backbones.preprocess import Preprocess
from headway.data.dataset import TRAIN
from headway.data.sources import load_dataset
from headway.features.looking import prepared_images
from headway.machine import keep_freed_memory, usable_cores

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
BATCH, RATE = 200, 1e-3


def network() -> nn.Module:
    """Seed B's network, as its author would write it."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in (16, 32, 64, 128, 512):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs), nn.MaxPool2d(2)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 100))


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images as torchvision's CIFAR100 holds them, and the usual transforms."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def usual(images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int) -> float:
    """Seconds of training with DataLoader and two worker processes."""
    torch.manual_seed(0)
    model, loss_of = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = DataLoader(
        Pictures(images, labels), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    model.train()
    start = time.perf_counter()
    for _ in range(epochs):
        for batch, target in loader:
            optimizer.zero_grad()
            loss = loss_of(model(batch), target)
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start


def ours(images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int) -> float:
    """Seconds of training by headway's loop, from images in memory."""
    import accelerate  # as torchvision on the other side: what is compared is training, not imports

    assert accelerate
    torch.optim.Adam([torch.zeros(1)])  # the first optimizer imports a lot, on the other side before the start too
    from headway.backbones.network import build_network, cut_trunk, own_preprocess
    from headway.backbones.trunk import TrunkRequest
    from headway.backbones.weights import choose_weights
    from headway.training.augment import Augment
    from headway.training.feeding import from_memory
    from headway.training.head_layers import build_head
    from headway.training.loop import train
    from headway.training.staged import StagedClassifier
    from headway.training.task import LoopSettings, Rows, Task
    from headway.world import ALONE

    request = TrunkRequest("cnn", "none:0", 32, MEAN, STD)
    net = build_network("cnn", choose_weights("cnn", None, seed=0, offline=True), image=32, seed=0)
    trunk, _ = cut_trunk(net, own_preprocess("cnn", net, request))
    model = StagedClassifier(trunk, build_head(512, (256,), (0.0,), 100))
    model.thaw(None)
    keys = np.arange(len(images), dtype=np.uint64)
    feed = from_memory(images, keys, Augment("none"), 0, 0)
    few = Rows(from_memory(images[:BATCH], keys[:BATCH], Augment("none"), 0, 0), labels[:BATCH])
    keep_freed_memory()
    settings = LoopSettings(optimizer="adam", lr=RATE, schedule="none", batch=BATCH, epochs=epochs)
    start = time.perf_counter()
    for _ in train(Task(model, Rows(feed, labels), few), settings, ALONE):
        pass
    return time.perf_counter() - start


def pictures(folder: Path, n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `n` training images (n, 32, 32, 3) and their labels."""
    dataset = load_dataset(folder)
    indices = np.flatnonzero(dataset.given == TRAIN)[:n]
    plain = Preprocess(32, None, "squash", "bilinear", MEAN, STD)
    return prepared_images(dataset, indices.tolist(), plain), dataset.labels[indices].astype(np.int64)


def measured(way: str, asked: argparse.Namespace) -> float:
    """Images per second of one way, in a process of its own."""
    options = ("--images", str(asked.images), "--epochs", str(asked.epochs), "--way", way)
    command = module("scratch_against_dataloader", asked.folder, *options)
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(asked.images * asked.epochs / float(said.split()[-1]))


def main() -> None:
    """Run both in turn and print images per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=("usual", "ours"), help="this one alone; prints its seconds")
    asked = parser.parse_args()
    if asked.way:
        torch.set_num_threads(usable_cores())
        images, labels = pictures(asked.folder, asked.images)
        print((usual if asked.way == "usual" else ours)(images, labels, asked.epochs))
        return
    rates: dict[str, list[float]] = {"usual": [], "ours": []}
    for number in range(asked.rounds):
        for name, found in rates.items():
            found.append(measured(name, asked))
            print(f"round {number + 1} {name:5} {found[-1]:6.0f} images/s", flush=True)
    ratio = round(statistics.median(own / base for own, base in zip(rates["ours"], rates["usual"], strict=True)), 3)
    print(
        f"{asked.images:,} images, {asked.epochs} epochs: headway's loop is {ratio:.2f} times as fast as the usual one"
    )
    tell("scratch_against_dataloader", rates, "images/s", images=asked.images, epochs=asked.epochs, ratio=ratio)


if __name__ == "__main__":
    main()
