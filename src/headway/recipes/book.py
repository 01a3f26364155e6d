"""The recipes: named settings with the result that one should get back, each setting with a mark who says so.

A recipe is a YAML file:

    about: one line
    expect: {says: a sentence, test_accuracy: 0.3611, ...}
    settings:
      lr: {seed: 0.0001}                        stated by the system that the recipe reproduces
      batch: {ours: 200, why: nothing is said}  headway's choice where that is silent

In a file of one's own a setting may stand without a mark (`lr: 0.0001`), and the settings may stand alone: the
settings.yaml of a run is a recipe, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.errors import Refused, nearest, refuse_all

MARKS = ("seed", "ours")
_HERE = Path(__file__).parent
_NOT_OF_A_RECIPE = ("data", "run", "recipe")  # they belong to one run


@dataclass(frozen=True)
class Recipe:
    """Named settings.

    source  the name, or the file, as it was asked for
    about   what it is, one line
    expect  figures and words (`says`) of the result; {} where the file tells none
    values  names of settings → values, as written
    marks   names of settings → "seed", "ours" or "" (not marked)
    whys    names of settings → why, where the file says so
    """

    source: str
    about: str
    expect: Mapping[str, Any]
    values: Mapping[str, Any]
    marks: Mapping[str, str]
    whys: Mapping[str, str] = field(default_factory=dict)


def names() -> tuple[str, ...]:
    """The recipes that come with headway."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.yaml")))


def read_recipe(asked: str) -> Recipe:
    """The recipe of that name, or in that file. Raises Refused where there is none or it is not one."""
    known = names()
    if asked in known:
        return _read(_HERE / f"{asked}.yaml", asked)
    path = Path(asked)
    if path.is_file():
        return _read(path, asked)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise Refused(f"--recipe {asked}: no such file. Expected a file, or one of {', '.join(known)}")
    near = nearest(asked, known)
    hint = f"Did you mean {' or '.join(near)} ?" if near else f"There are: {', '.join(known)}"
    raise Refused(f"no recipe {asked}. {hint}")


def _read(path: Path, asked: str) -> Recipe:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{asked} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{asked} is not YAML: {error}") from None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        raise Refused(f"{asked} is not a recipe: expected settings, as lr: 0.001")
    settings = found.get("settings", {name: value for name, value in found.items() if name not in _NOT_OF_A_RECIPE})
    problems = _problems(asked, found, settings)
    refuse_all(problems)
    told = {name: _told(value) for name, value in settings.items()}
    return Recipe(
        source=asked,
        about=str(found.get("about", "")) if "settings" in found else "",
        expect=dict(found.get("expect") or {}) if "settings" in found else {},
        values={name: value for name, (value, _, _) in told.items()},
        marks={name: mark for name, (_, mark, _) in told.items()},
        whys={name: why for name, (_, _, why) in told.items() if why},
    )


def _problems(asked: str, found: Mapping[str, Any], settings: object) -> list[str]:
    """What is wrong with the form of a recipe; what the settings may be, `settings` knows."""
    if not isinstance(settings, dict):
        return [f"{asked}: settings: expected names of options and their values, as lr: 0.001"]
    problems = []
    if "settings" in found:
        known = ("about", "expect", "settings")
        problems += [f"{asked}: no part {name}: expected {', '.join(known)}" for name in found if name not in known]
        if not isinstance(found.get("expect", {}), dict | None):
            problems.append(f"{asked}: expect: expected figures by their names, and words after says:")
        problems += [
            f"{asked}: {name} belongs to a run, not to a recipe" for name in settings if name in _NOT_OF_A_RECIPE
        ]
    for name, value in settings.items():
        if isinstance(value, dict) and not _marked(value):
            problems.append(
                f"{asked}: {name}: expected a value, or one with its mark, as {{seed: 0.001}} or {{ours: 0.001}}"
            )
    return problems


def _marked(value: Mapping[str, Any]) -> bool:
    return len(set(value) & set(MARKS)) == 1 and set(value) <= {*MARKS, "why"}


def _told(value: object) -> tuple[Any, str, str]:
    """Value, mark and reason of a setting as it is written."""
    if not isinstance(value, dict):
        return value, "", ""
    mark = next(word for word in MARKS if word in value)
    return value[mark], mark, str(value.get("why", ""))
