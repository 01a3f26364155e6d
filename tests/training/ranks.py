"""What each process of tests/training/test_ranks.py does: train a tiny network by the words given, and tell the curve.

python -m torch.distributed.run ... tests/training/ranks.py FOLDER CASE
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.training.loop import Epoch, LoopSettings, Resumed, Rows, Task, Trained, told_norms, train
from headway.training.lr_range import find_lr
from headway.world import World, barrier, gather, join
from tests.training import nets

# 44 images: batches of 12, 12, 12 and 8; with 13 of 12 the last batch is one image, and one process has none of it.
BASE = LoopSettings(batch=12, epochs=3, lr=2e-2, optimizer="sgd", seed=1)
CASES: dict[str, LoopSettings] = {
    "plain": BASE,
    "frozen": BASE,
    "ragged": replace(BASE, epochs=2),
    "micro": replace(BASE, micro_batch=4),
    "weights": replace(BASE, label_smoothing=0.1, clip=0.1, ema=0.9),
    "mixup": replace(BASE, mixup=0.4),
    "cutmix": replace(BASE, cutmix=0.8, ema=0.5, optimizer="adamw", lr=1e-3),
    "thaw": replace(BASE, thaw_every=1),
    "memory": replace(BASE, batch=24),
    "live": BASE,
    "nan": BASE,
    "resume": replace(BASE, optimizer="adam", lr=1e-2, ema=0.9, checkpoint_seconds=0),
    "lr": BASE,
    "alone": BASE,
}


class Frozen(nets.ConvNet):
    """Its BatchNorm stays in eval mode."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self


class Thawing(nets.ConvNet):
    """Two stages and a head."""

    def thaw(self, k: int | None) -> None:
        for depth, stage in enumerate((self.second, self.first), start=1):
            stage.requires_grad_(k is None or k >= depth)


class Small(nets.ConvNet):
    """Memory holds six images."""

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) > 6:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return super().forward(images)


def build(case: str) -> Task:
    kinds: dict[str, type[nets.ConvNet]] = {"frozen": Frozen, "thaw": Thawing, "memory": Small}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model: nn.Module = kinds.get(case, nets.ConvNet)(norm=case in ("frozen", "live"), dropout=0.0)
    n = 37 if case == "ragged" else 44
    weights = np.array([0.5, 1.0, 4.0], np.float32) if case == "weights" else None
    return replace(nets.task(n, model), class_weights=weights)


def curve(epochs: Sequence[Epoch]) -> list[list[float]]:
    return [[one.train_loss, one.train_accuracy, one.val_loss, one.val_accuracy] for one in epochs]


def summed(trained: Trained) -> float:
    return float(sum(tensor.double().abs().sum() for tensor in trained.state.values()))


def run(case: str, world: World, folder: Path) -> dict[str, Any]:
    task, settings = build(case), CASES[case]
    if case == "lr":
        return {"lr": find_lr(task, settings, world).lr}
    if case == "alone":  # the leader trains by itself, while the others wait
        found = {"curve": curve(nets.trained(task, settings).epochs)} if world.leads else {}
        barrier(world)
        return found
    if case == "nan":
        images, labels = nets.images(44)
        floats = images.float()
        floats[17] = torch.nan
        broken = replace(task, train=Rows(nets.feed_of(floats), labels))
        try:
            nets.finish(train(broken, settings, world))
        except HeadwayError as error:
            return {"error": str(error)}
    if case == "resume":
        broken = replace(task, train=Rows(nets.interrupting(task.train.feed, 6, KeyboardInterrupt), task.train.labels))
        try:
            nets.finish(train(broken, settings, world, folder, "key"))
        except KeyboardInterrupt:
            barrier(world)
        seen, trained = nets.finish(train(build(case), settings, world, folder, "key"))
        straight = nets.finish(train(build(case), settings, world))[1]
        resumed = [[one.epoch, one.step] for one in seen if isinstance(one, Resumed)]
        return {"resumed": resumed, "same": nets.same_bits(trained.state, straight.state)}
    note = told_norms(task.model, settings, world)
    _, trained = nets.finish(train(task, settings, world))
    return {
        "curve": curve(trained.epochs),
        "sum": summed(trained),
        "micro": list(trained.micro_batches),
        "note": note,
    }


def main() -> None:
    folder, cases = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    world = join()
    torch.set_num_threads(1)
    found = {}
    for case in cases:
        both = gather(world, run(case, world, folder / "checkpoints"))
        found[case] = both
    if world.leads:
        (folder / "found.json").write_text(json.dumps(found))
    barrier(world)
    os._exit(0)  # torch's own threads of gloo abort a process now and then as it ends, though all is done


if __name__ == "__main__":
    main()
