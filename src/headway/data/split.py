"""Which image trains, which validates, which tests: stratified, by content and seed, never by names or their order.

A unit is what must stay together: exact duplicates (equal decoded pixels) and groups, joined where they touch. Within
a class the units are ordered by sha256(seed, digest), the digest of a unit being the smallest of its files', and cut
at the rounded quota: test first, then val, the rest trains.

    a split that the data brings     never changed; only a missing subset is cut, from train
    rows with no subset beside it    follow their duplicates, else they are placed like new images
    keep (an earlier split)          known images stay; new ones follow their duplicates, else they fill the quotas;
                                     between two subsets the one furthest from training wins
    units of several classes         (data.placement) largest first, each where it misses the quotas least
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import SUBSETS, TEST, TRAIN, UNASSIGNED, UNLABELLED, VAL, Contents, Dataset, Split
from headway.data.equals import numbered, shared
from headway.data.placement import Units, place
from headway.data.wording import counted, shown
from headway.errors import Refused, refuse_all
from headway.files import read_csv, write_csv

COLUMNS = ("name", "label", "subset", "digest", "group")
_SEED_RANGE = 1 << 63
_FILES = (".csv", ".tsv", ".parquet", ".tar", ".gz", ".tgz", ".bz2")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Pool:
    """What may still be placed. All arrays (N,): `open` whether it may, `held` where it stays already (or -1)."""

    open: NDArray[np.bool_]
    held: NDArray[np.int8]
    cut: tuple[int, ...]  # subsets to be cut from it
    units: Ints


def make_split(
    dataset: Dataset,
    contents: Contents,
    *,
    seed: int,
    val: float,
    test: float,
    keep: Mapping[str, str] | None = None,
) -> Split:
    """Give every accepted sample its subset. Raises Refused, which names every class that has too few.

    val, test  share of each class, 0 to 1 (0 = no such subset), used only where the data brings no such subset
    keep       file digest (64 hexadecimal digits) → subset, of an earlier split (`read_split`)
    """
    _check_shares(val, test)
    subsets = np.where(contents.accepted, dataset.given, UNASSIGNED).astype(np.int8)
    subsets[contents.accepted & (dataset.labels < 0)] = UNLABELLED
    brought = tuple(s for s in (TRAIN, VAL, TEST) if (dataset.given == s).any())
    if brought and TRAIN not in brought and not (dataset.given == UNASSIGNED).any():
        found = " and ".join(SUBSETS[s] for s in brought)
        raise Refused(f"{shown(dataset.name)} brings {found} images only: nothing to train on")
    pool = _pool(dataset, contents, subsets, brought, {VAL: val, TEST: test})
    pool = _keep(dataset, contents, pool, brought, keep or {})
    subsets[pool.open] = TRAIN
    subsets[pool.open & (pool.held >= 0)] = pool.held[pool.open & (pool.held >= 0)]
    _place(dataset, contents, pool, subsets, seed, {VAL: val, TEST: test})
    _refuse_untrained(dataset, subsets)
    words = tuple(SUBSETS[s] for s in brought)
    conflicts, straddling = _judge_duplicates(dataset, contents, subsets)
    return Split(subsets, words, conflicts, straddling)


def read_split(path: Path) -> dict[str, str]:
    """Digest → subset from a run folder, or from a CSV with the columns digest and subset. Raises Refused.

    Where one file stood in several subsets (copies that straddled a brought split) the furthest from training counts.
    """
    file = path / "split.csv" if path.is_dir() else path
    if not file.is_file():
        where = f"{shown(str(path))}/ has no split.csv" if path.is_dir() else f"{shown(str(path))} does not exist"
        raise Refused(f"{where}: --split expects a run folder, or a CSV with the columns digest and subset")
    order = {word: i for i, word in enumerate(("unlabelled", "train", "val", "test"))}
    kept: dict[str, str] = {}
    try:
        for line, row in enumerate(read_csv(file), start=2):
            if "digest" not in row or "subset" not in row:
                raise Refused(f"{shown(str(file))} has no columns digest and subset (it has {', '.join(row)})")
            digest, subset = row["digest"].strip().lower(), row["subset"].strip().lower()
            if subset and subset not in order:
                raise Refused(f"{shown(str(file))}, line {line}: subset '{shown(subset)}', expected train, val or test")
            if subset and len(digest) == 64 and order[subset] >= order.get(kept.get(digest, "unlabelled"), 0):
                kept[digest] = subset
    except (csv.Error, OSError) as error:
        raise Refused(f"{shown(str(file))} is not a readable CSV: expected the split.csv of a run") from error
    return kept


def write_split(path: Path, dataset: Dataset, contents: Contents, split: Split) -> None:
    """Write every sample to the CSV `path`: name, label, subset ("" = set aside), digest of the file, group."""
    write_csv(path, COLUMNS, _rows(dataset, contents, split))


def check_damage(dataset: Dataset, contents: Contents, *, allow_bad: bool, listed: Path | None = None) -> None:
    """Raise Refused where more than 1 % of all, or more than 10 % of a class, cannot be read.

    allow_bad  only refuse where nothing at all can be read
    listed     the file that has the whole list, named in the message
    """
    bad = ~contents.accepted
    n, n_bad = len(dataset), int(bad.sum())
    where = _folder(dataset)
    if n_bad == n:
        raise Refused(
            f"none of {counted(n, 'image')} in {where} can be read. First five:\n{_first(dataset, contents, bad)}"
        )
    if allow_bad:
        return
    problems = []
    if n_bad > 0.01 * n:
        problems.append(f"{n_bad:,} of {n:,} images in {where} cannot be read ({100 * n_bad / n:.1f} %, more than 1 %)")
    for label, name in enumerate(dataset.classes):
        mine = dataset.labels == label
        total, lost = int(mine.sum()), int((mine & bad).sum())
        if lost > 0.1 * total:
            problems.append(
                f"{lost:,} of {total:,} images of {shown(name)} cannot be read "
                f"({100 * lost / total:.1f} %, more than 10 %)"
            )
    if problems:
        what = ".\n  ".join(problems)
        tail = f"  The list: {listed}. " if listed else "  "
        raise Refused(f"{what}. First five:\n{_first(dataset, contents, bad)}\n{tail}Leave them out: --allow-bad")


def _check_shares(val: float, test: float) -> None:
    problems = [
        f"--{word} {share}: expected a share from 0 to below 1"
        for word, share in (("val", val), ("test", test))
        if not 0 <= share < 1
    ]
    if not problems and val + test >= 1:
        problems = [f"--val {val} and --test {test} leave nothing to train on: together they must stay below 1"]
    refuse_all(problems)


def _pool(
    dataset: Dataset,
    contents: Contents,
    subsets: NDArray[np.int8],
    brought: tuple[int, ...],
    shares: Mapping[int, float],
) -> _Pool:
    """The samples that may be placed, and where their fixed neighbours are."""
    cut = tuple(s for s in (TEST, VAL) if s not in brought and shares[s] > 0)
    whole = TEST in brought and VAL in brought
    labelled = contents.accepted & (dataset.labels >= 0)
    loose = labelled & (dataset.given == UNASSIGNED)
    opened = loose if whole else loose | (labelled & (dataset.given == TRAIN))
    units = units_of(dataset, contents, labelled)
    held = np.full(len(dataset), -1, np.int8)
    fixed = labelled & ~opened
    if fixed.any() and loose.any():
        furthest = np.full(len(dataset), -1, np.int8)
        np.maximum.at(furthest, units[fixed], subsets[fixed])
        held[loose] = furthest[units[loose]]
    return _Pool(opened, held, cut, units)


def units_of(dataset: Dataset, contents: Contents, among: NDArray[np.bool_]) -> Ints:
    """(N,) the number of each sample's unit: the smallest index in it. Connected components over pixels and groups."""
    where = np.flatnonzero(among)
    keys = [numbered(contents.pixels[where])]
    if dataset.groups is not None:
        groups = dataset.groups[where].astype(np.int64)
        alone = groups < 0
        groups[alone] = groups.max(initial=0) + 1 + np.arange(int(alone.sum()))
        keys.append(np.unique(groups, return_inverse=True)[1].astype(np.int64))
    unit = np.arange(len(where))
    while True:
        before = unit
        for key in keys:
            smallest = np.full(len(where), len(where))
            np.minimum.at(smallest, key, unit)
            unit = smallest[key]
        unit = unit[unit]
        if np.array_equal(unit, before):
            break
    units = np.arange(len(dataset))
    units[where] = where[unit]
    return units


def _keep(
    dataset: Dataset, contents: Contents, pool: _Pool, brought: tuple[int, ...], keep: Mapping[str, str]
) -> _Pool:
    """Hold what an earlier split knows, and what belongs to it. Raises Refused where a test image would train."""
    if not keep:
        return pool
    known = np.full(len(dataset), -1, np.int8)
    numbers = {"train": TRAIN, "val": VAL, "test": TEST}
    for index in np.flatnonzero(contents.accepted & (dataset.labels >= 0)):
        known[index] = numbers.get(keep.get(contents.digests[index].tobytes().hex(), ""), -1)
    if TEST in brought:
        tested = {contents.digests[i].tobytes() for i in np.flatnonzero(dataset.given == TEST)}
        crossed = [
            int(i)
            for i in np.flatnonzero((known == TEST) & (dataset.given == TRAIN))
            if contents.digests[i].tobytes() not in tested
        ]
        if crossed:
            raise Refused(
                f"{counted(len(crossed), 'image')} that the earlier split tested on would now train, first "
                f"{shown(dataset.names[crossed[0]])}: move back to test, or leave out --split"
            )
    known[np.isin(known, [s for s in brought if s != TRAIN])] = -1
    known[~pool.open] = -1
    furthest = np.full(len(dataset), -1, np.int8)
    np.maximum.at(furthest, pool.units, np.maximum(known, pool.held))
    held = np.where(known >= 0, known, np.where(pool.open, furthest[pool.units], -1)).astype(np.int8)
    return _Pool(pool.open, held, pool.cut, pool.units)


def _place(
    dataset: Dataset,
    contents: Contents,
    pool: _Pool,
    subsets: NDArray[np.int8],
    seed: int,
    shares: Mapping[int, float],
) -> None:
    """Place the free units of the pool; writes into `subsets`."""
    free = np.flatnonzero(pool.open & (pool.held < 0))
    if not len(free) or not pool.cut:
        return
    members, inverse = np.unique(pool.units[free], return_inverse=True)
    units = Units(inverse, dataset.labels[free], _order(contents, free, inverse, len(members), seed))
    n_classes = len(dataset.classes)
    total = np.bincount(dataset.labels[pool.open], minlength=n_classes)
    quotas = np.zeros((3, n_classes), np.int64)
    for subset in pool.cut:
        # The small term lifts products such as 0.15 * 50 = 7.499999... to the half that they mean.
        quotas[subset] = np.maximum(1, np.floor(total * shares[subset] + 0.5 + 1e-9)) * (total > 0)
    quotas[TRAIN] = np.maximum(1, total - quotas[VAL] - quotas[TEST]) * (total > 0)
    placed = np.zeros((3, n_classes), np.int64)
    stays = pool.open & (pool.held >= 0)
    np.add.at(placed, (pool.held[stays], dataset.labels[stays]), 1)
    where, presence = place(units, quotas, placed, (*pool.cut, TRAIN))
    _refuse_few(dataset, pool, presence, total)
    subsets[free] = where[inverse]


def _order(contents: Contents, free: NDArray[np.intp], inverse: NDArray[np.intp], n: int, seed: int) -> Ints:
    """(n,) rank of each unit by sha256(seed, smallest digest in it)."""
    if not -_SEED_RANGE <= seed < _SEED_RANGE:
        raise Refused(f"--seed {seed}: expected a whole number of at most 64 bits")
    digests = np.ascontiguousarray(contents.digests[free]).view(">u8")  # (n, 4), compares like the bytes
    by_unit = np.lexsort((digests[:, 3], digests[:, 2], digests[:, 1], digests[:, 0], inverse))
    first = by_unit[np.flatnonzero(np.diff(inverse[by_unit], prepend=-1))]  # (units,), in the order of units
    salt = seed.to_bytes(8, "big", signed=True)
    keys = [hashlib.sha256(salt + contents.digests[free[i]].tobytes()).digest() for i in first]
    ranks = np.empty(n, np.int64)
    ranks[sorted(range(n), key=keys.__getitem__)] = np.arange(n)
    return ranks


def _refuse_few(dataset: Dataset, pool: _Pool, presence: NDArray[np.bool_], total: Ints) -> None:
    """`presence` (3, C): whether a subset got images of a class."""
    asked = [s for s in (TRAIN, VAL, TEST) if s == TRAIN or s in pool.cut]
    words = " and ".join(", ".join(SUBSETS[s] for s in asked).rsplit(", ", 1))
    problems = []
    for label in np.flatnonzero((total > 0) & ~presence[asked].all(axis=0)):
        mine = pool.open & (dataset.labels == label)
        units = len(np.unique(pool.units[mine]))
        apart = f", {counted(units, 'unit')} that may be parted" if units < total[label] else ""
        options = " or ".join(f"--{SUBSETS[s]} 0" for s in asked if s != TRAIN)
        problems.append(
            f"{shown(dataset.classes[label])} has {counted(int(total[label]), 'image')}{apart}; {words} need one each: "
            f"add images, or do without ({options})"
        )
    refuse_all(problems)


def _refuse_untrained(dataset: Dataset, subsets: NDArray[np.int8]) -> None:
    trained = np.bincount(dataset.labels[subsets == TRAIN], minlength=len(dataset.classes))
    refuse_all(
        [
            f"{shown(dataset.classes[label])} has no image to train on: add images, or take the class out"
            for label in np.flatnonzero(trained == 0)
        ]
    )


def _judge_duplicates(
    dataset: Dataset, contents: Contents, subsets: NDArray[np.int8]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Groups of equal pixels with several labels, and those in several subsets."""
    where = np.flatnonzero(contents.accepted & (dataset.labels >= 0))
    several = [where[group] for group in shared(numbered(contents.pixels[where]))]
    conflicts = sorted(tuple(group.tolist()) for group in several if len(np.unique(dataset.labels[group])) > 1)
    straddling = sorted(tuple(group.tolist()) for group in several if len(np.unique(subsets[group])) > 1)
    return tuple(conflicts), tuple(straddling)


def _rows(dataset: Dataset, contents: Contents, split: Split) -> Iterator[tuple[object, ...]]:
    labels, subsets = dataset.labels.tolist(), split.subsets.tolist()
    groups = [-1] * len(labels) if dataset.groups is None else dataset.groups.tolist()
    digests = np.ascontiguousarray(contents.digests).reshape(-1).data
    for i, (name, label, subset, group) in enumerate(zip(dataset.names, labels, subsets, groups, strict=True)):
        told = "" if subset == UNASSIGNED else SUBSETS[subset]
        kept = "" if group < 0 else group
        yield name, "" if label < 0 else dataset.classes[label], told, digests[32 * i : 32 * i + 32].hex(), kept


def _first(dataset: Dataset, contents: Contents, bad: NDArray[np.bool_]) -> str:
    prefix = _folder(dataset) if _folder(dataset).endswith("/") else ""
    return "\n".join(
        f"  {shown(prefix + dataset.names[i])}: {contents.reasons.get(int(i), 'unknown')}"
        for i in np.flatnonzero(bad)[:5]
    )


def _folder(dataset: Dataset) -> str:
    return shown(dataset.name) + ("" if Path(dataset.name).suffix in _FILES else "/")
