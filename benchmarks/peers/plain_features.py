"""What a good engineer writes by hand in plain PyTorch: every image through the network once, features kept in memory.

python benchmarks/peers/plain_features.py FOLDER BACKBONE WEIGHTS eager|compiled

FOLDER has train, val and test. Two loader workers decode (libjpeg-turbo) and scale in uint8; the network runs channels
last, with torch.compile and frozen weights where that is asked for; then a linear head by L-BFGS, its L2 chosen on val.
Prints one JSON line: images/s of the pass, seconds of the first batch (where compiling happens), accuracies.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

BATCH, SUBSETS = 32, ("train", "val", "test")


class Network(nn.Module):
    """uint8 images (B, 3, S, S) → features (B, D); normalises them, so that workers send a quarter of the bytes."""

    def __init__(self, backbone: str, weights: Path) -> None:
        super().__init__()
        body: Any = timm.create_model(backbone)
        body.load_state_dict(load_file(weights))
        body.reset_classifier(0)
        mean, std = (torch.tensor(body.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        self.body, self.mean, self.std = body, 255 * mean, 255 * std

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.contiguous(memory_format=torch.channels_last).float()
        features: Tensor = self.body((pixels - self.mean) / self.std)
        return features


def load(path: str) -> Tensor:
    """(3, H, W) uint8."""
    image: Tensor = decode_image(path, mode=ImageReadMode.RGB)
    return image


def look(network: nn.Module, folder: Path, transform: v2.Transform) -> dict[str, tuple[Tensor, Tensor]]:
    """Features and labels of each subset. Every batch has the same shape, so that nothing is compiled twice."""
    sets = [ImageFolder(str(folder / name), transform, loader=load) for name in SUBSETS]
    whole: ConcatDataset[Any] = ConcatDataset(sets)
    rows, labels = [], []
    with torch.inference_mode():
        for images, own in DataLoader(whole, batch_size=BATCH, num_workers=2):
            short = BATCH - len(images)
            full = torch.cat([images, images.new_zeros(short, *images.shape[1:])]) if short else images
            rows.append(network(full)[: len(images)].clone())
            labels.append(own)
    sizes = [len(data) for data in sets]
    parts = zip(torch.split(torch.cat(rows), sizes), torch.split(torch.cat(labels), sizes), strict=True)
    return dict(zip(SUBSETS, parts, strict=True))


def solve(X: Tensor, y: Tensor, l2: float) -> nn.Linear:
    """Softmax regression by L-BFGS."""
    head = nn.Linear(X.shape[1], int(y.max()) + 1)
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(X), y) + 0.5 * l2 * (head.weight**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return head


def accuracy(head: nn.Linear, X: Tensor, y: Tensor) -> float:
    return float((head(X).argmax(1) == y).float().mean())


def main() -> None:
    """Look once, solve a few heads, judge the best."""
    folder, backbone, weights, way = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    network: nn.Module = Network(backbone, weights).eval().to(memory_format=torch.channels_last)
    if way == "compiled":
        from torch._inductor import config as inductor

        inductor.freezing = True
        network = torch.compile(network)  # type: ignore[assignment]
    transform = v2.Compose(
        [v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(224)]
    )
    start = time.perf_counter()
    with torch.inference_mode():
        network(torch.zeros(BATCH, 3, 224, 224, dtype=torch.uint8))
    first = time.perf_counter() - start
    start = time.perf_counter()
    seen = look(network, folder, transform)
    rate = sum(len(y) for _, y in seen.values()) / (time.perf_counter() - start)
    mean, spread = seen["train"][0].mean(0), seen["train"][0].std(0).clamp_min(1e-6)
    rows = {name: ((X - mean) / spread, y) for name, (X, y) in seen.items()}
    heads = [solve(*rows["train"], l2) for l2 in (1.0, 0.1, 0.01, 0.001)]
    best = max(heads, key=lambda head: accuracy(head, *rows["val"]))
    found = {name: round(accuracy(best, *rows[name]), 4) for name in ("val", "test")}
    print(json.dumps({"images_per_second": round(rate, 2), "first_batch_seconds": round(first, 2), **found}))


if __name__ == "__main__":
    main()
