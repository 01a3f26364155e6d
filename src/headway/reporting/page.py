"""report.html: one page that needs nothing else, drawn from the files of a run folder."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from headway import files
from headway.reporting import answers, making
from headway.reporting.records import read_run
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, shortened, shown


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
    import jinja2

    record = read_run(run)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shortened"] = shortened
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template("report.html").render(
        style=Safe(_template("report.css")),
        script=Safe(script),
        script_digest=digest,
        headline=answers.headline(record),
        advice=answers.advice(record),
        failures=answers.failures(record),
        confidence=answers.confidence(record),
        learning=making.learning(record),
        data=making.data(record),
        making=making.making(record),
    )


def _template(name: str) -> str:
    return resources("headway.reporting").joinpath("templates", name).read_text("utf-8")


def _printed(value: Any) -> Any:
    """What a template prints: names become readable text before jinja2 escapes them, None becomes a dash."""
    if value is None:
        return NOTHING
    return value if hasattr(value, "__html__") else shown(value)
