"""What the verbs that end in a JSON object return: that object, short when it is printed, drawn in a notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway.advice.plan import NAMES, told_seconds
from headway.displays.frame import framed, lead, line, quiet, table
from headway.displays.judgement import judged
from headway.evaluation.evaluation import Evaluation
from headway.reporting.figures import interval_line, range_bar
from headway.reporting.findings import findings
from headway.reporting.panels import difference_bar
from headway.reporting.svg import Safe
from headway.reporting.text import count, interval, listed, number, rounded, seconds, shortened


class Fitted(dict[str, Any]):
    """What `fit` returns: its final JSON, with the keys of `headway fit --json`."""

    def __repr__(self) -> str:
        return f"<Fitted: {_headline(self)}, {self['run']}>"

    def _repr_html_(self) -> str:
        evaluation = _evaluation(Path(self["run"]))
        parts: tuple[Safe, ...]
        if evaluation is None:
            test = self["test"]
            parts = (lead(_headline(self)), interval_line(test["accuracy"], test["interval"], None))
        else:
            parts = judged(evaluation)
        n = self["n"]
        made = (
            f"{shortened(self['backbone'], 40)}, {self['strategy']} · trained on {count(n['train'])} images, chosen on "
            f"{count(n['val'])}, {count(n['set_aside'])} set aside · {seconds(self['seconds'].get('total'))}"
        )
        return framed(*parts, quiet(made), quiet(f"report {Path(self['run']) / 'report.html'} · {self['bundle']}"))


class Compared(dict[str, Any]):
    """What `compare` returns: the content of comparison.json."""

    def __repr__(self) -> str:
        names = ", ".join(f"{shortened(own['name'], 30)} {number(_test(own))}" for own in self["choices"])
        return f"<Compared: {names}>"

    def _repr_html_(self) -> str:
        rows = [
            (
                shortened(own["name"], 30),
                range_bar(_test(own), own["test"]["interval"]),
                f"{number(_test(own))} {interval(own['test']['interval'])}",
                number((own["val"] or {}).get("accuracy")),
                rounded(own["trainable"]),
                seconds(own["seconds"]["total"]),
            )
            for own in self["choices"]
        ]
        head = ("", "test accuracy", "[95 %]", "validation", "trained", "time")
        said = [line(text) for text in self["verdict"]["sentences"]]
        return framed(*said, table(head, rows, numbers=(3, 4, 5)), *self._pairs(), *map(quiet, self["notes"]))

    def _pairs(self) -> tuple[Safe, ...]:
        bounds = [pair["mcnemar"]["interval"] for pair in self["pairs"]]
        most = max((abs(end) for pair in bounds for end in pair), default=0.0) or 1.0
        rows = [
            (
                f"{shortened(pair['a'], 30)} less {shortened(pair['b'], 30)}",
                difference_bar(pair["difference"], own, most, pair["better"] is not None),
                f"{number(pair['difference'])} {interval(own)}",
                "shown" if pair["better"] is not None else "not shown",
            )
            for pair, own in zip(self["pairs"], bounds, strict=True)
        ]
        return (table(("pair", "difference in accuracy", "[95 %]", "a difference is"), rows),)


class Audited(dict[str, Any]):
    """What `audit` returns: the content of audit.json, its page, and the list that was written."""

    def __repr__(self) -> str:
        wrong = [finding.title.lower() for finding in findings(self, {}) if not finding.fine]
        return f"<Audited: {count(self['found'])} images, {listed(wrong) or 'nothing found'}>"

    def _repr_html_(self) -> str:
        every = findings(self, {})
        rows = [(finding.title, finding.sentence, _first(finding.items)) for finding in every if not finding.fine]
        fine = [finding.title.lower() for finding in every if finding.fine]
        parts = [lead(f"{count(self['found'])} images looked at")]
        parts += [table(("kind", "found", "first"), rows)] if rows else [line("Nothing wrong was found.")]
        parts += [quiet(f"Nothing found of: {listed(fine)}.")] if fine else []
        written = f" · list without suspects {self['written']}" if self["written"] else ""
        return framed(*parts, quiet(f"page {self['page']}{written}"))


class Planned(dict[str, Any]):
    """What `plan` returns: seconds, memory and disk of each road, as `headway plan --json`."""

    def __repr__(self) -> str:
        roads = ", ".join(f"{NAMES[own['road']]} {told_seconds(own['seconds'])}" for own in self["roads"])
        return f"<Planned: {roads}>"

    def _repr_html_(self) -> str:
        longest = max(own["seconds"] for own in self["roads"]) or 1.0
        rows = [
            (
                NAMES[own["road"]],
                range_bar(own["seconds"], [0.0, own["seconds"]], high=longest),
                told_seconds(own["seconds"]),
                f"{own['memory_bytes'] / 1e9:.1f} GB",
                f"{own['disk_bytes'] / 1e6:,.0f} MB",
                "" if own["fits"] is None else "yes" if own["fits"] else "no",
            )
            for own in self["roads"]
        ]
        head = ("road", "would take", "", "memory", "disk", "" if self["budget"] is None else "fits")
        return framed(line(self["would"]), table(head, rows, numbers=(3, 4)))


def _test(choice: Mapping[str, Any]) -> Any:
    return choice["test"]["accuracy"]


def _headline(result: Mapping[str, Any]) -> str:
    test = result["test"]
    return f"accuracy {number(test['accuracy'])} {interval(test['interval'])} on {count(test['n'])} test images"


def _first(items: tuple[Any, ...]) -> str:
    return " · ".join((shortened(items[0].name, 40), *items[0].lines)) if items else ""


def _evaluation(run: Path) -> Evaluation | None:
    """The judgement of the test set of a run; None where its folder was moved or changed: the headline is enough."""
    try:
        value = json.loads((run / "evaluation.json").read_bytes())
        return Evaluation.from_json(value["subsets"]["test"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
