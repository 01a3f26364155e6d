"""The section of a run that was searched for: what was tried, what won, whether that is shown to be better.

Drawn from tuning.json alone. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError
from headway.reporting.figures import range_bar
from headway.reporting.records import read_object
from headway.reporting.scatter import Axes, Dot, scatter, share_bar, told_share
from headway.reporting.svg import Safe
from headway.reporting.text import count, interval, is_number, number, plain, seconds

FILE = "tuning.json"
MOST_LISTED = 30  # trials in the table; the rest stands in tuning.json
_LOGARITHMIC = ("l2", "lr", "weight_decay")

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """What the template prints.

    judged   winner and usual settings on the validation images: name, accuracy, interval, its bar, log-loss
    counted  option, its bar, its share of the spread of values
    """

    lead: str
    caution: str
    verdict: str
    history: Safe | None
    slices: tuple[Safe, ...]
    judged: tuple[tuple[str, str, str, Safe, str], ...]
    n_val: str
    counted: tuple[tuple[str, Safe, str], ...]
    among: str
    trials: tuple[tuple[bool, Cells], ...]
    more: int
    metric: str


def search(folder: Path) -> Search | None:
    """The section of the run in `folder`; None where it was not searched for. Raises HeadwayError where damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = read_object(path)
    try:
        return _view(found)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise HeadwayError(f"{path} is damaged ({error!r}). Make it again: headway tune") from error


def _view(found: Mapping[str, Any]) -> Search:
    trials = [trial for trial in found["trials"] if is_number(trial["value"])]
    winner, falling = found["winner"]["trial"], bool(found["falling"])
    ranked = sorted(trials, key=lambda trial: (trial["state"] != "complete", trial["value"] * (1 if falling else -1)))
    importance = sorted(found["importance"].items(), key=lambda pair: -pair[1])
    kind = str(found["winner"]["options"].get("head", "")).split(":")[0]
    return Search(
        lead=_lead(found),
        caution=(
            f"In the search the winner came to {found['metric']} {number(found['winner']['value'], 4)}, the best of "
            f"{count(found['counts']['complete'])}: that number flatters it and is no result. The validation images "
            "below had no part in the search; the test images at the top of this page judged the winner alone, once."
        ),
        verdict=f"{found['told'][:1].upper()}{found['told'][1:]}.",
        history=_history(trials, winner, found),
        slices=tuple(_slices(trials, winner, found)),
        judged=tuple(_judged(found)),
        n_val=count(found["n"]["val"]),
        counted=tuple((name, share_bar(share), told_share(share)) for name, share in importance),
        among=f"Among {kind} heads that came to their end, b" if kind else "Among trials that came to their end, b",
        trials=tuple((trial["number"] == winner, _cells(trial)) for trial in ranked[:MOST_LISTED]),
        more=max(0, len(found["trials"]) - MOST_LISTED),
        metric=str(found["metric"]),
    )


def _lead(found: Mapping[str, Any]) -> str:
    counts, n = found["counts"], found["n"]
    words = f"{count(sum(counts.values()))} settings were tried in {seconds(found['seconds'])} by a search"
    if counts["pruned"]:
        words += f", {count(counts['pruned'])} of them left early"
    what = "network was trained" if found["strategy"] == "finetune" else "head was trained"
    return f"{words}. Of each a {what} and judged on {count(n['judged'])} training images that it did not learn from."


def _judged(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Safe, str]]:
    for name, key in (("the winner", "winner"), ("the usual settings", "usual")):
        own = found[key]["judged"]
        bar = range_bar(own["accuracy"], own["interval"], quiet=key == "usual")
        yield name, number(own["accuracy"]), interval(own["interval"]), bar, number(own["log_loss"], 4)


def _cells(trial: Mapping[str, Any]) -> Cells:
    told = " ".join(f"{name}={plain(value)}" for name, value in trial["options"].items()) or "drawn, and left early"
    ended = {"complete": "", "pruned": "left early"}.get(trial["state"], str(trial["state"]))
    return str(trial["number"]), told, number(trial["value"], 4), ended, seconds(trial["seconds"])


def _history(trials: Sequence[Mapping[str, Any]], winner: int, found: Mapping[str, Any]) -> Safe | None:
    """Every trial in its order, and the best so far."""
    falling = bool(found["falling"])
    best: list[tuple[float, float]] = []
    for trial in trials:
        better = not best or (trial["value"] < best[-1][1] if falling else trial["value"] > best[-1][1])
        if trial["state"] == "complete" and better:
            best.append((trial["number"], trial["value"]))
    if best:
        best.append((trials[-1]["number"], best[-1][1]))
    dots = [_dot(trial, trial["number"], winner) for trial in trials]
    return scatter(f"{found['metric']} of every trial", Axes("trial", found["metric"], falling), dots, best)


def _dot(trial: Mapping[str, Any], x: float | str, winner: int) -> Dot:
    return Dot(x, float(trial["value"]), trial["state"] == "complete", trial["number"] == winner)


def _slices(trials: Sequence[Mapping[str, Any]], winner: int, found: Mapping[str, Any]) -> Iterator[Safe]:
    """One figure for each option that was drawn with more than one value."""
    names = dict.fromkeys(name for trial in trials for name in trial["drawn"])
    for name in names:
        drawn = [(trial, trial["drawn"][name]) for trial in trials if name in trial["drawn"]]
        values = list(dict.fromkeys(value for _, value in drawn))
        if len(values) < 2:
            continue
        numeric = all(is_number(value) for value in values) and len(values) > 4
        words = () if numeric else tuple(plain(value) for value in sorted(values, key=_order))
        axes = Axes(name, found["metric"], bool(found["falling"]), words, log=numeric and name in _LOGARITHMIC)
        dots = [_dot(trial, float(value) if numeric else plain(value), winner) for trial, value in drawn]
        figure = scatter(name, axes, dots)
        if figure is not None:
            yield figure


def _order(value: Any) -> tuple[bool, float, str]:
    return (not is_number(value), float(value) if is_number(value) else 0.0, str(value))
