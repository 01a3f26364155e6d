"""Time to a classifier on photos, whole processes in turn: fastai's quick start against `headway fit`, cold.

python -m benchmarks.against_fastai FOLDER [--rounds 3] [--peer-python PATH]

FOLDER has train, val and test. The same network and weights, the same test images. fastai is not part of headway's
development tools: pip install 'headway[bench]'. To leave the environment as it is, lay one over it:

    python -m venv peers
    python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \\
        "$(peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
    peers/bin/pip install fastai
    python -m benchmarks.against_fastai FOLDER --peer-python peers/bin/python
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.racing import HEADWAY, INSTALL, arguments, peer, race, read_once, seconds, times_as_fast, verdict
from benchmarks.told import tell

GOAL = 0.98  # test accuracy


def main() -> None:
    """Run the rounds and print a table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer-python", type=Path, default=Path(sys.executable), help="that has fastai; default: this")
    asked = parser.parse_args()
    python = str(asked.peer_python.absolute())  # not resolved: a link into another environment would lose this one
    if subprocess.run([python, "-c", "import fastai, timm"], stderr=subprocess.DEVNULL, check=False).returncode:
        print(f"against_fastai: skipped, {python} has no fastai. {INSTALL}, or see --help for --peer-python")
        return
    folder = asked.folder.resolve()
    read_once(folder)
    fit = [*HEADWAY, "fit", str(folder), "--json"]
    runs = race({"fastai": [python, *peer("fastai_fine_tune", folder)[1:]], "headway cold": fit}, asked.rounds)
    rows = seconds(runs)
    ratio = times_as_fast(rows["headway cold"], rows["fastai"])
    accuracy = {
        "fastai": statistics.median(run.said["test"] for run in runs["fastai"]),
        "headway cold": statistics.median(run.said["test"]["accuracy"] for run in runs["headway cold"]),
    }
    print(verdict("headway cold", "fastai", ratio))
    for name, value in accuracy.items():
        print(f"{name}: test accuracy {value:.4f}, {GOAL:g} {'reached' if value >= GOAL else 'missed'}")
    tell("against_fastai", rows, "s", ratio=ratio, test_accuracy=accuracy, goal=GOAL)


if __name__ == "__main__":
    main()
