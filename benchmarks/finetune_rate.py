"""Fine-tuning, images per second: the loop that PyTorch's tutorials teach against headway's, full and last stage.

python -m benchmarks.finetune_rate DATA [--backbone NAME] [--weights none] [--images 256] [--rounds 3]

In turn, each in a process of its own, on the same training images of DATA:

    plain  NCHW, fp32, eager; torchvision's RandomResizedCrop and flip, DataLoader with two workers, SGD with momentum
    full   `headway fit --strategy finetune`: all of the network, with the options' defaults (crop and flip, AdamW)
    last   `headway fit --strategy finetune --thaw 1`, whose frozen front has been run and kept

What counts is the second epoch of training, from asking for its first batch to its last step: what is loaded, started
or prepared once is left out on all sides, what an epoch costs (the plain loop's workers start with it) is not.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.told import tell
from headway.data.dataset import TRAIN, UNASSIGNED, VAL, Contents, Dataset, Split
from headway.data.sources import load_dataset
from headway.events import drain
from headway.features.looking import Asked, open_session, plain_preprocess
from headway.features.reading import content_digest
from headway.training.task import Feed

WAYS = ("plain", "full", "last")
BATCH, EPOCHS, N_VAL = 32, 2, 32


def plain(asked: argparse.Namespace, dataset: Dataset, indices: NDArray[np.intp]) -> float:
    """Images per second of the tutorial's loop, by nothing but torch, torchvision and timm (the weights are ours)."""
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    with tempfile.TemporaryDirectory() as cache:
        session = open_session(Asked(backbone=asked.backbone, weights=asked.weights), Path(cache))
        preprocess = plain_preprocess(dataset, session, Asked())
        network = session.module().network
    changed = transforms.Compose(
        [
            transforms.RandomResizedCrop(preprocess.size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    wanted = {str((asked.data / dataset.names[index]).resolve()) for index in indices}
    folder = ImageFolder(str(asked.data / "train"), changed)
    chosen = [place for place, (path, _) in enumerate(folder.samples) if str(Path(path).resolve()) in wanted]
    loader = DataLoader(Subset(folder, chosen), batch_size=BATCH, shuffle=True, num_workers=2)
    model: nn.Module = network
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    criterion, rate = nn.CrossEntropyLoss(), 0.0
    for _ in range(EPOCHS):
        model.train()
        start, seen = time.perf_counter(), 0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            seen += len(images)
        rate = seen / (time.perf_counter() - start)
    return rate


def ours(asked: argparse.Namespace, dataset: Dataset, indices: NDArray[np.intp]) -> float:
    """Images per second of headway's loop, on the road that `headway fit` takes with these options."""
    from headway.settings import fit_settings
    from headway.training.finetune import Brief, RoadSettings, prepare
    from headway.training.loop import train
    from headway.world import ALONE

    thaw = "all" if asked.way == "full" else "1"
    settings = fit_settings(asked.data, strategy="finetune", precision=asked.precision, thaw=thaw)
    with tempfile.TemporaryDirectory() as place:
        session = open_session(Asked(backbone=asked.backbone, weights=asked.weights), Path(place) / "cache")
        preprocess = plain_preprocess(dataset, session, Asked())
        road = RoadSettings.from_settings(settings, session.threads, session.device)
        contents, split = looked_at(dataset, indices)
        brief = Brief(contents, split, preprocess, len(dataset.classes), None)
        prepared = drain(prepare(dataset, session.module(), brief, road, Path(place) / "activations"))
        spans: dict[int, float] = {}
        task = replace(prepared.task, train=replace(prepared.task.train, feed=timed(prepared.task.train.feed, spans)))
        loop = replace(road.loop, batch=BATCH, epochs=EPOCHS, judge_start=False)
        drain(train(task, loop, ALONE, Path(place) / "checkpoints", "benchmark"))
    return len(split.train) / spans[EPOCHS]


def timed(feed: Feed, spans: dict[int, float]) -> Feed:
    """The feed, noting the seconds of each epoch, from its first batch asked for to its end: after the last step."""

    def watched(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        start = time.perf_counter()
        yield from feed(batches, epoch)
        spans[epoch] = time.perf_counter() - start

    return watched


def looked_at(dataset: Dataset, indices: NDArray[np.intp]) -> tuple[Contents, Split]:
    """What the pass would have seen of the samples `indices`, and their use: the last few validate."""
    n = len(dataset)
    digests, sizes = np.zeros((n, 32), np.uint8), np.zeros((n, 2), np.int32)
    for index in indices.tolist():
        content = dataset.source.read(index)
        digests[index] = np.frombuffer(content_digest(content), np.uint8)
        with Image.open(io.BytesIO(bytes(content))) as image:
            sizes[index] = image.size
    subsets = np.full(n, UNASSIGNED, np.int8)
    subsets[indices] = TRAIN
    subsets[np.flatnonzero(subsets == UNASSIGNED)[:N_VAL]] = VAL
    for index in np.flatnonzero(subsets == VAL).tolist():
        digests[index] = np.frombuffer(content_digest(dataset.source.read(index)), np.uint8)
    return Contents(np.ones(n, np.bool_), {}, digests, np.zeros((n, 32), np.uint8), sizes), Split(subsets, ())


def measured(way: str, asked: argparse.Namespace) -> float:
    """Images per second of one way, in a process of its own."""
    weights = ("--weights", asked.weights) if asked.weights else ()
    options = ("--backbone", asked.backbone, *weights, "--images", str(asked.images), "--precision", asked.precision)
    command = [sys.executable, "-m", "benchmarks.finetune_rate", str(asked.data), *options, "--way", way]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=Asked.backbone)
    parser.add_argument("--weights")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32", help="of headway's loop; the plain one has fp32")
    parser.add_argument("--way", choices=WAYS, help="this one alone; prints its images per second")
    asked = parser.parse_args()
    if asked.way:
        dataset = load_dataset(asked.data)
        of_training = np.flatnonzero(dataset.given == TRAIN)
        indices = of_training[np.linspace(0, len(of_training) - 1, asked.images).astype(np.intp)]
        print((plain if asked.way == "plain" else ours)(asked, dataset, indices))
        return
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(asked.rounds):
        for way, found in rates.items():
            found.append(measured(way, asked))
            print(f"round {number + 1} {way:5} {found[-1]:7.1f} images/s", flush=True)
    ratios = {
        way: [round(own / base, 3) for own, base in zip(rates[way], rates["plain"], strict=True)] for way in WAYS[1:]
    }
    for way, values in ratios.items():
        print(f"{way}: {statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}] times the plain loop")
    facts = {"backbone": asked.backbone, "images": asked.images, "batch": BATCH, "precision": asked.precision}
    tell("finetune_rate", rates, "images/s", **facts, ratios=ratios)


if __name__ == "__main__":
    main()
