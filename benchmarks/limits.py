"""What this machine can give at most, whatever the program: engines on images in memory, decoding, matrix products.

python -m benchmarks.limits DATA [--backbones tf_efficientnet_lite0,resnet18] [--images 400] [--rounds 3]

Rates in turn, in one process: the product of two float32 matrices by numpy and by torch (all cores), decoding and
scaling on one core and on all, and every engine that is installed on every backbone. An engine's images/s are also told
as GFLOP/s (two for each multiply-add of the network), and as a share of the faster matrix product. Backbones whose
weights are not here get random ones: speed is the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pass_rate import decode_alone, engine_alone, opened, rate, spread_over
from benchmarks.racing import arguments
from benchmarks.told import tell
from headway.backbones.catalog import offline_names
from headway.backbones.engines import BATCH, ENGINES, is_here
from headway.data.dataset import Dataset
from headway.data.sources import load_dataset
from headway.features.looking import Asked, Ready, prepared_images
from headway.machine import usable_cores

SIDE, PRODUCTS = 2048, 8


def products(multiply: Callable[[], object]) -> float:
    """GFLOP/s of a product of two SIDE x SIDE matrices."""
    multiply()
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        multiply()
    return PRODUCTS * 2 * SIDE**3 / (time.perf_counter() - start) / 1e9


def matrix_products() -> dict[str, Callable[[], float]]:
    """float32, by each library, on all cores."""
    import torch

    torch.set_num_threads(usable_cores())
    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), dtype=np.float32)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    return {
        "matrix product, numpy": partial(products, lambda: a @ b),
        "matrix product, torch": partial(products, lambda: x @ y),
    }


def engines(dataset: Dataset, ready: Ready, backbone: str) -> dict[str, Callable[[], float]]:
    """images/s of each engine that is installed."""
    images = prepared_images(dataset, spread_over(dataset, BATCH).tolist(), ready.preprocess)
    found: dict[str, Callable[[], float]] = {}
    for name in ENGINES:
        if is_here(name):
            engine = ready.session.open(ready.trunk, name)
            engine.run(images)  # the first run is slower
            found[f"{backbone}, {name}"] = partial(rate, partial(engine_alone, engine, images))
    return found


def in_turn(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each once a round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            found[name].append(measure())
    return found


def measured(asked: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Every rate, and multiply-adds an image of each backbone."""
    dataset, macs = load_dataset(asked.data), {}
    indices, here = spread_over(dataset, asked.images), offline_names()
    with ExitStack() as stack:
        ways = matrix_products()
        for backbone in asked.backbones.split(","):
            request = Asked(backbone=backbone, weights=None if backbone in here else "none", engine="torch")
            ready = stack.enter_context(opened(dataset, request))
            macs[backbone] = int(ready.trunk.facts["macs"])
            if len(macs) == 1:
                for threads in sorted({1, usable_cores()}):
                    name = "decoding, one core" if threads == 1 else f"decoding, {threads} cores"
                    ways[name] = partial(rate, partial(decode_alone, ready, indices, threads))
            ways |= engines(dataset, ready, backbone)
        return in_turn(ways, asked.rounds), macs


def main() -> None:
    """Run the rounds and print a table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbones", default="tf_efficientnet_lite0,resnet18")
    parser.add_argument("--images", type=int, default=400, help="that are decoded in each round")
    rates, macs = measured(parser.parse_args())
    top = max(statistics.median(rates[name]) for name in rates if name.startswith("matrix product"))
    gflops = {}
    for name, values in rates.items():
        backbone, _, _ = name.partition(", ")
        if backbone in macs:
            gflops[name] = round(statistics.median(values) * 2 * macs[backbone] / 1e9, 1)
            print(f"{name}: {gflops[name]:.0f} GFLOP/s, {gflops[name] / top:.2f} of the matrix product's {top:.0f}")
    products_alone = {name: values for name, values in rates.items() if name.startswith("matrix product")}
    tell("limits, matrix products", products_alone, "GFLOP/s", side=SIDE)
    images = {name: values for name, values in rates.items() if name not in products_alone}
    tell("limits", images, "images/s", gflops=gflops, macs=macs)


if __name__ == "__main__":
    main()
