"""Which of several runs is better on the images that both were judged on; where there are none, no test."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from headway import files
from headway.comparing import Answers, groups_among, test_answers
from headway.errors import HeadwayError
from headway.evaluation.bootstrap import PairedVerdict, holm, judge_pairs
from headway.reporting.records import Run, chosen_setting


@dataclass(frozen=True)
class Pairing:
    """Two runs by name, and how they compare.

    common   how many test images both were judged on;  of  how many each was judged on
    verdict  the paired test on these, None where there is none: `why` says why
    alone    on how many of these a alone, and b alone, is right: what McNemar's test goes by
    """

    a: str
    b: str
    common: int
    of: tuple[int, int]
    verdict: PairedVerdict | None
    why: str
    alone: tuple[int, int] = (0, 0)

    @property
    def partly(self) -> bool:
        """Whether there are test images that only one of the two was judged on."""
        return self.common != max(self.of)


@dataclass(frozen=True)
class _Judged:
    """The test images of a run by name: its answers, their digests (None: the run does not tell), their groups."""

    answers: Answers
    digests: Mapping[str, str] | None
    groups: Mapping[str, int]


def pair_up(runs: Mapping[str, Run]) -> tuple[Pairing, ...]:
    """Every pair of `runs` (name → run, two or more) in order; p values corrected for all pairs that were tested.

    The figures are those of `headway compare` where all runs were judged on the same images: McNemar's exact test,
    Tango's interval, a paired bootstrap, Holm's correction. An image is the same where name and content are.
    """
    judged: dict[str, _Judged | str] = {name: _judged(run) for name, run in runs.items()}
    seed = chosen_setting(next(iter(runs.values())), "seed")
    seed = seed if isinstance(seed, int) and seed >= 0 else 0
    pairs = [_pair((a, b), (judged[a], judged[b]), seed) for a, b in combinations(judged, 2)]
    tested = [pair.verdict for pair in pairs if pair.verdict is not None]
    corrected = iter(holm([verdict.test.p_value for verdict in tested]) if tested else ())
    return tuple(
        pair
        if pair.verdict is None
        else replace(pair, verdict=replace(pair.verdict, n_pairs=len(tested), p_holm=next(corrected)))
        for pair in pairs
    )


def _judged(run: Run) -> _Judged | str:
    """The test images of the run, or what keeps them from being read."""
    try:
        answers = test_answers(run)
    except (HeadwayError, ValueError):
        return "has no predictions.csv that can be read, or no test images"
    try:
        digests, groups = _split(run.folder / "split.csv")
    except (csv.Error, IndexError, ValueError):
        return "has a damaged split.csv"
    return _Judged(answers, digests, groups)


def _split(path: Path) -> tuple[Mapping[str, str] | None, Mapping[str, int]]:
    """Digest and group of each test image as split.csv has them; an image that stands alone has no group."""
    if not path.is_file():
        return None, {}
    digests, groups = {}, {}
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        rows = csv.reader(stream)
        head = next(rows, [])
        name, subset, digest = (head.index(column) for column in ("name", "subset", "digest"))
        group = head.index("group") if "group" in head else None
        for row in rows:
            if row[subset] == "test":
                image = files.restored(row[name])
                digests[image] = row[digest]
                if group is not None and row[group]:
                    groups[image] = int(row[group])
    return digests, groups


def _pair(names: tuple[str, str], both: tuple[_Judged | str, _Judged | str], seed: int) -> Pairing:
    a, b = both
    if isinstance(a, str) or isinstance(b, str):
        wrong = [f"{name} {own}" for name, own in zip(names, both, strict=True) if isinstance(own, str)]
        return Pairing(*names, 0, (0, 0), None, "; ".join(wrong))
    of = len(a.answers), len(b.answers)
    common = _common(a, b)
    if not common:
        return Pairing(*names, 0, of, None, "judged on other images, so no test can tell which is better")
    torn = sum(a.answers[image][0] != b.answers[image][0] for image in common)
    if torn:
        return Pairing(*names, len(common), of, None, f"{torn:,} of their test images have other labels, so no test")
    right = {
        name: np.array([own.answers[i][0] == own.answers[i][1] for i in common])
        for name, own in zip(names, (a, b), strict=True)
    }
    groups = groups_among(a.groups, common)
    verdict = judge_pairs(right, seed=seed, groups=groups)[0]
    first, second = right.values()
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    return Pairing(*names, len(common), of, verdict, "", alone)


def _common(a: _Judged, b: _Judged) -> list[str]:
    """Names of the images that both were judged on, sorted."""
    shared = sorted(a.answers.keys() & b.answers.keys())
    if a.digests is None or b.digests is None:
        return shared
    return [image for image in shared if a.digests.get(image) == b.digests.get(image)]


def told_verdict(names: Sequence[str], pairs: Sequence[Pairing]) -> tuple[str, ...]:
    """The verdict over all pairs: a headline, and what else should be known."""
    tested = [pair.verdict for pair in pairs if pair.verdict is not None]
    shown = [verdict for verdict in tested if verdict.better is not None]
    left = len(pairs) - len(tested)
    more: list[str] = []
    if len(names) == 2:
        head, more = _told_two(pairs[0])
    elif not tested:
        head = "No two of these runs can be tested against each other."
    elif not shown:
        head = f"No difference shown in {'any of the ' if len(tested) > 1 else 'the '}{_pairs(len(tested))} tested."
    else:
        best = next((name for name in names if _beats_all(name, names, tested)), None)
        rest = f"{len(shown):,} of {_pairs(len(tested))} {'shows' if len(shown) == 1 else 'show'} a difference."
        head = f"{best} is better than each of the others." if best is not None else rest
    if left and len(names) > 2:
        more = [*more, f"{_pairs(left)} could not be tested; the table says why."]
    if any(pair.partly and pair.verdict is not None for pair in pairs):
        more = [*more, "Where two runs have other test images, only those that both were judged on are compared."]
    return head, *more


def _pairs(n: int) -> str:
    return f"{n:,} pair{'' if n == 1 else 's'}"


def _told_two(pair: Pairing) -> tuple[str, list[str]]:
    verdict = pair.verdict
    if verdict is None:
        return f"{pair.a} and {pair.b} cannot be tested against each other.", [f"{pair.why[:1].upper()}{pair.why[1:]}."]
    sentence = verdict.sentence()
    told = [f"{sentence[:1].upper() if verdict.better is None else sentence[:1]}{sentence[1:]}."]
    if verdict.better is None:
        return f"No difference shown between {pair.a} and {pair.b}.", told
    other = pair.b if verdict.better == pair.a else pair.a
    return f"{verdict.better} is better than {other}.", told


def _beats_all(name: str, names: Sequence[str], tested: Sequence[PairedVerdict]) -> bool:
    won = {other for verdict in tested if verdict.better == name for other in verdict.names}
    return won == set(names)
