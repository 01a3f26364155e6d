"""The second half of the report: how it learned, what the data is like, how it was made.

Each function turns parts of the run's files into a frozen view that a template prints. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting import curves, figures
from headway.reporting.curves import Line, Mark
from headway.reporting.records import Run, Step
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, count, interval, is_number, listed, number, plain, rounded, seconds

MOST_LISTED = 200  # set-aside files; the rest stands in audit.json
MOST_GROUPS = 50  # conflicts, straddling duplicates
MOST_STEPS = 400

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Learning:
    """Section 6: panels of curves, then the rows of what was compared; the kept one is marked."""

    why: str
    caution: str
    paired: str
    kind: str
    panels: tuple[Safe, ...]
    best: tuple[tuple[bool, Cells], ...]
    candidates: tuple[tuple[bool, Cells], ...]
    steps: tuple[tuple[bool, Cells], ...]
    epochs: bool


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


def learning(run: Run) -> Learning:
    """The L2 path, or the curves over epochs, and the candidates side by side."""
    selection = run.evaluation.get("selection") or {}
    candidates = selection.get("candidates") or []
    epochs = _kept_epochs(run.history, selection)
    path = [step for step in run.history if step.kind == "path"]
    paths = _path_panels(path, candidates, selection)
    panels = [*(_epoch_panels(epochs) if epochs else ()), *paths]
    compared = [(bool(c.get("chosen")), _candidate(c)) for c in candidates]
    return Learning(
        why=str(selection.get("why") or ""),
        caution=_caution(candidates),
        paired=_paired_sentence(selection.get("paired")),
        kind="epochs" if epochs else "path",
        panels=tuple(panel for panel in panels if panel is not None),
        best=tuple((bool(c.get("chosen")), _candidate(c)) for c in _best_of_each(candidates)),
        candidates=tuple(compared),
        steps=tuple((step.best, _step(step)) for step in (epochs or path)[:MOST_STEPS]),
        epochs=bool(epochs),
    )


def _kept_epochs(history: Sequence[Step], selection: Mapping[str, Any]) -> list[Step]:
    """The epochs of one training: the chosen one where several heads were trained."""
    groups: dict[tuple[str, float | None], list[Step]] = {}
    for step in history:
        if step.kind == "epoch":
            groups.setdefault((step.taps, step.l2), []).append(step)
    chosen = groups.get((str(selection.get("taps")), selection.get("l2")))
    return chosen or next(reversed(groups.values()), [])


def _epoch_panels(steps: Sequence[Step]) -> list[Safe | None]:
    best = next((step for step in steps if step.best and step.step is not None), None)
    panels = []
    for title, train, val in (("loss", "train_loss", "val_loss"), ("accuracy", "train_accuracy", "val_accuracy")):
        lines = [Line("training", _points(steps, train)), Line("validation", _points(steps, val), main=True)]
        height = getattr(best, val) if best else None
        mark = Mark(best.step or 0.0, height, f"kept: epoch {best.step:g}") if best and height is not None else None
        panels.append(curves.chart(title, "epoch", lines, mark=mark))
    return panels


def _points(steps: Sequence[Step], column: str) -> tuple[tuple[float, float], ...]:
    pairs = ((step.step, getattr(step, column)) for step in steps)
    return tuple((float(at), float(value)) for at, value in pairs if at is not None and value is not None)


def _path_panels(
    path: Sequence[Step], candidates: Sequence[Mapping[str, Any]], selection: Mapping[str, Any]
) -> list[Safe | None]:
    """One line per choice of taps over L2, from history.csv, else from the candidates."""
    tried = [(step.taps, step.l2, step.val_loss, step.val_accuracy) for step in path]
    tried = tried or [
        (str(c.get("taps")), c.get("l2"), c.get("val_log_loss"), c.get("val_accuracy")) for c in candidates
    ]
    if len({l2 for _, l2, _, _ in tried if l2}) < 2:
        return []
    panels = []
    for title, column in (("validation log-loss", 0), ("validation accuracy", 1)):
        lines: dict[str, list[tuple[float, float]]] = {}
        mark = None
        for row in sorted(tried, key=lambda row: (row[0], row[1] or 0.0)):
            taps, l2, value = row[0], row[1], (row[2], row[3])[column]
            if l2 is None or l2 <= 0 or value is None:  # a logarithmic axis has no place for zero
                continue
            lines.setdefault(taps, []).append((l2, value))
            if (taps, l2) == (selection.get("taps"), selection.get("l2")):
                mark = Mark(l2, value, f"chosen: L2 {l2:.3g}")
        drawn = [Line(f"taps {taps}", tuple(points), taps == selection.get("taps")) for taps, points in lines.items()]
        panels.append(curves.chart(title, "L2", drawn, mark=mark, log=True))
    return panels


def _best_of_each(candidates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each choice of taps the chosen candidate, else the one with the lowest validation log-loss."""
    best: dict[str, Mapping[str, Any]] = {}
    for c in sorted(candidates, key=lambda c: (not c.get("chosen"), c.get("val_log_loss") or 0.0)):
        best.setdefault(str(c.get("taps")), c)
    return list(best.values())


def _caution(candidates: Sequence[Mapping[str, Any]]) -> str:
    """Said where the numbers do not show the chosen candidate as the best: fits that only compare may be shorter."""
    losses = [(c["val_log_loss"], bool(c.get("chosen"))) for c in candidates if is_number(c.get("val_log_loss"))]
    own = min((loss for loss, chosen in losses if chosen), default=None)
    lower = sum(1 for loss, chosen in losses if not chosen and own is not None and loss < own)
    if own is None or not lower:
        return ""
    others = "1 other candidate shows" if lower == 1 else f"{count(lower)} other candidates show"
    return f"The chosen head has a validation log-loss of {number(own, 4)}; {others} a lower one, as recorded."


def _candidate(c: Mapping[str, Any]) -> Cells:
    return (
        str(c.get("taps")),
        f"{c['l2']:.3g}" if is_number(c.get("l2")) else NOTHING,
        number(c.get("val_log_loss"), 4),
        number(c.get("val_accuracy"), 4),
        count(c.get("iterations")),
    )


def _step(step: Step) -> Cells:
    first = f"{step.step:g}" if step.step is not None else NOTHING
    kind = (first, f"{step.lr:.3g}" if step.lr is not None else NOTHING)
    if step.kind == "path":
        kind = (step.taps, f"{step.l2:.3g}" if step.l2 is not None else NOTHING)
    measures = (step.train_loss, step.train_accuracy, step.val_loss, step.val_accuracy)
    return (*kind, *(number(value, 4) for value in measures))


def _paired_sentence(paired: object) -> str:
    if not isinstance(paired, Mapping):
        return ""
    p = paired.get("p_value")
    names = [f"taps {name}" for name in paired.get("names") or ()]
    who = f" of {' against '.join(names)}" if names else ""
    n = f"{count(paired['n'])} " if is_number(paired.get("n")) else ""
    measure = f"{paired['measure']} " if paired.get("measure") else ""
    words = f"Paired test{who} on the {n}validation images: {measure}difference {number(paired.get('difference'), 4)}"
    bounds = interval(paired.get("interval"), 4)
    return " ".join(part for part in (words, bounds) if part) + (f", p = {p:.2g}." if is_number(p) else ".")


def data(run: Run) -> Data:
    """What was found, what was set aside and why, what is there twice."""
    audit = run.audit
    set_aside = [(str(item.get("name")), str(item.get("reason"))) for item in audit.get("set_aside") or ()]
    return Data(
        sentence=_found_sentence(audit, len(set_aside)),
        counts=tuple(_class_counts(audit.get("counts") or {})),
        set_aside=tuple(set_aside[:MOST_LISTED]),
        more_set_aside=max(0, len(set_aside) - MOST_LISTED),
        conflicts=tuple(_groups(audit.get("conflicts") or (), "labels")),
        straddling=tuple(_groups(audit.get("straddling") or (), "subsets")),
        facts=tuple(_data_facts(audit)),
        notes=tuple(str(note) for note in audit.get("notes") or ()),
        called=tuple((name, count(n)) for name, n in sorted(run.called.items(), key=lambda pair: (-pair[1], pair[0]))),
        unlabelled=count(audit.get("unlabelled")),
    )


def _found_sentence(audit: Mapping[str, Any], set_aside: int) -> str:
    if not audit:
        return "The run left no audit.json, so nothing is known about its files."
    ignored = sum((audit.get("ignored") or {}).values())
    words = f"{count(audit.get('found'))} image files found, {count(audit.get('accepted'))} accepted"
    words = f"{words}, {count(set_aside)} set aside."
    return f"{words} {count(ignored)} other files were ignored." if ignored else words


def _class_counts(counts: Mapping[str, Mapping[str, int]]) -> Iterator[ClassCount]:
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


def _data_facts(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sizes = audit.get("sizes") or {}
    for side in ("width", "height"):
        if sizes.get(side):
            low, middle, high = (count(pixels) for pixels in sizes[side])
            yield side, f"median {middle} px, {low} to {high}"
    if audit.get("formats"):
        yield "formats", ", ".join(f"{name} {count(n)}" for name, n in audit["formats"].items())
    if audit:
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
        passed=_pass_sentence((evaluation.get("result") or {}).get("features") or {}),
        phases=tuple((name, seconds(size)) for name, size in [*phases, ("total", spent.get("total"))]),
        phase_bar=figures.stacked_bar(phases, f"Seconds per phase: {words}.") if phases else None,
        settings=tuple(_settings(dict(flat(run.asked)), dict(flat(used)))),
        model=tuple(_model_facts(model, evaluation.get("selection") or {})),
        layers=tuple(_layer(layer) for layer in model.get("layers") or ()),
        machine=tuple(flat(resolved.get("machine") or {})),
        versions=tuple(flat(resolved.get("versions") or {})),
        others=tuple(flat({key: value for key, value in resolved.items() if key not in special})),
    )


def _pass_sentence(features: Mapping[str, Any]) -> str:
    if not features:
        return ""
    words = f"Features of {count(features.get('computed'))} images computed"
    words = f"{words}, of {count(features.get('reused'))} taken from the cache"
    rate = features.get("images_per_second")
    speed = f", {count(rate)} images a second" if is_number(rate) else ""
    ready = (
        f", ready after {seconds(features.get('prepare_seconds'))}"
        if is_number(features.get("prepare_seconds"))
        else ""
    )
    return f"{words}; engine {plain(features.get('engine'))}{ready}{speed}."


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
