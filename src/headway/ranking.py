"""`headway rank`: several backbones look at the same few images, and a probe on each is cross-validated."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.advice.ranking import FOLDS, Probed, cross_validate, folds_of
from headway.advice.subsets import nested_order
from headway.backbones.weights import WeightsChoice, choose_weights
from headway.data.dataset import TEST, TRAIN, VAL, Contents, Dataset
from headway.data.split import make_split
from headway.errors import Refused
from headway.evaluation.bootstrap import holm, told_p
from headway.evaluation.compare import ALPHA, paired_test
from headway.evaluation.intervals import wilson
from headway.events import Event, Line
from headway.features.extract import extract
from headway.features.looking import Asked, get_ready
from headway.features.reading import content_digest

VAL_SHARE, TEST_SHARE = 0.1, 0.15  # what `fit` cuts where nothing is said
_SURE = 3.0  # standard deviations by which an image must lie clear of those that `fit` would keep for the test
_FEWEST_TIMED = 64  # images of a pass that tell its rate


@dataclass(frozen=True)
class Rival:
    """A backbone that takes part, and what its weights are: None = its own, else none, a file, local-dir:FOLDER."""

    name: str
    weights: str | None = None

    def __str__(self) -> str:
        return self.name if self.weights is None else f"{self.name}={self.weights}"


@dataclass(frozen=True)
class Request:
    """What `rank` was told. images = at most so many are looked at."""

    rivals: tuple[Rival, ...]
    images: int
    seed: int = 0
    threads: int | None = None
    offline: bool = False


@dataclass(frozen=True)
class Standing:
    """One backbone's row. `rate` images/s here, decoding included where it was measured in the pass (`timed`)."""

    rival: Rival
    probed: Probed
    rate: float
    timed: bool
    facts: Mapping[str, Any]


def read_rivals(words: str) -> tuple[Rival, ...]:
    """a,b=none,c=FILE → rivals. Raises Refused where a name is missing or said twice."""
    found = []
    for word in words.split(","):
        name, equals, weights = word.strip().partition("=")
        if not name or (equals and not weights):
            raise Refused(f"--backbones {words}: expected names with commas between them, as a,b or a,b=none,c=FILE")
        found.append(Rival(name, weights or None))
    twice = sorted({str(rival) for rival in found if found.count(rival) > 1})
    if twice:
        raise Refused(f"--backbones {words}: {', '.join(twice)} is named twice. Name each once.")
    return tuple(found)


def absent(request: Request) -> dict[Rival, str]:
    """Rivals that cannot take part, and why. Raises Refused where none can."""
    problems: dict[Rival, str] = {}
    for rival in request.rivals:
        try:
            _weights(rival, request)
        except Refused as refusal:
            problems[rival] = str(refusal)
    if len(problems) == len(request.rivals):
        told = "\n".join(f"  {rival}: {_first_line(why)}" for rival, why in problems.items())
        raise Refused(f"none of the backbones can be used here:\n{told}\n  See: headway backbones")
    return problems


def _weights(rival: Rival, request: Request) -> WeightsChoice:
    return choose_weights(rival.name, rival.weights, seed=request.seed, offline=request.offline)


def draw(dataset: Dataset, request: Request) -> NDArray[np.intp]:
    """Labelled images to look at, in nested order: none that the data brings for the test.

    Of more images than are wanted, none either that `fit` with this seed would cut for the test: that goes by
    sha256(seed, content), the lowest of each class, so an image far enough above is known not to be one.
    """
    rng = np.random.default_rng([request.seed, 7])
    open_to_all = np.flatnonzero((dataset.labels >= 0) & (dataset.given != TEST))
    order = open_to_all[nested_order(dataset.labels[open_to_all], rng)]
    if len(order) <= request.images:
        return order
    if (dataset.given == TEST).any():
        return order[: request.images]
    counts = np.bincount(dataset.labels[order], minlength=len(dataset.classes))
    limits = TEST_SHARE + _SURE * np.sqrt(TEST_SHARE * (1 - TEST_SHARE) / np.maximum(counts, 1))
    kept: list[int] = []
    for index in order.tolist():
        if len(kept) == request.images:
            break
        if _height(dataset, index, request.seed) > limits[dataset.labels[index]]:
            kept.append(index)
    return np.array(kept, np.intp)


def _height(dataset: Dataset, index: int, seed: int) -> float:
    """Where an image stands in the order of `data.split`, 0 to 1; 0 where it cannot be read."""
    from headway.data.images import BadImage

    try:
        digest = content_digest(dataset.source.read(index))
    except (BadImage, OSError):
        return 0.0
    salt = seed.to_bytes(8, "big", signed=True)
    return int.from_bytes(hashlib.sha256(salt + digest).digest()[:8], "big") / 2**64


def stand(
    dataset: Dataset, rival: Rival, drawn: NDArray[np.intp], request: Request, cache: Path
) -> Generator[Event, None, tuple[Standing, int]]:
    """One backbone looks at the images `drawn`; returns its row, and how many it was judged on."""
    asked = Asked(
        rival.name, rival.weights, seed=request.seed, threads=request.threads, offline=request.offline, taps="last"
    )
    with get_ready(dataset, drawn, asked, cache) as ready:
        features, contents = yield from extract(ready.readings, drawn, len(dataset), ready.store, ready.engine)
        timed = features.computed >= _FEWEST_TIMED
        rate = features.images_per_second if timed else ready.choice.rates.get(ready.choice.name)
        facts = ready.trunk.facts
    import torch

    torch.set_num_threads(ready.session.threads)  # last bits depend on them
    used = _used(dataset, contents, drawn, request)
    units = _units(dataset, contents, used)
    probed = cross_validate(
        features.columns(("last",), used), dataset.labels[used], folds_of(dataset.labels[used], units, request.seed)
    )
    yield Line("rank", f"{rival}  {_told_share(probed)}, LogME {probed.log_me:.3f}")
    return Standing(rival, probed, float(rate or 0.0), timed, facts), len(used)


def _used(dataset: Dataset, contents: Contents, drawn: NDArray[np.intp], request: Request) -> NDArray[np.intp]:
    """Of the images that were looked at those that may be judged on: readable, and not of the test."""
    seen = np.sort(drawn[contents.accepted[drawn]])
    if (dataset.given == TEST).any() or len(drawn) < int((dataset.labels >= 0).sum()):
        return seen
    split = make_split(dataset, contents, seed=request.seed, val=VAL_SHARE, test=TEST_SHARE)
    return seen[np.isin(split.subsets[seen], (TRAIN, VAL))]


def _units(dataset: Dataset, contents: Contents, used: NDArray[np.intp]) -> NDArray[np.int64]:
    """(n,) equal for what must stay together: copies by their pixels, else groups."""
    units = np.unique(contents.pixels[used], axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if dataset.groups is not None:
        groups = dataset.groups[used]
        units = np.where(groups >= 0, groups + len(dataset) + 1, units)
    return units


def told(dataset: Dataset, standings: Sequence[Standing], absent: Mapping[Rival, str], used: int) -> dict[str, Any]:
    """The table as plain values: the best first, each compared with the first on the same images."""
    ranked = sorted(standings, key=lambda own: (-float(own.probed.right.mean()), own.probed.loss))
    tests = [paired_test(ranked[0].probed.right, own.probed.right) for own in ranked[1:]]
    corrected = holm([test.p_value for test in tests])
    rows = [_row(own, len(dataset), used) for own in ranked]
    for row, test, p in zip(rows[1:], tests, corrected, strict=True):
        row["against_first"] = {**test.to_json(), "p_holm": p, "worse": test.better == "a" and p < ALPHA}
    return {
        "data": dataset.name,
        "images": used,
        "of": len(dataset),
        "folds": FOLDS,
        "backbones": rows,
        "absent": [{"name": str(rival), "why": why} for rival, why in absent.items()],
        "sentences": _sentences(rows),
    }


def _row(own: Standing, n: int, used: int) -> dict[str, Any]:
    accuracy = float(own.probed.right.mean())
    return {
        "name": str(own.rival),
        "val_accuracy": accuracy,
        "interval": list(wilson(accuracy, used)),
        "val_log_loss": own.probed.loss,
        "l2": own.probed.l2,
        "log_me": own.probed.log_me,
        "images_per_second": round(own.rate, 1),
        "rate_of": "this pass" if own.timed else "the engine alone",
        "parameters": own.facts["parameters"],
        "licence": own.facts["licence"],
        "seconds_for_all": round(n / own.rate, 1) if own.rate else None,
        "against_first": None,
    }


def _sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who is shown to be worse than the first, for whom no difference is shown, and the fastest of those."""
    first, lines, equal = rows[0], [], []
    for row in rows[1:]:
        test = row["against_first"]
        (low, high), p = test["interval"], test["p_holm"]
        numbers = (
            f"{test['a']:.3f} against {test['b']:.3f}, difference {test['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        )
        corrected = " by Holm's correction" if len(rows) > 2 else ""
        if test["worse"]:
            start = f"{first['name']} is better than {row['name']}"
        else:
            start = f"no difference shown between {first['name']} and {row['name']}"
            equal.append(row)
        lines.append(f"{start}: {numbers}, {told_p(p)}{corrected}")
    quickest = max(equal, key=lambda row: float(row["images_per_second"]), default=first)
    if quickest["images_per_second"] > first["images_per_second"]:
        rates = f"{quickest['images_per_second']:.0f} images/s against {first['images_per_second']:.0f}"
        lines.append(f"{quickest['name']} is the fastest that is not shown to be worse: {rates}")
    return lines


def _told_share(probed: Probed) -> str:
    accuracy = float(probed.right.mean())
    low, high = wilson(accuracy, len(probed.right))
    return f"accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] on {len(probed.right):,}"


def _first_line(text: str) -> str:
    return text.splitlines()[0].rstrip(".:")
