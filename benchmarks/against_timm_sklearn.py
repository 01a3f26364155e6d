"""Whole processes in turn: timm and scikit-learn's LogisticRegression, `headway fit` cold, `headway fit` again.

python -m benchmarks.against_timm_sklearn FOLDER [--rounds 3]

FOLDER has train, val and test. The same network, weights and preprocessing. headway also calibrates, tests its bundle
and writes a report; the script looks at seven strengths of L2 and prints two accuracies.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.racing import HEADWAY, arguments, peer, race, read_once, seconds, times_as_fast, verdict
from benchmarks.told import tell

PEER = "timm and scikit-learn"


def main() -> None:
    """Run the rounds and print a table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    read_once(folder)
    fit = [*HEADWAY, "fit", str(folder), "--json"]
    runs = race({PEER: peer("timm_sklearn", folder), "headway cold": fit, "headway again": fit}, asked.rounds)
    rows = seconds(runs)
    ratios = {name: times_as_fast(values, rows[PEER]) for name, values in rows.items() if name != PEER}
    for name, ratio in ratios.items():
        print(verdict(name, PEER, ratio))
    accuracy = {PEER: runs[PEER][0].said["test"], "headway": runs["headway cold"][0].said["test"]["accuracy"]}
    print("test accuracy: " + ", ".join(f"{name} {value:.4f}" for name, value in accuracy.items()))
    tell("against_timm_sklearn", rows, "s", ratios=ratios, test_accuracy=accuracy)


if __name__ == "__main__":
    main()
