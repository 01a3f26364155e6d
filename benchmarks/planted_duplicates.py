"""Planted copies: how many are found, and how many untouched images stand in a group.

python -m benchmarks.planted_duplicates DATA [--images 2000] [--copies 0.05] [--seed 1] [--sheet pairs.png]

Of each kind (the same file, JPEG of quality 50, half the size, a tenth of both sides cut off, mirrored) a share of the
images gets one copy, in another subset. A copy counts as found where it stands in one group with its original. Which
parts are cut off and which images are copied is drawn by --seed. Untouched are the images that were not copied; where
two of them stand in a group the data itself may hold the same picture twice: --sheet draws such pairs, to be looked at.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import Preprocess
from headway.data.dataset import TEST, TRAIN, Dataset
from headway.data.images import BadImage, decode
from headway.data.sources import load_dataset
from headway.events import drain
from headway.features.describing import find_descriptors
from headway.features.looking import read_blind
from headway.quality.duplicates import Duplicates, find_duplicates

_PREPROCESS = Preprocess(224, 256, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3)
_CUT = 0.9  # of both sides is left
_TILE, _COLUMNS, _MOST = 96, 10, 100  # of the sheet: pixels, pairs in a row, pairs

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return Image.open(stream).convert("RGB")


def half(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = round(_CUT * image.width), round(_CUT * image.height)
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


KINDS: dict[str, Change | None] = {"exact": None, "jpeg50": jpeg, "half": half, "crop": crop, "flip": flip}


class Planted:
    """The files of a dataset, some of them twice or changed."""

    def __init__(self, data: Dataset, kept: Sequence[int], changed: Sequence[bytes | NDArray[np.uint8]]) -> None:
        self.data, self.kept, self.changed = data, kept, changed

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        return (
            self.data.source.read(self.kept[index]) if index < len(self.kept) else self.changed[index - len(self.kept)]
        )


def plant(data: Dataset, n: int, share: float, seed: int) -> tuple[Dataset, dict[str, NDArray[np.intp]]]:
    """`n` images of the dataset and copies behind them, and of each kind the positions that were copied, in order."""
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.choice(len(data), min(n, len(data)), replace=False)).tolist()
    order, each = rng.permutation(len(kept)), max(1, int(share * len(kept)))
    copied = {kind: order[number * each : (number + 1) * each] for number, kind in enumerate(KINDS)}
    changed: list[bytes | NDArray[np.uint8]] = []
    for kind, change in KINDS.items():
        for position in copied[kind]:
            content = data.source.read(kept[position])
            if change is not None:
                stream = io.BytesIO()
                change(decode(content, kind).image, rng).save(stream, "PNG")
                content = stream.getvalue()
            changed.append(content)
    total = len(kept) + len(changed)
    planted = replace(
        data,
        names=[data.names[index] for index in kept] + [f"copy {number}" for number in range(len(changed))],
        labels=np.zeros(total, np.int32),
        given=np.repeat(np.array([TRAIN, TEST], np.int8), [len(kept), len(changed)]),
        groups=None,
        source=Planted(data, kept, changed),
    )
    return planted, copied


def look(data: Dataset) -> tuple[Duplicates, dict[str, float]]:
    """The duplicates of a dataset as `headway audit` finds them, and seconds of reading and of finding."""
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        every = np.arange(len(data), dtype=np.intp)
        features, contents = drain(read_blind(data, every, _PREPROCESS, Path(place), 2))
        described, descriptors = drain(find_descriptors(data, features, _PREPROCESS, Path(place), 2))
        read, cpu = time.perf_counter(), time.process_time()
        found = find_duplicates(contents, descriptors, described, threads=2)
    seconds = {
        "read": read - start,
        "find": time.perf_counter() - read,
        "find, of the processor": time.process_time() - cpu,
    }
    return found, {name: round(value, 2) for name, value in seconds.items()}


def shares(found: Duplicates, copied: dict[str, NDArray[np.intp]], n: int) -> dict[str, float]:
    """Kind → share of its copies that stand with their original; `untouched`: share of those images in a group."""
    group_of: dict[int, set[tuple[int, ...]]] = {}
    for group in (*found.exact, *(found.near or ())):
        for member in group:
            group_of.setdefault(member, set()).add(group)
    result, at = {}, n
    for kind, originals in copied.items():
        copies = range(at, at + len(originals))
        hits = [
            bool(group_of.get(int(a), set()) & group_of.get(b, set())) for a, b in zip(originals, copies, strict=True)
        ]
        result[kind], at = float(np.mean(hits)), at + len(originals)
    touched = set(np.concatenate(list(copied.values())).tolist())
    untouched = [index for index in range(n) if index not in touched]
    result["untouched"] = float(np.mean([index in group_of for index in untouched]))
    return result


def untouched_pairs(found: Duplicates, copied: dict[str, NDArray[np.intp]], n: int) -> list[tuple[int, int]]:
    """Two untouched images of each group of different ones that has two."""
    touched = set(np.concatenate(list(copied.values())).tolist())
    plain = [[index for index in group if index < n and index not in touched] for group in found.near or ()]
    return [(group[0], group[-1]) for group in plain if len(group) > 1]


def draw(data: Dataset, pairs: Sequence[tuple[int, int]], path: Path) -> None:
    """A contact sheet of pairs, numbered by row and column from their upper left corner."""
    rows = -(-len(pairs) // _COLUMNS) or 1
    sheet = Image.new("RGB", (_COLUMNS * (2 * _TILE + 12), rows * (_TILE + 8)), "white")
    for number, pair in enumerate(pairs):
        left, top = number % _COLUMNS * (2 * _TILE + 12), number // _COLUMNS * (_TILE + 8)
        for place, index in enumerate(pair):
            image = decode(data.source.read(index), data.names[index]).image
            sheet.paste(image.resize((_TILE, _TILE), Image.Resampling.BICUBIC), (left + place * (_TILE + 1), top))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--copies", type=float, default=0.05, help="share of the images that is copied, of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path)
    asked = parser.parse_args()
    try:
        data, copied = plant(load_dataset(asked.data), asked.images, asked.copies, asked.seed)
    except BadImage as error:
        parser.exit(1, f"{error}: a damaged image was drawn; try another --seed\n")
    n = len(data) - sum(map(len, copied.values()))
    found, seconds = look(data)
    told = shares(found, copied, n)
    for kind, share in told.items():
        print(f"{kind:<10} {share:.4f}  of {len(copied[kind]) if kind in copied else n - 5 * len(copied['exact']):,}")
    pairs = untouched_pairs(found, copied, n)
    print(f"groups of two and more untouched images: {len(pairs)}")
    if asked.sheet is not None and pairs:
        order = np.random.default_rng(asked.seed).permutation(len(pairs))[:_MOST]
        draw(data, [pairs[index] for index in order], asked.sheet)
        print(f"{len(order)} of them, drawn by chance: {asked.sheet}")
    facts = {"images": n, "copies": len(copied["exact"]), "seed": asked.seed, "seconds": seconds, "pairs": len(pairs)}
    print(json.dumps({"benchmark": "planted_duplicates", "data": asked.data, "shares": told, **facts}))


if __name__ == "__main__":
    main()
