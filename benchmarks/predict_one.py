"""One image, whole process: `headway predict BUNDLE IMAGE` against a script with timm and torch that does the same.

python -m benchmarks.predict_one DATA [--bundle BUNDLE] [--image IMAGE] [--rounds 7]

Without a bundle one is made of DATA first, untimed; without an image it is the first one below DATA. The script reads
the same weights out of the same bundle. headway's time includes its checks: every digest, and golden images computed
anew. Goal: 8 times as fast.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.racing import HEADWAY, arguments, peer, race, seconds, timed, times_as_fast, verdict
from benchmarks.told import tell

GOAL = 8.0
IMAGES = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Make a bundle where there is none, run the rounds, print a table."""
    parser = arguments(__doc__ or "", rounds=7)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--image", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        bundle = asked.bundle or Path(place) / "run" / "bundle"
        if asked.bundle is None:
            fit = (*HEADWAY, "fit", str(asked.data.resolve()), "--run", str(bundle.parent), "--quiet")
            timed(fit, Path(place), Path(place) / "cache")
        image = asked.image or min(path for path in asked.data.rglob("*") if path.suffix.lower() in IMAGES)
        words = str(bundle.resolve()), str(image.resolve())
        ways = {"headway": [*HEADWAY, "predict", *words, "--json"], "timm and torch": peer("timm_predict", *words)}
        runs = race(ways, asked.rounds)
    own, base = runs["headway"], runs["timm and torch"]
    top = own[0].said["predictions"][0]["top"]
    print("headway:", [(item["label"], round(item["probability"], 4)) for item in top], "(calibrated)")
    print("timm and torch:", base[0].said["top"])
    rows = seconds(runs)
    ratio = times_as_fast(rows["headway"], rows["timm and torch"])
    print(verdict("headway", "timm and torch", ratio) + f"; goal {GOAL:g}")
    tell("predict_one", rows, "s", ratio=ratio, goal=GOAL)


if __name__ == "__main__":
    main()
