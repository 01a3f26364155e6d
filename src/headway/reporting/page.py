"""report.html of a run or of a comparison: one page that needs nothing else, drawn from the files beside it."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway import files
from headway.errors import HeadwayError
from headway.reporting import answers, making
from headway.reporting.advice import advice
from headway.reporting.comparison import read_comparison, view
from headway.reporting.feature_map import feature_map
from headway.reporting.learning import learning
from headway.reporting.records import read_run
from headway.reporting.search import search
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, parted, shortened, shown
from headway.reporting.trust import trust

if TYPE_CHECKING:
    import jinja2

SCRIPTS, STYLES = ("classes.js", "cells.js", "map.js"), ("report.css", "map.css")  # of a run's report, in order


def write_report(run: Path) -> Path:
    """Draw `run`/report.html from the files of the run folder `run`, whole or not at all; returns its path.

    The same files give the same bytes. Raises Refused where `run` has no evaluation.json or one of another schema,
    HeadwayError where a file is damaged.
    """
    path = run / "report.html"
    files.write_text(path, draw(run))
    return path


def draw(run: Path) -> str:
    """The text of the report of the run folder `run`; raises as `write_report`."""
    record = read_run(run)
    script = "".join(template(name) for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        environment()
        .get_template("report.html")
        .render(
            style=Safe("".join(template(name) for name in STYLES)),
            script=Safe(script),
            script_digest=digest,
            headline=answers.headline(record),
            advice=advice(record),
            failures=answers.failures(record),
            confidence=answers.confidence(record),
            trust=trust(record),
            map=feature_map(record),
            search=search(run),
            learning=learning(record),
            data=making.data(record),
            making=making.making(record),
        )
    )


def write_comparison_report(folder: Path) -> Path:
    """Draw `folder`/report.html from `folder`/comparison.json alone, whole or not at all; returns its path.

    Raises Refused where there is no comparison.json or one of another schema, HeadwayError where it is damaged.
    """
    path = folder / "report.html"
    files.write_text(path, draw_comparison(folder))
    return path


def draw_comparison(folder: Path) -> str:
    """The text of the page of the comparison in `folder`; raises as `write_comparison_report`."""
    value = read_comparison(folder)
    try:
        comparison = view(value)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise HeadwayError(
            f"{folder / 'comparison.json'} is damaged ({error!r}). Make it again: headway compare"
        ) from error
    style = Safe(template("report.css"))
    return environment().get_template("comparison.html").render(style=style, script="", c=comparison)


def environment() -> jinja2.Environment:
    """How templates are filled: names become readable text, then escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shortened"] = shortened
    environment.filters["parted"] = parted
    return environment


def template(name: str) -> str:
    """The text of a file of `templates`."""
    return resources("headway.reporting").joinpath("templates", name).read_text("utf-8")


def _printed(value: Any) -> Any:
    """What a template prints: names become readable text before jinja2 escapes them, None becomes a dash."""
    if value is None:
        return NOTHING
    return value if hasattr(value, "__html__") else shown(value)
