"""`make demo`: learn to read handwritten digits, then read one that was held out.

The 1,797 digits come with scikit-learn (UCI's optical recognition of handwritten digits, CC BY 4.0): 8 x 8 pixels,
written here as PNG files of 64 x 64, a folder per digit. The last seven is held out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path("demo")
HEADWAY = (sys.executable, "-m", "headway")
HELD_OUT = FOLDER / "new" / "a-seven.png"


def write_digits(folder: Path, held_out: Path) -> None:
    """Write folder/<digit>/<number>.png and one more seven to `held_out`; nothing where they are there already."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    if held_out.exists():
        return
    values, digits = load_digits(return_X_y=True)
    last_seven = int(np.flatnonzero(digits == 7)[-1])
    targets = [folder / str(digit) / f"{number:04d}.png" for number, digit in enumerate(digits)]
    targets[last_seven] = held_out
    # The held-out one is written last: it tells that all the others are there.
    for number in sorted(range(len(digits)), key=lambda number: number == last_seven):
        pixels = np.round(values[number].reshape(8, 8) * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255
        targets[number].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(targets[number])


def main() -> int:
    write_digits(FOLDER / "digits", HELD_OUT)
    words = [*HEADWAY, "fit", str(FOLDER / "digits"), "--json"]  # the story comes on standard error
    fit = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if fit.returncode:
        return fit.returncode
    result = json.loads(fit.stdout)
    low, high = result["test"]["interval"]
    print(f"\naccuracy {result['test']['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {result['test']['n']} test images")
    print(f"report   {Path(result['run']) / 'report.html'}")
    print(f"\n$ headway predict {result['bundle']} {HELD_OUT} --top 3")
    sys.stdout.flush()
    return subprocess.run([*HEADWAY, "predict", result["bundle"], str(HELD_OUT), "--top", "3"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
