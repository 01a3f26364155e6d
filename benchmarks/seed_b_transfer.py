"""Seed B's transfer run on CIFAR-100, whole processes: the tutorial's loop against `headway fit`.

python -m benchmarks.seed_b_transfer CIFAR100 [--images 1800] [--weights FILE] [--loop-epochs 1] [--rounds 3]
                                     [--fit-options "--precision bf16"]...

The job is 45,000 images to train and 5,000 to validate, 10 epochs. Both get the same slice of it as PNG files, 1/9 of
--images to validate and as many to test, which headway looks at too and the loop once at its end. What is told is the
time of the whole job without the test, extrapolated:

    loop     start-up + 10 x an epoch x 50,000 / (train + val of the slice)
    headway  total - pass - train + pass x 50,000 / (all of the slice) + train x 45,000 / (train of the slice), by its
             own seconds; pass = features - what preparing the network took, which does not grow with the images

Without --weights both load the same random ResNet-18: speed is that of real weights, accuracy is not. The loop's
accuracy is that after --loop-epochs.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.racing import HEADWAY, Run, arguments, peer, race, times_as_fast, verdict
from benchmarks.told import tell
from headway.data.dataset import TEST, TRAIN, Dataset
from headway.data.sources import load_dataset

WHOLE = {"train": 45_000, "val": 5_000}
EPOCHS = 10


def write_slice(dataset: Dataset, images: int, folder: Path) -> dict[str, int]:
    """Write a slice as FOLDER/SUBSET/CLASS/NUMBER.png; returns the number of images of each subset."""
    shuffled = np.random.default_rng(0).permutation
    given = {subset: shuffled(np.flatnonzero(dataset.given == subset)) for subset in (TRAIN, TEST)}
    parts = {
        "train": given[TRAIN][:images],
        "val": given[TRAIN][images : images + images // 9],
        "test": given[TEST][: images // 9],
    }
    known = set(dataset.labels[parts["train"]].tolist())
    sizes = {}
    for name, indices in parts.items():
        kept = [index for index in indices.tolist() if int(dataset.labels[index]) in known]
        for index in kept:
            place = folder / name / dataset.classes[int(dataset.labels[index])]
            place.mkdir(parents=True, exist_ok=True)
            content = dataset.source.read(index)
            path = place / f"{index}.png"
            path.write_bytes(content) if isinstance(content, bytes) else Image.fromarray(content).save(path)
        sizes[name] = len(kept)
    return sizes


def random_weights(path: Path) -> Path:
    """A ResNet-18 with random weights in a file."""
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18().state_dict(), path)
    return path


def whole_loop(run: Run, sizes: dict[str, int]) -> float:
    """Seconds of the loop on the whole job."""
    epochs = run.said["epochs"]
    start_up = run.seconds - sum(epochs) - run.said["test_seconds"]
    return float(start_up + EPOCHS * statistics.mean(epochs) * sum(WHOLE.values()) / (sizes["train"] + sizes["val"]))


def whole_fit(run: Run, sizes: dict[str, int]) -> float:
    """Seconds of `headway fit` on the whole job: its wall time, what grows with the images taken for all of them."""
    own = run.said["seconds"]
    looked, taught = own["features"] - run.said["features"]["prepare_seconds"], own["train"]
    more = looked * sum(WHOLE.values()) / sum(sizes.values()) + taught * WHOLE["train"] / sizes["train"]
    return float(run.seconds - looked - taught + more)


def asked_for() -> argparse.Namespace:
    """The options."""
    parser = arguments(__doc__ or "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=1_800, help="training images of the slice; all: 45000")
    parser.add_argument("--weights", type=Path, help="a ResNet-18 (.safetensors or .pth); default: random")
    parser.add_argument("--loop-epochs", type=int, default=1, help="epochs that the loop really runs")
    parser.add_argument("--fit-options", action="append", default=[], help="also race headway fit with these")
    return parser.parse_args()


def main() -> None:
    """Write the slice, run the rounds, extrapolate, print a table."""
    asked = asked_for()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "slice"
        sizes = write_slice(load_dataset(asked.data), asked.images, folder)
        weights = asked.weights.resolve() if asked.weights else random_weights(Path(place) / "resnet18.safetensors")
        fit = [*HEADWAY, "fit", str(folder), "--backbone", "resnet18", "--weights", str(weights)]
        fit += ["--head", "mlp:256", "--epochs", str(EPOCHS), "--no-cache", "--json"]
        ways = {"loop": peer("seed_b_loop", folder, weights, asked.loop_epochs), "headway": fit}
        ways |= {f"headway {words}": [*fit, *shlex.split(words)] for words in asked.fit_options}
        runs = race(ways, asked.rounds)
    rows = {name: [(whole_fit, whole_loop)[name == "loop"](run, sizes) for run in of] for name, of in runs.items()}
    print(f"slice {sizes}; {'given' if asked.weights else 'random'} weights; seconds of the whole job, extrapolated:")
    ratios = {name: times_as_fast(values, rows["loop"]) for name, values in rows.items() if name != "loop"}
    for name, ratio in ratios.items():
        print(verdict(name, "the loop", ratio))
    accuracy = {name: of[0].said["val"] for name, of in runs.items()}
    accuracy = {name: said if name == "loop" else said["accuracy"] for name, said in accuracy.items()}
    after = {"loop": asked.loop_epochs, "headway": EPOCHS}
    print("validation accuracy: " + ", ".join(f"{name} {value:.4f}" for name, value in accuracy.items()), after)
    facts = {"ratios": ratios, "val_accuracy": accuracy, "epochs_run": after, "slice": sizes, "whole": WHOLE}
    tell("seed_b_transfer", rows, "s", **facts, weights="given" if asked.weights else "random")


if __name__ == "__main__":
    main()
