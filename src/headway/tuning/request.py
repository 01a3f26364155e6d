"""What `headway tune` was told: the settings that every trial begins with, what is searched, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.conflicts import option
from headway.errors import Refused, nearest, refuse_all
from headway.kinds import read_duration
from headway.settings import FitSettings, fit_settings

METRICS = ("log-loss", "accuracy", "balanced-accuracy")
STRATEGIES = ("probe", "finetune")
TRIALS: Mapping[str, int] = {"probe": 100, "finetune": 20}
MOST_VIEWS = "flip"  # what a search looks at beside the plain images where nothing is said


@dataclass(frozen=True)
class Request:
    """A search.

    base     the settings of every trial, but for what is searched
    typed    the options that were typed: they are fixed. Views say only how many there are to choose from
    trials   the search ends when so many were run, in all of its processes together
    metric   "log-loss" (of calibrated probabilities), "accuracy" or "balanced-accuracy"
    study    where the trials are kept: a file, the address of a database, or None = in the run folder
    seconds  the search ends after so long too; None = it does not
    views    the most views to choose from: None, "flip", or a number of random crops
    join     whether only trials are run, of a search that another process began
    """

    base: FitSettings
    typed: Mapping[str, Any]
    trials: int
    metric: str = "log-loss"
    study: str | None = None
    seconds: float | None = None
    views: int | str | None = None
    join: bool = False

    @property
    def falling(self) -> bool:
        """Whether less is better."""
        return self.metric == "log-loss"

    def settings(self, options: Mapping[str, Any], run: Path | None = None) -> FitSettings:
        """The settings of `fit` with these options of a trial; raises Refused where they cannot go together."""
        return fit_settings(self.base.data, **{**self.typed, **options, "run": run})

    def to_yaml(self) -> str:
        """What decides the search, as YAML. Not how many trials: the same search may go on for longer."""
        import yaml

        asked = self.base.model_dump(mode="json", exclude={"run"})
        plain = {name: str(value) for name, value in sorted(self.typed.items()) if name != "run"}
        whole = {
            "data": str(self.base.data),
            "metric": self.metric,
            "views": self.views,
            "typed": plain,
            "settings": asked,
        }
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=False)


def read_request(data: str | Path, **words: Any) -> Request:
    """What was typed as a request. Raises Refused with every problem at once."""
    own = {name: words.pop(name, None) for name in ("trials", "metric", "study", "budget", "join")}
    problems: list[str] = []
    strategy = str(words.get("strategy", "probe"))
    if strategy not in STRATEGIES:
        near = nearest(strategy, STRATEGIES, 1)
        hint = f". Did you mean {near[0]} ?" if near else ": a search is over one of the two"
        problems.append(f"--strategy {strategy}: expected probe or finetune{hint}")
        words.pop("strategy")
    views = _views(words, strategy)
    metric = str(own["metric"] or METRICS[0])
    if metric not in METRICS:
        near = nearest(metric, METRICS, 1)
        hint = f". Did you mean {near[0]} ?" if near else ""
        problems.append(f"--metric {metric}: expected {', '.join(METRICS[:2])} or {METRICS[2]}{hint}")
    trials = _whole(own["trials"], TRIALS.get(strategy, 1), problems)
    seconds = _seconds(own["budget"], problems)
    if own["join"] and own["study"] is None:
        problems.append("--join needs the --study of the search to take part in: a file, or the address of a database")
    try:
        base = fit_settings(data, **words)
    except Refused as refusal:
        problems += str(refusal).split("\n  ")[1:] or [str(refusal)]
    refuse_all(problems)
    if base.head == "prototype":
        words["l2"] = "auto"
    study = own["study"]
    return Request(base, words, trials, metric, study, seconds, views, bool(own["join"]))


def _views(words: dict[str, Any], strategy: str) -> int | str | None:
    """The most views to choose from; takes them out of `words`, where a trial decides about them."""
    if strategy != "probe":
        return None
    asked = words.pop("views", MOST_VIEWS)
    if asked in (None, "none"):
        return None
    checked = fit_settings(".", views=asked).views  # Refused where it is none
    return checked


def _whole(value: Any, usual: int, problems: list[str]) -> int:
    if value is None:
        return usual
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
        problems.append(f"{option('trials')} {value}: expected a whole number of 1 or more")
        return usual
    return int(value)


def _seconds(value: Any, problems: list[str]) -> float | None:
    if value is None:
        return None
    try:
        return read_duration(str(value))
    except ValueError:
        problems.append(f"--budget {value}: expected a time as 90s, 10m or 2h")
        return None
