"""What a comparison compares: several settings of one dataset, alike in all that makes a comparison fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.conflicts import option
from headway.defaults import CNN, STRATEGIES, understands
from headway.errors import Refused, nearest, refuse_all
from headway.settings import FitSettings, fit_settings

# What must be alike, or the choices would be judged on different images. Recipes take the first one's.
ALIKE = ("val", "test", "split", "seed", "allow_bad")


@dataclass(frozen=True)
class Comparison:
    """Several ways to train on one dataset.

    names     of the ways, distinct; they name folders, too
    settings  of each way
    run       the folder of the comparison; None = runs/<data>-compare-<number>
    notes     what was made alike, or given to some of the ways only, one sentence each
    """

    data: Path | str
    names: tuple[str, ...]
    settings: tuple[FitSettings, ...]
    run: Path | None = None
    notes: tuple[str, ...] = ()

    def to_yaml(self) -> str:
        """Every way with all of its settings, as YAML."""
        import yaml

        ways = {
            name: settings.model_dump(mode="json", exclude={"data", "run"})
            for name, settings in zip(self.names, self.settings, strict=True)
        }
        return yaml.safe_dump({"data": str(self.data), "ways": ways}, sort_keys=False, allow_unicode=False)


def compare_settings(
    data: str | Path,
    *,
    strategies: str | Sequence[str] | None = None,
    recipes: str | Sequence[str] | None = None,
    run: str | Path | None = None,
    **options: object,
) -> Comparison:
    """The settings of a comparison of `data`: of strategies, or of recipes (names or files); one of the two.

    An option goes to every way that understands it: --thaw to fine-tuning alone, --epochs to all that train by epochs.
    Raises Refused with every problem at once.
    """
    if (strategies is None) == (recipes is None):
        raise Refused("a comparison needs either --strategies or --recipes, as --strategies probe,finetune,scratch")
    what, words = ("strategies", _listed(strategies)) if strategies is not None else ("recipes", _listed(recipes))
    for name in ("strategy", "recipe"):
        if name in options:
            raise Refused(f"{option(name)} is what is compared: leave it out, or name it in --{what}")
    if "budget" in options:
        raise Refused("--budget is for headway fit, which chooses one way: a comparison takes all of them to their end")
    names = tuple(word if what == "strategies" else _short(word) for word in words)
    _check_names(what, words, names)
    begin: list[dict[str, object]] = [{"strategy" if what == "strategies" else "recipe": word} for word in words]
    plain = _made(data, names, begin)
    given = [_fitting(settings, options) for settings in plain]
    unheard = [name for name in options if not any(name in mine for mine in given)]
    refuse_all([f"{option(name)} is nothing that {' or '.join(names)} could use" for name in unheard])
    alike = {name: getattr(plain[0], name) for name in ALIKE if name not in options} if what == "recipes" else {}
    notes = tuple(
        f"{option(name)} is {value} for all, as {names[0]} has it: all are judged on the same images"
        for name, value in alike.items()
        if any(getattr(settings, name) != value for settings in plain)
    )
    made = _made(data, names, [{**way, **alike, **mine} for way, mine in zip(begin, given, strict=True)])
    return Comparison(made[0].data, names, made, None if run is None else Path(run), notes)


def _short(recipe: str) -> str:
    """The name of a recipe, or of its file without folder and ending."""
    path = Path(recipe)
    return path.stem if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 else recipe


def _listed(words: str | Sequence[str] | None) -> tuple[str, ...]:
    parts = words.split(",") if isinstance(words, str) else tuple(words or ())
    return tuple(part.strip() for part in parts if part.strip())


def _check_names(what: str, words: Sequence[str], names: Sequence[str]) -> None:
    """Raise Refused where too few ways are named, one twice, or an unknown strategy."""
    problems = []
    if what == "strategies":
        for word in words:
            if word not in STRATEGIES:
                near = nearest(word, STRATEGIES, n=1)
                hint = f"Did you mean {near[0]} ?" if near else f"There are: {', '.join(STRATEGIES)}"
                problems.append(f"--strategies: no strategy {word}. {hint}")
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"--{what} names {name} twice: expected different ones" for name in twice]
    if len(words) < 2 and not problems:
        problems.append(f"--{what} {','.join(words)}: expected two or more, with commas between them")
    refuse_all(problems)


def _fitting(settings: FitSettings, options: Mapping[str, object]) -> dict[str, object]:
    """The options that one way understands. Settings of the features and of the data are everybody's."""
    head = str(options.get("head", settings.head))
    pretrained = settings.strategy != "scratch"
    return {
        name: value
        for name, value in options.items()
        if understands(name, settings.strategy, head)
        and (pretrained or name != "weights" or value in (None, "none"))
        and not (
            name == "views" and settings.strategy == "finetune" and settings.thaw == "all" and "thaw" not in options
        )
    }


def _made(data: str | Path, names: Sequence[str], ways: Sequence[dict[str, object]]) -> tuple[FitSettings, ...]:
    """Every way's settings; Refused with the problems of all, each with the names of the ways that have it."""
    made: list[FitSettings] = []
    problems: dict[str, list[str]] = {}
    for name, way in zip(names, ways, strict=True):
        try:
            made.append(fit_settings(data, **way))
        except Refused as error:
            for line in str(error).split("\n  ")[1:] or [str(error)]:
                problems.setdefault(line, []).append(name)
    refuse_all([text if len(who) == len(ways) else f"{', '.join(who)}: {text}" for text, who in problems.items()])
    return tuple(made)


def road_settings(data: str | Path, **options: object) -> dict[str, FitSettings]:
    """The settings of each road that `plan` costs, from cheap to dear: probe, last (stage), full, scratch.

    An option goes to every road that understands it. Raises Refused with every problem at once.
    """
    ways: dict[str, dict[str, object]] = {
        "probe": {"strategy": "probe"},
        "last": {"strategy": "finetune", "thaw": 1},
        "full": {"strategy": "finetune"},
        "scratch": {"strategy": "scratch"},
    }
    if options.get("backbone") == CNN and options.get("weights") is None:
        ways = {"scratch": ways["scratch"]}  # a network with no weights to begin with
    names = tuple(ways)
    given = [_fitting(settings, options) for settings in _made(data, names, list(ways.values()))]
    unheard = [name for name in options if not any(name in mine for mine in given)]
    refuse_all([f"{option(name)} is nothing that a road could use" for name in unheard])
    made = _made(data, names, [{**way, **mine} for way, mine in zip(ways.values(), given, strict=True)])
    return dict(zip(names, made, strict=True))
