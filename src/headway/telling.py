"""What fit tells while it works, in lines that a person reads: from values to text, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headway.data.dataset import SUBSETS, TEST, TRAIN, UNLABELLED, VAL, Contents, Dataset, Split
from headway.data.images import shown
from headway.deployment.confidence import told_least, told_most
from headway.evaluation.evaluation import UNEVEN, Evaluation

if TYPE_CHECKING:
    from headway.training.loop import Epoch, Trained

_MOST_CLASSES = 6  # named one by one; of more, only how many images the smallest and the largest have


_ORIGINS = {
    "packaged": "packaged weights",
    "hub": "weights from the hub",
    "file": "weights from a file",
    "none": "random weights",
}


def told_dataset(dataset: Dataset) -> str:
    """What was understood of the data, before any image is opened."""
    n = len(dataset)
    counts = np.bincount(dataset.labels[dataset.labels >= 0], minlength=len(dataset.classes))
    if len(counts) <= _MOST_CLASSES:
        each = " · ".join(f"{shown(name)} {count:,}" for name, count in zip(dataset.classes, counts, strict=True))
    else:
        each = f"{counts.min():,} to {counts.max():,} images each"
    given = [
        f"{SUBSETS[subset]} {count:,}"
        for subset in (TRAIN, VAL, TEST, UNLABELLED)
        if (count := int((dataset.given == subset).sum()))
    ]
    lines = [f"{shown(dataset.name)}  {n:,} images, {len(dataset.classes):,} classes ({each}), {dataset.kind}"]
    if given:
        lines[0] += " " + " · ".join(given)
    lines += dataset.notes
    if dataset.ignored:
        lines.append("ignored: " + ", ".join(f"{count:,} {kind}" for kind, count in dataset.ignored.items()))
    return "\n".join(lines)


def told_split(dataset: Dataset, contents: Contents, split: Split) -> list[str]:
    """How the images are used, and what of them should be looked at."""
    made = [name for name in SUBSETS[:3] if name not in split.brought]
    lines = []
    if made:
        sizes = " · ".join(
            f"{name} {int((split.subsets == number).sum()):,}" for number, name in enumerate(SUBSETS[:3])
        )
        lines.append(f"{sizes} ({', '.join(made)} cut here, stratified, by content: split.csv)")
    if contents.reasons:
        first = ", ".join(f"{shown(dataset.names[index])}: {why}" for index, why in list(contents.reasons.items())[:2])
        more = ", ..." if len(contents.reasons) > 2 else ""
        lines.append(f"set aside: {len(contents.reasons):,} ({first}{more})")
    if split.conflicts:
        names = ", ".join(shown(dataset.names[index]) for index in split.conflicts[0])
        lines.append(f"the same image under two labels: {len(split.conflicts):,} times (first: {names})")
    if split.straddling:
        names = ", ".join(shown(dataset.names[index]) for index in split.straddling[0])
        lines.append(f"the same image in two subsets: {len(split.straddling):,} times (first: {names})")
    return lines


def told_backbone(facts: Mapping[str, Any], seconds: float) -> str:
    """Which network looks at the images, through which engine, and how the engines compared."""
    engine, rates = facts["engine"], facts["engine"]["images_per_second"]
    others = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items() if name != engine["name"])
    speed = f", {rates[engine['name']]:.0f} images/s" if engine["name"] in rates else ""
    compared = f" ({others})" if others else ""
    backbone = facts["backbone"]
    told = told_network(backbone["name"], backbone["weights"]["origin"], facts["preprocess"]["size"])
    ready = f" · ready in {seconds:.1f} s" if seconds > 2 else ""
    return f"{told} · engine {engine['name']} {engine['precision']}{speed}{compared}{ready}"


def told_network(name: str, origin: str, size: int) -> str:
    """A network, where its weights come from, and the side of its input."""
    return f"{shown(name)} ({_ORIGINS[origin]}, {size} px)"


def told_features(computed: int, reused: int, seconds: float, rate: float | None, dims: Sequence[int]) -> str:
    """What the pass cost and what the cache saved."""
    speed = f", {rate:.0f} images/s" if rate is not None else ""
    kept = f"{sum(dims):,} numbers an image ({dims[0]:,} of the last layer)"
    return f"{computed:,} computed, {reused:,} from the cache in {seconds:.1f} s{speed} · {kept}"


def told_head(chosen: Mapping[str, Any], seconds: float) -> str:
    """Which head was taken, and from how many."""
    tried, on = len(chosen["candidates"]), "validation and folds" if chosen.get("folds") else "validation"
    parts = [str(chosen["head"]), f"taps {chosen['taps']}"]
    if chosen.get("l2") is not None:
        parts.append(f"L2 {chosen['l2']:g}" + (f" of {tried} tried on {on}" if tried > 1 else ""))
    return f"{', '.join(parts)}  {seconds:.1f} s"


def told_test(test: Evaluation) -> str:
    """The judgement with its interval and its baseline."""
    parts = [
        f"{test!s}".replace(", n=", " on "),
        *([f"balanced {_with(test.balanced_accuracy, test.balanced_accuracy_interval)}"] if test.uneven else []),
        f"guessing {test.guess_accuracy:.3f}",
        f"macro-F1 {_with(test.macro_f1, test.macro_f1_interval if test.uneven else None)}",
        f"calibrated (T {test.calibration.temperature:.2f})",
    ]
    return " · ".join(parts) + (f"\n{test.macro_note}" if test.uneven and test.macro_note else "")


def _with(share: float, interval: tuple[float, float] | None) -> str:
    return f"{share:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def told_uneven(dataset: Dataset, split: Split, balance: str) -> str:
    """What --balance would be for, where the training images of classes differ much and nothing was asked; else ""."""
    counts = np.bincount(dataset.labels[split.train], minlength=len(dataset.classes))
    if balance != "none" or counts.max() <= UNEVEN * counts.min():
        return ""
    few, many = int(counts.argmin()), int(counts.argmax())
    return (
        f"classes differ: {counts[few]:,} training images of {shown(dataset.classes[few])}, {counts[many]:,} of "
        f"{shown(dataset.classes[many])}. --balance logit makes the best of balanced accuracy instead of accuracy"
    )


def told_trust(found: Mapping[str, Any]) -> str:
    """What the promises came to on test images, at the strictest level that was tried; where n is small, its limits."""
    parts = []
    if found["sets"]:
        best = found["sets"][-1]
        held = (
            f"sets of {best['coverage']:.0%} held the label in {best['reached']:.1%}, {best['size']:.2f} classes each"
        )
        parts.append(held.replace("%", " %"))
    if found["unknown"]:
        best = found["unknown"][0]
        parts.append(f"{best['flagged']:.1%} called unknown at {best['rate']:.0%}".replace("%", " %"))
    if len(found["sets"]) < 2 or len(found["unknown"]) < 2:
        limits = f"coverage up to {told_most(found['most'])}, false alarms from {told_least(found['least'])} on"
        parts.append(f"{found['n']:,} validation images promise {limits}")
    return " · ".join(parts)


def told_training(trained: int, parameters: int, fed: str, batch: int, epochs: int) -> str:
    """What is about to be trained, and on what."""
    share = "all" if trained == parameters else f"{trained:,}"
    of = "" if trained == parameters else " of"
    return f"{share}{of} {parameters:,} parameters, on {fed}, {batch} at a time, at most {epochs} epochs"


def told_epoch(epoch: Epoch) -> str:
    """One epoch: what the loop met while training, and what validation says."""
    met = f"loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.4f} · " if epoch.epoch else "before training · "
    best = " · best so far" if epoch.best else ""
    return f"{met}val loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.4f}{best}  {epoch.seconds:.0f} s"


def told_trained(trained: Trained) -> str:
    """Which epoch is kept, and why training ended."""
    return trained.why
