"""Data sets of every kind for tests, and what must be the same of two of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from headway.data.dataset import TRAIN, UNASSIGNED, UNLABELLED, Dataset
from headway.data.sources import load_dataset
from headway.events import Note, drain
from headway.exchange.conversion import Target, convert
from headway.files import digest_bytes
from tests import make

ENCODED = (
    lambda kind, seed: make.jpeg(kind, seed, (24, 20)),
    lambda kind, seed: make.png(kind, seed, (20, 24)),
    lambda kind, seed: make.encode(make.image(kind, seed, (22, 18)), "WEBP"),
)
ENDINGS = (".JPG", ".png", ".webp")  # an ending in capitals is the same content


def listed(
    root: Path, classes: tuple[str, ...], subsets: tuple[str, ...] = ("",), *, groups: bool = False, loose: int = 0
) -> Dataset:
    """A list of two images of each class in each subset, and `loose` images without a label."""
    root.mkdir(parents=True, exist_ok=True)
    lines, seed = [], 0
    for subset in subsets:
        for kind, label in enumerate(classes):
            for _ in range(2):
                name = f"here/{seed}{ENDINGS[seed % 3]}"
                make.write(root / name, ENCODED[seed % 3](kind, seed))
                lines.append([name, label, subset, f"patient {seed // 2}" if groups else ""])
                seed += 1
    for number in range(loose):
        make.write(root / f"here/loose{number}.png", make.png(0, 1000 + number, (20, 24)))
        lines.append([f"here/loose{number}.png", "", "", ""])
    from headway.files import write_csv

    write_csv(root / "list.csv", ["path", "label", "split", "group", "audited_sha256"], [[*line, ""] for line in lines])
    return load_dataset(root / "list.csv")


def told(dataset: Dataset, *, whole: bool = False) -> Counter[tuple[str, str | None, int]]:
    """How often each content stands in the data set under which class and in which subset.

    whole  an image without a subset counts as one of train: what is missing is cut from there either way
    """
    seen: Counter[tuple[str, str | None, int]] = Counter()
    for place in range(len(dataset)):
        content = dataset.source.read(place)
        assert isinstance(content, bytes)
        label, given = int(dataset.labels[place]), int(dataset.given[place])
        subset = UNLABELLED if label < 0 else TRAIN if whole and given == UNASSIGNED else given
        seen[digest_bytes(content), dataset.classes[label] if label >= 0 else None, subset] += 1
    return seen


def together(dataset: Dataset) -> set[frozenset[str]]:
    """Which contents are of one group."""
    found: dict[int, set[str]] = {}
    assert dataset.groups is not None
    for place, group in enumerate(dataset.groups.tolist()):
        found.setdefault(group if group >= 0 else -2 - place, set()).add(digest_bytes(dataset.source.read(place)))  # type: ignore[arg-type]
    return {frozenset(group) for group in found.values()}


def written(dataset: Dataset, kind: str, out: Path) -> Dataset:
    """`dataset`, written as `kind` and read again."""
    drain(convert(dataset, Target(kind, out)))
    return load_dataset(out)


def notes(dataset: Dataset, kind: str, out: Path) -> list[str]:
    """What is said while `dataset` is written as `kind`."""
    return [event.text for event in convert(dataset, Target(kind, out)) if isinstance(event, Note)]
