"""The steps of `headway audit`, and the part of it that `fit` does beside its training: from values to values."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data.dataset import TEST, Contents, Dataset, Split
from headway.data.split import check_damage, make_split, read_split, units_of
from headway.data.wording import shown
from headway.errors import Refused
from headway.events import Event, Line
from headway.features.derived import place_of
from headway.features.describing import find_descriptors
from headway.features.extract import Features, extract
from headway.features.looking import get_ready
from headway.machine import memory_bytes
from headway.quality.audit import audit
from headway.quality.cues import read_cues
from headway.quality.duplicates import Duplicates, find_duplicates
from headway.quality.findings import Findings, suspects, told_few
from headway.quality.folds import FOLDS, deal
from headway.quality.leaks import accuracy_without, leaked_images
from headway.quality.oddities import find_oddities, imbalance
from headway.quality.outliers import find_outliers
from headway.quality.shortcuts import find_shortcuts
from headway.reporting.findings import pictured, told
from headway.results import Judged, write_thumbnails
from headway.runs import Run, stem
from headway.settings import FitSettings
from headway.steps import Sight, asked, chosen_by_content
from headway.telling import told_backbone, told_features
from headway.world import threads_of

if TYPE_CHECKING:
    from headway.quality import labels  # brings torch

_MOST_NUMBERS = 1 << 28  # probabilities of all judged images, 1 GB
_SHARE = 4  # of the memory that features may take to be held at once


@dataclass(frozen=True)
class Depth:
    """How thoroughly the data is looked at.

    folds   heads for the labels
    judged  most images whose labels and distances are judged;  files  whose headers are read; None = all
    near    most images among which near duplicates are looked for; None = all: it takes time with their square
    pictures  whether files are decoded for borders, too
    """

    folds: int = FOLDS
    judged: int | None = None
    files: int | None = None
    pictures: bool = True
    near: int | None = None


# In `fit`: what costs a few per cent of a run. The same for the same data, so that a run comes to the same bits.
BESIDE = Depth(folds=3, judged=10_000, files=2_000, pictures=False, near=20_000)
_LEFT = "borders and pictures of nearly one colour were not looked for: headway audit does"
_MORE = ": headway audit looks at all"
_NOT_NEAR = "near duplicates were not looked for"
_ALL = Depth()


# The steps of the command ---------------------------------------------------------------------------------------


def check(settings: FitSettings) -> None:
    """Raise Refused where no network would look, or the folder asked for holds something already."""
    if settings.strategy != "probe":
        raise Refused(f"--backbone {settings.backbone} has no weights to look through: an audit needs a pretrained one")
    named = settings.run
    if named is not None and (named.exists() or named.is_symlink()) and not _empty(named):
        raise Refused(f"{shown(str(named))} is not empty: an audit makes a folder of its own. Choose another --run")


def look(dataset: Dataset, settings: FitSettings, cache: Path) -> Generator[Event, None, Sight]:
    """Run the network once over every image, or take what is in the cache. Raises as features.looking.get_ready."""
    every = np.arange(len(dataset), dtype=np.intp)
    with get_ready(dataset, every, asked(settings), cache) as ready:
        yield Line("backbone", told_backbone(ready.facts(), ready.seconds))
        features, contents = yield from extract(ready.readings, every, len(dataset), ready.store, ready.engine)
    dims = [tap.dim for tap in features.taps]
    line = told_features(features.computed, features.reused, features.seconds, features.images_per_second, dims)
    yield Line("features", line)
    return Sight(ready, features, contents)


def divide(dataset: Dataset, contents: Contents, settings: FitSettings) -> tuple[Split | None, str]:
    """The split as `fit` would make it, or why it would refuse to. Raises Refused where nothing can be read."""
    check_damage(dataset, contents, allow_bad=True)
    keep = read_split(settings.split) if settings.split is not None else None
    try:
        split = make_split(dataset, contents, seed=settings.seed, val=settings.val, test=settings.test, keep=keep)
    except Refused as why:
        return None, str(why)
    return split, ""


def look_for_duplicates(
    dataset: Dataset, contents: Contents, sight: Sight | None, depth: Depth = _ALL
) -> Generator[Event, None, Duplicates]:
    """Find the images that stand several times, by their pixels and by what the pass kept of them."""
    n = int(contents.accepted.sum())
    if sight is None:
        return find_duplicates(contents, why=f"{_NOT_NEAR}, as no pretrained network looked: headway audit does")
    if depth.near is not None and n > depth.near:
        return find_duplicates(contents, why=f"{_NOT_NEAR} among {n:,} images: headway audit does")
    session, preprocess = sight.ready.session, sight.ready.preprocess
    described, descriptors = yield from find_descriptors(
        dataset, sight.features, preprocess, session.cache, session.threads
    )
    return find_duplicates(contents, descriptors, described, threads=session.threads)


# What is looked for ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """The data as it is looked at. sight: None where no pretrained network looked at it."""

    dataset: Dataset
    contents: Contents
    split: Split | None
    sight: Sight | None
    threads: int
    duplicates: Duplicates | None = None


def find(subject: Subject, depth: Depth = _ALL) -> Generator[Event, None, Findings]:
    """Ask every question. Labels are judged in all subsets: no head that judges one is kept."""
    dataset, contents = subject.dataset, subject.contents
    labelled = contents.accepted & (dataset.labels >= 0)
    indices = np.flatnonzero(labelled)
    units = units_of(dataset, contents, labelled)
    for group in (subject.duplicates.near if subject.duplicates is not None else None) or ():
        units[np.isin(units, units[list(group)])] = units[group[0]]
    found = Findings(
        duplicates=subject.duplicates,
        imbalance=imbalance(np.bincount(dataset.labels[indices], minlength=len(dataset.classes)), dataset.classes),
    )
    if subject.sight is None:
        found = replace(
            found,
            left=("labels and outliers, as no pretrained network looked, were not looked for: headway audit does",),
        )
    elif len(np.unique(dataset.labels[indices])) > 1:
        found = yield from _through_features(subject, subject.sight, found, (indices, units[indices]), depth)
    return (yield from _through_files(subject, found, units, depth))


def _through_features(
    subject: Subject, sight: Sight, found: Findings, judged: tuple[NDArray[np.intp], NDArray[np.int64]], depth: Depth
) -> Generator[Event, None, Findings]:
    """Likely label errors and outliers, of the samples and their units in `judged`."""
    import torch

    from headway.quality import labels as judging

    torch.set_num_threads(subject.threads)  # last bits depend on them
    (indices, units), dataset = judged, subject.dataset
    left = found.left
    most = min(depth.judged or len(dataset), _MOST_NUMBERS // len(dataset.classes))
    if len(indices) > most:
        inside = np.isin(indices, chosen_by_content(subject.contents, indices, most))
        more = _MORE if depth.judged else ""
        left = (*left, f"labels and outliers were looked for in {most:,} of {len(indices):,} images{more}")
        indices, units = indices[inside], units[inside]
    ranks, own = content_ranks(subject.contents, indices), dataset.labels[indices]
    read = held_features(sight.features, indices)
    dim = next(tap.dim for tap in sight.features.taps if tap.name == "last")
    with tempfile.TemporaryDirectory(prefix="headway-") as scratch:
        material = judging.Material(
            read,
            indices,
            own,
            deal(own, units, ranks, depth.folds),
            len(dataset.classes),
            dim,
            memory_bytes(),
            Path(scratch),
        )
        judgement = yield from _judged(material, sight.ready.session.cache, subject.threads, keep=bool(depth.judged))
    counts = np.bincount(own, minlength=len(dataset.classes))
    few = {
        dataset.classes[label]: int(counts[label]) for label in np.flatnonzero((counts > 0) & (counts < judging.FEWEST))
    }
    errors = judging.find_label_errors(judgement)
    errors = replace(errors, left_out=(told_few(few, judging.FEWEST),) if few else ())
    outliers = find_outliers(read, indices, own, judgement.predicted, ranks)
    return replace(found, labels=errors, outliers=outliers, left=left)


def _judged(
    material: labels.Material, cache: Path, threads: int, *, keep: bool
) -> Generator[Event, None, labels.Judged]:
    """What out-of-fold heads say; where it is to be kept, as it was said of the same images and labels before."""
    from headway.quality import labels as judging

    if not keep:
        return (yield from judging.out_of_fold(material))
    features = material.read(material.indices)
    whole = (features, material.labels, material.fold, material.n_classes)
    place = place_of(cache, "labels", judging.RULES, threads, *whole)
    if (found := place.read()) is not None:
        l2, folds = float(found["l2"]), int(found["folds"])
        return judging.Judged(material.indices, material.labels, found["probabilities"], l2, folds)
    judged = yield from judging.out_of_fold(material)
    place.write({"probabilities": judged.probabilities, "l2": np.array(judged.l2), "folds": np.array(judged.folds)})
    return judged


def _through_files(
    subject: Subject, found: Findings, units: NDArray[np.int64], depth: Depth
) -> Generator[Event, None, Findings]:
    """Shortcuts and oddities."""
    dataset, contents = subject.dataset, subject.contents
    accepted, left = np.flatnonzero(contents.accepted), found.left
    indices = accepted
    if depth.files is not None and len(accepted) > depth.files:
        indices = chosen_by_content(contents, accepted, depth.files)
        left = (*left, f"shortcuts were looked for in {depth.files:,} of {len(accepted):,} images{_MORE}")
    if not depth.pictures:
        left = (*left, _LEFT)
    cues = yield from read_cues(dataset, indices, threads=subject.threads, look=depth.pictures)
    known = dataset.labels[cues.indices] >= 0
    labelled, rows = cues.indices[known], np.flatnonzero(known)
    asked_of = replace(cues, indices=labelled, of=tuple(cues.of[row] for row in rows))
    own = dataset.labels[labelled]
    fold = deal(own, units[labelled], content_ranks(contents, labelled))
    shortcuts = find_shortcuts(asked_of, own, contents.sizes[labelled], fold) if len(labelled) else None
    spreads = np.array([cue.spread for cue in cues.of]) if cues.looked else None
    oddities = find_oddities(contents.sizes, accepted, spreads, cues.indices)
    return replace(found, shortcuts=shortcuts, oddities=oddities, looked=cues.looked, left=left)


def content_ranks(contents: Contents, indices: NDArray[np.intp]) -> NDArray[np.intp]:
    """(n,) the place of each sample in the order of contents, which no name and no folder decides."""
    digests = np.ascontiguousarray(contents.digests[indices]).view("S32").reshape(-1)
    ranks = np.empty(len(indices), np.intp)
    ranks[np.argsort(digests, kind="stable")] = np.arange(len(indices))
    return ranks


def held_features(features: Features, indices: NDArray[np.intp]) -> Any:
    """A function from samples (n,) to features of the last layer (n, D): from memory where they fit, else the store."""
    memory = memory_bytes()
    dim = next(tap.dim for tap in features.taps if tap.name == "last")
    if memory is not None and len(indices) * dim * 4 * _SHARE > memory:
        return partial(features.columns, ("last",))
    held = features.columns(("last",), indices)

    def read(wanted: NDArray[np.intp]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = held[np.searchsorted(indices, wanted)]
        return found

    return read


# What is written ------------------------------------------------------------------------------------------------


def facts(subject: Subject, findings: Findings) -> dict[str, Any]:
    """The content of audit.json."""
    found = audit(subject.dataset, subject.contents, subject.split)
    return {**found, **findings.to_json(subject.dataset, subject.split)}


def tell(found: dict[str, Any]) -> Iterator[Event]:
    """A line for each kind of finding."""
    for label, text in told(found):
        yield Line(label, text)


def record(
    subject: Subject, found: dict[str, Any], settings: FitSettings, seconds: dict[str, float]
) -> tuple[Path, dict[str, Any]]:
    """Write audit.json, thumbnails.parquet and audit.html into a new folder; the folder, and what audit.json holds."""
    from headway.reporting.audit_page import write_audit

    assert subject.sight is not None
    whole = {
        "title": subject.dataset.name,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": settings.command().replace("headway fit", "headway audit", 1),
        "backbone": subject.sight.ready.trunk.facts["name"],
        "classes": list(subject.dataset.classes),
        "seconds": seconds,
        **found,
    }
    folder = _claim(settings)
    files.write_json(folder / "audit.json", whole)
    write_thumbnails(folder / "thumbnails.parquet", subject.dataset, pictured(whole))
    write_audit(folder)
    return folder, whole


def _claim(settings: FitSettings) -> Path:
    """The folder asked for, else the first free runs/<data>-audit-<n>; made here, so that no two audits share one."""
    if settings.run is not None:
        check(settings)
        settings.run.mkdir(parents=True, exist_ok=True)
        return settings.run
    for number in itertools.count(1):
        folder = Path("runs") / f"{stem(settings.data)}-audit-{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("the candidates never end")


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def write_clean(path: Path, subject: Subject, findings: Findings) -> str:
    """Write the list without suspects to `path`; what was left out of it, in words."""
    from headway.data.listing import write_list

    out = suspects(findings, subject.contents, subject.split)
    keep = np.ones(len(subject.dataset), bool)
    keep[list(out)] = False
    write_list(path, subject.dataset, subject.contents, keep)
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in Counter(out.values()).items())
    text = f"{shown(str(path))}: {int(keep.sum()):,} of {len(keep):,} images{f' (left out: {reasons})' if out else ''}"
    tested = sum(subject.split is not None and subject.split.subsets[index] == TEST for index in out)
    return (
        f"{text}; {tested:,} of those left out are test images: what is measured on the rest flatters"
        if tested
        else text
    )


# Beside `fit` ---------------------------------------------------------------------------------------------------


def beside(
    dataset: Dataset, contents: Contents, sight: Sight | None, split: Split, run: Run, tested: Judged
) -> Generator[Event, None, tuple[str, ...]]:
    """Ask what costs little beside a run, into its audit.json; names of the samples to be shown in its report.

    tested  the test set as the run judged it: what of its accuracy is due to leaks
    """
    duplicates = yield from look_for_duplicates(dataset, contents, sight, BESIDE)
    subject = Subject(dataset, contents, split, sight, threads_of(run.settings.threads), duplicates)
    found = facts(subject, (yield from find(subject, BESIDE)))
    right = tested.logits.argmax(axis=1) == dataset.labels[tested.indices]
    leaked = leaked_images(duplicates, split.subsets)[tested.indices]
    lines = [text for label, text in told(found) if label in ("leaks", "labels", "shortcut")]
    if leaked.any():
        accuracy = accuracy_without(right, leaked)
        found["leaks"]["accuracy"] = accuracy.to_json()
        lines.insert(1, accuracy.sentence)
    files.write_json(run.path / "audit.json", found)
    if lines:
        yield Line("audit", "\n".join(lines))
    return tuple(pictured(found))
