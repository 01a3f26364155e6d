"""How lists look in words: networks, and recipes with who says what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headway.advice.plan import NAMES, told_seconds
from headway.conflicts import spelt
from headway.recipes import book
from headway.terminal.screen import table

if TYPE_CHECKING:
    from headway.backbones.catalog import Backbone

_SAYS, _BRIEF = "says", "brief"  # words among the figures that a recipe lets one expect: a sentence, and a few of it
# What stands for a setting that is left open.
_OPEN = {"weights": "the backbone's own", "views": "no", "until": "no", "micro_batch": "no", "threads": "all"}


def backbones_text(rows: Sequence[Backbone]) -> str:
    """A table of networks."""
    return table([_backbone_row(row) for row in rows], right=("input", "parameters", "MACs", "features"))


def _backbone_row(row: Backbone) -> dict[str, str]:
    return {
        "name": row.name,
        "input": _or_dash(row.input, "{}"),
        "parameters": _or_dash(row.parameters, "{:,}"),
        "MACs": _or_dash(row.macs, "{:,}"),
        "ImageNet": _or_dash(row.top1, "{:.3f}"),
        "features": _or_dash(row.features, "{:,}"),
        "licence": row.licence or "-",
        "offline": "yes" if row.offline else "no",
    }


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def ranking_text(found: Mapping[str, Any]) -> str:
    """What `rank` found: a table, the best first, and which differences are shown."""
    rows = [
        {
            "backbone": row["name"],
            "accuracy": f"{row['val_accuracy']:.3f} [{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]",
            "LogME": f"{row['log_me']:.3f}",
            "images/s": f"{row['images_per_second']:.0f}" + ("" if row["rate_of"] == "this pass" else " *"),
            "seconds for all": _or_dash(row["seconds_for_all"], "{:,.0f}"),
            "parameters": _or_dash(row["parameters"], "{:,}"),
            "licence": row["licence"] or "-",
        }
        for row in found["backbones"]
    ]
    head = f"a linear head on the last layer, {found['folds']}-fold over {found['images']:,} of {found['of']:,} images"
    star = (
        ["* of the engine alone: the images came from the cache"] if any("*" in row["images/s"] for row in rows) else []
    )
    right = ("LogME", "images/s", "seconds for all", "parameters")
    return "\n".join([head, "", table(rows, right=right), *star, "", *found["sentences"]]).rstrip()


def recipes() -> list[dict[str, Any]]:
    """Every recipe that comes with headway: name, what it is, what to expect."""
    found = (book.read_recipe(name) for name in book.names())
    return [{"name": one.source, "about": one.about, "expect": dict(one.expect)} for one in found]


def recipes_text(found: Sequence[Mapping[str, Any]]) -> str:
    """A table of recipes, and how to go on from it."""
    rows = [{"recipe": one["name"], "what it is": one["about"], "expect": _brief(one["expect"])} for one in found]
    return f"{table(rows)}\n\nheadway recipes NAME shows one; headway fit DATA --recipe NAME follows it"


def recipe(name: str) -> dict[str, Any]:
    """One recipe, whole, with the command that asks for the same without it. Raises Refused where it cannot work."""
    from headway.settings import fit_settings

    one = book.read_recipe(name)
    settings = fit_settings("DATA", recipe=name)
    plain = settings.model_dump(mode="json")
    return {
        "name": one.source,
        "about": one.about,
        "expect": dict(one.expect),
        "settings": {
            key: {"value": plain[key], "says": one.marks[key], "why": one.whys.get(key, "")} for key in one.values
        },
        "command": settings.model_copy(update={"recipe": None}).command(),
    }


def recipe_text(one: Mapping[str, Any]) -> str:
    """What it is, what to expect, every setting with who says so, and the command in full."""
    rows = [
        {"setting": name, "value": _value(name, told["value"]), "says": told["says"] or "-", "why": told["why"]}
        for name, told in one["settings"].items()
    ]
    figures = [f"{name} {value}" for name, value in one["expect"].items() if name not in (_SAYS, _BRIEF)]
    expect = [*([one["expect"][_SAYS]] if _SAYS in one["expect"] else []), *figures]
    parts = [
        f"{one['name']}: {one['about']}" if one["about"] else one["name"],
        *(["Expect\n" + "\n".join(f"  {line}" for line in expect)] if expect else []),
        table(rows),
        f"The same without the recipe:\n  {one['command']}",
    ]
    return "\n\n".join(parts)


def plan_text(result: Mapping[str, Any]) -> str:
    """What each road would cost, and the one line of what would be done."""
    rows = [
        {
            "road": NAMES[row["road"]],
            "epochs": "-" if row["epochs"] is None else str(row["epochs"]),
            "time": told_seconds(row["seconds"]),
            "memory": f"{row['memory_bytes'] / 1e9:.1f} GB",
            "disk": f"{row['disk_bytes'] / 1e6:,.0f} MB",
            **({} if result["budget"] is None else {"fits": "yes" if row["fits"] else "no"}),
        }
        for row in result["roads"]
    ]
    return f"{table(rows, right=('epochs', 'time', 'memory', 'disk'))}\n\n{result['would']}"


def _brief(expect: Mapping[str, Any]) -> str:
    if "test_accuracy" in expect:
        return f"test accuracy {expect['test_accuracy']}"
    return str(expect.get(_BRIEF, "")) or "-"


def _value(name: str, value: object) -> str:
    if value is None:
        return _OPEN.get(name, "as the weights ask")
    return ("yes" if value else "no") if isinstance(value, bool) else spelt(value)
