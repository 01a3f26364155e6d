"""Whole processes in turn: the plain loop, `headway fit` cold, `headway fit` again. Medians and ratios over the rounds.

python -m benchmarks.against_plain_loop FOLDER [--rounds 3]

FOLDER has train, val and test. The loop is what a careful user writes by hand: a frozen network, torchvision's
transforms, two loader workers, one epoch. Weights and preprocessing are the same.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.racing import HEADWAY, arguments, peer, race, read_once, seconds, times_as_fast, verdict
from benchmarks.told import tell


def main() -> None:
    """Run the rounds and print a table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    read_once(folder)
    fit = [*HEADWAY, "fit", str(folder), "--json"]
    runs = race({"plain loop": peer("plain_loop", folder), "headway cold": fit, "headway again": fit}, asked.rounds)
    rows = seconds(runs)
    ratios = {name: times_as_fast(values, rows["plain loop"]) for name, values in rows.items() if name != "plain loop"}
    for name, ratio in ratios.items():
        print(verdict(name, "the plain loop", ratio))
    tell("against_plain_loop", rows, "s", ratios=ratios)


if __name__ == "__main__":
    main()
