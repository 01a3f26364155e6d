"""The last sections of the report: what the data is like, how it was made.

Each function turns parts of the run's files into a frozen view that a template prints. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting import figures
from headway.reporting.findings import Finding, findings, left
from headway.reporting.records import Run
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, count, is_number, listed, plain, rounded, seconds

MOST_LISTED = 200  # set-aside files; the rest stands in audit.json
MOST_GROUPS = 50  # conflicts, straddling duplicates

Cells = tuple[str, ...]


@dataclass(frozen=True)
class ClassCount:
    """Images of one class by subset, and the bar of that."""

    name: str
    counts: tuple[str, str, str, str]
    bar: Safe


@dataclass(frozen=True)
class Data:
    """Section 7."""

    sentence: str
    counts: tuple[ClassCount, ...]
    set_aside: tuple[tuple[str, str], ...]
    more_set_aside: int
    conflicts: tuple[tuple[str, str], ...]
    straddling: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    called: tuple[tuple[str, str], ...]
    unlabelled: str
    findings: tuple[Finding, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Making:
    """Section 8."""

    command: str
    saved: str
    passed: str
    phases: tuple[tuple[str, str], ...]
    phase_bar: Safe | None
    settings: tuple[tuple[str, str, str], ...]
    model: tuple[tuple[str, str], ...]
    layers: tuple[Cells, ...]
    machine: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]


def data(run: Run) -> Data:
    """What was found, what was set aside and why, what is there twice."""
    audit = run.audit
    set_aside = [(str(item.get("name")), str(item.get("reason"))) for item in audit.get("set_aside") or ()]
    return Data(
        sentence=_found_sentence(audit, len(set_aside)),
        counts=tuple(class_counts(audit.get("counts") or {})),
        set_aside=tuple(set_aside[:MOST_LISTED]),
        more_set_aside=max(0, len(set_aside) - MOST_LISTED),
        conflicts=tuple(_groups(audit.get("conflicts") or (), "labels")),
        straddling=tuple(_groups(audit.get("straddling") or (), "subsets")),
        facts=tuple(data_facts(audit)),
        notes=tuple(str(note) for note in audit.get("notes") or ()),
        called=tuple((name, count(n)) for name, n in sorted(run.called.items(), key=lambda pair: (-pair[1], pair[0]))),
        unlabelled=count(audit.get("unlabelled")),
        findings=tuple(finding for finding in findings(audit, run.thumbnails) if finding.key != "damaged"),
        left=left(audit),
    )


def _found_sentence(audit: Mapping[str, Any], set_aside: int) -> str:
    if not audit:
        return "The run left no audit.json, so nothing is known about its files."
    ignored = sum((audit.get("ignored") or {}).values())
    words = f"{count(audit.get('found'))} image files found, {count(audit.get('accepted'))} accepted"
    words = f"{words}, {count(set_aside)} set aside."
    return f"{words} {count(ignored)} other files were ignored." if ignored else words


def class_counts(counts: Mapping[str, Mapping[str, int]]) -> Iterator[ClassCount]:
    """The images of each class by subset."""
    rows = {name: [int(subsets.get(key) or 0) for key in ("train", "val", "test")] for name, subsets in counts.items()}
    most = max((sum(row) for row in rows.values()), default=0)
    for name, row in rows.items():
        train, val, test = (count(n) for n in row)
        yield ClassCount(str(name), (train, val, test, count(sum(row))), figures.count_bar(row, most))


def _groups(groups: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[str, str]]:
    for group in groups[:MOST_GROUPS]:
        yield (
            " = ".join(str(name) for name in group.get("names") or ()),
            " / ".join(str(x) for x in group.get(key) or ()),
        )


def data_facts(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the files are like, in pairs of a name and a value."""
    sizes = audit.get("sizes") or {}
    for side in ("width", "height"):
        if sizes.get(side):
            low, middle, high = (count(pixels) for pixels in sizes[side])
            yield side, f"median {middle} px, {low} to {high}"
    if audit.get("formats"):
        yield "formats", ", ".join(f"{name} {count(n)}" for name, n in audit["formats"].items())
    if audit:
        if not isinstance(audit.get("duplicates"), Mapping):
            yield "exact duplicates", _grouped(audit.get("duplicates") or 0)
        yield "same image, two labels", _grouped(len(audit.get("conflicts") or ()))
        yield "duplicates across subsets", _grouped(len(audit.get("straddling") or ()))
    if audit.get("ignored"):
        yield "ignored", ", ".join(f"{name} {count(n)}" for name, n in audit["ignored"].items())
    if audit.get("brought"):
        yield "subsets that the data brought", listed(audit["brought"])


def _grouped(n: int) -> str:
    return "none" if not n else "1 group" if n == 1 else f"{count(n)} groups"


def making(run: Run) -> Making:
    """Settings, model, machine and time: what one needs to make it again."""
    evaluation, resolved = run.evaluation, run.resolved
    spent = (evaluation.get("result") or {}).get("seconds") or {}
    phases = [(name, float(spent[name])) for name in spent if name != "total" and is_number(spent[name])]
    rest = (spent.get("total") or 0.0) - sum(size for _, size in phases)
    phases += [("starting and the rest", rest)] if rest > 0.005 else []
    words = ", ".join(f"{name} {seconds(size)}" for name, size in phases)
    model = evaluation.get("model") or {}
    used = resolved.get("settings") or {}
    special = ("schema", "settings", "machine", "versions")
    return Making(
        command=str(evaluation.get("command") or ""),
        saved=str((evaluation.get("saved") or {}).get("text") or ""),
        passed=_pass_sentence(evaluation.get("result") or {}),
        phases=tuple((name, seconds(size)) for name, size in [*phases, ("total", spent.get("total"))]),
        phase_bar=figures.stacked_bar(phases, f"Seconds per phase: {words}.") if phases else None,
        settings=tuple(_settings(dict(flat(run.asked)), dict(flat(used)))),
        model=tuple(_model_facts(model, evaluation.get("selection") or {})),
        layers=tuple(_layer(layer) for layer in model.get("layers") or ()),
        machine=tuple(flat(resolved.get("machine") or {})),
        versions=tuple(flat(resolved.get("versions") or {})),
        others=tuple(flat({key: value for key, value in resolved.items() if key not in special})),
    )


def _pass_sentence(result: Mapping[str, Any]) -> str:
    features = result.get("features") or {}
    if not features:
        return ""
    kind = "Outputs of the trained network for" if result.get("strategy") == "scratch" else "Features of"
    words = f"{kind} {count(features.get('computed'))} images computed"
    words = f"{words}, of {count(features.get('reused'))} taken from the cache"
    rate = features.get("images_per_second")
    speed = f", {count(rate)} images a second" if is_number(rate) else ""
    ready = (
        f", ready after {seconds(features.get('prepare_seconds'))}"
        if is_number(features.get("prepare_seconds"))
        else ""
    )
    engine = " ".join(plain(features[key]) for key in ("engine", "precision") if features.get(key))
    return f"{words}; engine {engine}{ready}{speed}."


def flat(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as rows of `a · b` and text; lists of mappings become one text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{prefix} · {key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = (
            " ".join(plain(part) for part in item.values()) if isinstance(item, Mapping) else plain(item)
            for item in value
        )
        yield prefix, "; ".join(items)
    else:
        yield prefix or "is", plain(value)


def _settings(asked: Mapping[str, str], used: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys([*used, *asked]):
        yield name, used.get(name, NOTHING), asked.get(name, "")


def _model_facts(model: Mapping[str, Any], selection: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not model:
        return
    yield "backbone", plain(model.get("backbone"))
    yield "weights", f"{plain(model.get('weights_origin'))}, {plain(model.get('weights_digest'))[:16]}"
    yield "licence of the weights", plain(model.get("licence"))
    yield "input", f"{plain(model.get('input'))} × {plain(model.get('input'))} px"  # noqa: RUF001
    yield "head", f"{plain(selection.get('head'))} on taps {plain(selection.get('taps'))}"
    yield "features per image", f"{count(model.get('feature_dim'))} ({_bytes(model.get('bytes_per_image'))})"
    yield "parameters", f"{count(model.get('parameters'))}, of which trained {count(model.get('trainable'))}"
    yield "multiply-adds per image", rounded(model.get("macs"))


def _bytes(size: object) -> str:
    words = rounded(size)
    return f"{words}B" if words[-1:].isalpha() else f"{words} B"


def _layer(layer: Mapping[str, Any]) -> Cells:
    shape = layer.get("shape")
    words = " × ".join(plain(side) for side in shape) if isinstance(shape, list) else plain(shape)  # noqa: RUF001
    return plain(layer.get("name")), words, count(layer.get("parameters"))
