"""audit.html: what was found wrong with the data, drawn only from the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import files
from headway.errors import Refused
from headway.reporting.findings import Finding, findings, left
from headway.reporting.making import ClassCount, class_counts, data_facts
from headway.reporting.page import environment, template
from headway.reporting.records import SCHEMA, read_object, read_thumbnails
from headway.reporting.svg import Safe
from headway.reporting.text import count, day, seconds


@dataclass(frozen=True)
class AuditView:
    """The page: `lead` in one sentence, then a strip of facts, the findings, and the data itself."""

    title: str
    day: str
    lead: str
    strip: tuple[tuple[str, str, str], ...]
    found: tuple[Finding, ...]
    fine: tuple[Finding, ...]
    left: tuple[str, ...]
    counts: tuple[ClassCount, ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    command: str


def write_audit(folder: Path) -> Path:
    """Draw `folder`/audit.html from its audit.json and thumbnails.parquet, whole or not at all; returns its path.

    The same files give the same bytes. Raises Refused where there is no audit.json or one of another schema.
    """
    path = folder / "audit.html"
    files.write_text(path, draw_audit(folder))
    return path


def draw_audit(folder: Path) -> str:
    """The text of the page of the audit in `folder`; raises as `write_audit`."""
    place = folder / "audit.json"
    if not place.is_file():
        raise Refused(f"{folder} has no audit.json, so there is nothing to show. Make one first: headway audit")
    audit = read_object(place)
    if audit.get("schema") != SCHEMA:
        raise Refused(f"{place} has schema {audit.get('schema')}; this headway reads schema {SCHEMA}.")
    view = _view(audit, read_thumbnails(folder / "thumbnails.parquet"), folder.name)
    return environment().get_template("audit.html").render(style=Safe(template("report.css")), script="", a=view)


def _view(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes], name: str) -> AuditView:
    every = findings(audit, thumbnails)
    found = tuple(finding for finding in every if not finding.fine)
    return AuditView(
        title=str(audit.get("title") or name),
        day=day(audit.get("created") or ""),
        lead=_lead(found),
        strip=tuple(_strip(audit)),
        found=found,
        fine=tuple(finding for finding in every if finding.fine),
        left=left(audit),
        counts=tuple(class_counts(audit.get("counts") or {})),
        facts=tuple(data_facts(audit)),
        notes=tuple(str(note) for note in audit.get("notes") or ()),
        command=str(audit.get("command") or ""),
    )


def _lead(found: tuple[Finding, ...]) -> str:
    if not found:
        return "Nothing wrong was found"
    words = [finding.title.lower() for finding in found]
    return "To look at: " + (", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0])


def _strip(audit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    aside = len(audit.get("set_aside") or ())
    spent = audit.get("seconds") or {}
    facts = [
        ("images", count(audit.get("accepted")), f"{count(aside)} set aside" if aside else ""),
        ("classes", count(len(audit.get("classes") or audit.get("counts") or ())), ""),
    ]
    if audit.get("backbone"):
        facts.append(("seen through", str(audit["backbone"]), ""))
    if spent:
        parts = " · ".join(f"{name} {seconds(value)}" for name, value in spent.items() if name != "total")
        facts.append(("time", seconds(spent.get("total")), parts))
    return facts
