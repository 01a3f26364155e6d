"""headway against the best that plain PyTorch gives: features once, kept in memory, channels last, eager and compiled.

python -m benchmarks.best_plain_pytorch FOLDER [--backbone NAME] [--weights FILE] [--rounds 3]

FOLDER has train, val and test. In turn, each a process of its own: the plain script eager, the same compiled,
`benchmarks.pass_rate` (headway's pass over the same files, the network ready beforehand) in fp32 with all taps and in
int8 with the last alone, which is all that the scripts keep, and `headway fit` cold.
Told are images/s of the pass, without imports and compiling (shown beside it), and seconds of whole processes. Without
--weights the packaged ones are used where the backbone has them, else random ones.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.racing import HEADWAY, Run, arguments, module, peer, race, read_once, times_as_fast, verdict
from benchmarks.told import tell
from headway.backbones.catalog import DEFAULT, offline_names
from headway.data.sources import load_dataset

PLAIN = ("plain eager", "plain compiled")
PASSES = {"headway": (), "headway int8": ("--int8", "--taps", "last")}


def write_weights(backbone: str, given: Path | None, path: Path) -> Path:
    """The whole network's weights as safetensors, for both sides: those given, packaged ones, or random."""
    import timm
    import torch
    from safetensors.torch import save_file

    from headway.backbones.weights import choose_weights, load_weights

    torch.manual_seed(0)
    network = timm.create_model(backbone)
    asked = str(given) if given else None if backbone in offline_names() else "none"
    choice = choose_weights(backbone, asked, seed=0, offline=True)
    if choice.path is not None:
        load_weights(network, choice, ("classifier", "fc", "head"))
    save_file(network.state_dict(), path)
    return path


def asked_for() -> argparse.Namespace:
    """The options."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default=DEFAULT)
    parser.add_argument("--weights", type=Path)
    return parser.parse_args()


def passes(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[float]]:
    """Images per second of the pass, of each way."""
    rates = {name: [float(run.said["images_per_second"]) for run in runs[name]] for name in PLAIN}
    return rates | {name: [float(run.said["rounds"]["pass"][0]) for run in runs[f"{name} pass"]] for name in PASSES}


def main() -> None:
    """Run the rounds and print two tables."""
    asked = asked_for()
    folder = asked.folder.resolve()
    read_once(folder)
    with tempfile.TemporaryDirectory() as place:
        weights = write_weights(asked.backbone, asked.weights, Path(place) / "weights.safetensors")
        both = ("--backbone", asked.backbone, "--weights", str(weights))
        images = ("--images", str(len(load_dataset(folder))), "--rounds", "1", "--engine", "auto")
        ways = {name: peer("plain_features", folder, asked.backbone, weights, name.split()[1]) for name in PLAIN}
        ways |= {f"{name} pass": module("pass_rate", folder, *both, *images, *words) for name, words in PASSES.items()}
        ways["headway cold"] = [*HEADWAY, "fit", str(folder), *both, "--json"]
        runs = race(ways, asked.rounds)
    rates = passes(runs)
    slowness = {name: [1 / rate for rate in values] for name, values in rates.items()}
    pass_ratios = {f"{own} to {name}": times_as_fast(slowness[own], slowness[name]) for own in PASSES for name in PLAIN}
    wholes = {name: [run.seconds for run in runs[name]] for name in (*PLAIN, "headway cold")}
    whole_ratios = {name: times_as_fast(wholes["headway cold"], wholes[name]) for name in PLAIN}
    first = {name: statistics.median(run.said["first_batch_seconds"] for run in runs[name]) for name in PLAIN}
    for name in PLAIN:
        for own in PASSES:
            print(verdict(f"{own}'s pass", name, pass_ratios[f"{own} to {name}"]), end="; ")
        print(f"the peer's first batch, not counted: {first[name]:.1f} s")
        print(verdict("headway, cold, whole process", name, whole_ratios[name]))
    facts = {"backbone": asked.backbone, "first_batch_seconds": first}
    tell("best_plain_pytorch pass", rates, "images/s", **facts, ratios=pass_ratios)
    tell("best_plain_pytorch whole", wholes, "s", **facts, ratios=whole_ratios)


if __name__ == "__main__":
    main()
