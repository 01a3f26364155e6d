"""How it learned: the path over L2 or the curves over epochs, what was compared, what was trained and what was not.

Each function turns parts of the run's files into a frozen view that a template prints. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting import curves
from headway.reporting.curves import Line, Mark
from headway.reporting.records import Run, Step, chosen_setting, kept_epochs
from headway.reporting.svg import Safe
from headway.reporting.text import NOTHING, count, interval, is_number, number, plain, seconds

MOST_STEPS = 400

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Learning:
    """Section 6: panels of curves, then the rows of what was compared; the kept one is marked.

    strategy  what was trained, in words;  frozen  the proof of what was not;  moving  how training was measured
    facts     of a network that was trained: what, how long, how it ended
    tried     with a budget: what was tried, what it took, why it stopped
    """

    why: str
    caution: str
    paired: str
    strategy: str
    frozen: str
    moving: str
    facts: tuple[tuple[str, str], ...]
    panels: tuple[Safe, ...]
    best: tuple[tuple[bool, Cells], ...]
    candidates: tuple[tuple[bool, Cells], ...]
    steps: tuple[tuple[bool, Cells], ...]
    epochs: bool
    tried: tuple[str, ...] = ()


def is_network(run: Run) -> bool:
    """Whether the network itself was trained, not a head alone."""
    return (run.evaluation.get("result") or {}).get("strategy") in ("finetune", "scratch")


def told_strategy(run: Run) -> str:
    """What a run on one of the roads trained, in words; empty for a probe."""
    strategy = (run.evaluation.get("result") or {}).get("strategy")
    if strategy == "scratch":
        return "The whole network was trained from random weights."
    if strategy != "finetune":
        return ""
    thaw, every = chosen_setting(run, "thaw"), chosen_setting(run, "thaw_every")
    if thaw == 0:
        what = "The head was trained"
    elif is_number(thaw):
        what = f"The head and the last {'stage' if thaw == 1 else f'{thaw} stages'} of the network were trained"
    else:
        what = "The pretrained network was trained on, all of it"
    if every:
        what += f", one more stage every {'epoch' if every == 1 else f'{plain(every)} epochs'}"
    init = chosen_setting(run, "head_init")
    starts = {"probe": ", from the head that was solved on its features", "random": ", from a random head"}
    return f"{what}{starts.get(str(init), '')}."


def _frozen_sentence(frozen: Mapping[str, Any], run: Run) -> str:
    before, after, tensors = frozen.get("before"), frozen.get("after"), frozen.get("tensors")
    if not before or not after or tensors == 0:
        return ""
    what = "the file of the frozen network" if tensors is None else f"the {count(tensors)} frozen tensors"
    if chosen_setting(run, "thaw") == "all" and chosen_setting(run, "freeze_bn") is True and tensors is not None:
        what += " (what its BatchNorm layers hold)"
    if before == after:
        return f"Frozen is frozen: {what} had the same digest before and after training, {str(before)[:16]}."
    if chosen_setting(run, "thaw_every"):
        return f"The digest of {what} changed while training, as they were thawed step by step."
    return f"The digest of {what} changed while training. That should not be: please report it."


def _moving_sentence(run: Run) -> str:
    """Why the line of training may lie on the wrong side of validation."""
    augment = chosen_setting(run, "augment")
    strong = is_network(run) and augment not in (None, "none")
    dropout = chosen_setting(run, "dropout")
    dropped = any(is_number(share) and share for share in (dropout if isinstance(dropout, list) else [dropout]))
    reasons = [f"on augmented images ({plain(augment)})"] if strong else []
    why = " and ".join([*reasons, *(["with dropout"] if dropped else [])])
    return f"Training is measured while the weights move, {why}, so it may look worse than validation." if why else ""


def _training_facts(run: Run) -> Iterator[tuple[str, str]]:
    result = run.evaluation.get("result") or {}
    training = result.get("training") or {}
    if not training:
        return
    yield "trained", f"{count(result.get('trainable'))} of {count(result.get('parameters'))} parameters"
    most = chosen_setting(run, "epochs")
    at_most = f" of at most {count(most)}" if is_number(most) else ""
    yield "epochs", f"{count(training.get('epochs'))}{at_most}, epoch {count(training.get('kept'))} kept"
    ends = {"epochs": "with the last epoch", "patience": "early, as no better epoch came", "target": "at the target"}
    ends["time"] = "as the time for it was used up"
    yield "ended", ends.get(str(training.get("stopped")), plain(training.get("stopped")))
    yield "learning rate", f"{training['lr']:.3g}" if is_number(training.get("lr")) else NOTHING
    for name in ("optimizer", "schedule", "batch", "augment"):
        if chosen_setting(run, name) is not None:
            yield name, plain(chosen_setting(run, name))
    if training.get("fed"):
        yield "fed with", plain(training["fed"])
    yield "time of the epochs", seconds(training.get("seconds"))
    for change in training.get("micro_batches") or ():
        if isinstance(change, list) and len(change) == 2:
            yield "memory ran out", f"from step {count(change[0])} on {count(change[1])} images at once"


def learning(run: Run) -> Learning:
    """The L2 path, or the curves over epochs, and the candidates side by side."""
    selection = run.evaluation.get("selection") or {}
    candidates = [] if is_network(run) else selection.get("candidates") or []
    epochs = kept_epochs(run)
    path = [step for step in run.history if step.kind == "path"]
    paths = _path_panels(path, candidates, selection)
    panels = [*(_epoch_panels(epochs) if epochs else ()), *paths]
    compared = [(bool(c.get("chosen")), _candidate(c)) for c in candidates]
    told = is_network(run) and "On the validation images" in str(selection.get("why"))
    return Learning(
        why=str(selection.get("why") or ""),
        caution="" if selection.get("folds") else _caution(candidates),  # there more than validation decided
        paired="" if told else _paired_sentence(selection.get("paired"), "" if is_network(run) else "taps "),
        strategy=told_strategy(run),
        frozen=_frozen_sentence((run.evaluation.get("result") or {}).get("frozen") or {}, run),
        moving=_moving_sentence(run) if epochs else "",
        facts=tuple(_training_facts(run)),
        panels=tuple(panel for panel in panels if panel is not None),
        best=tuple((bool(c.get("chosen")), _candidate(c)) for c in _best_of_each(candidates)),
        candidates=tuple(compared),
        steps=tuple((step.best, _step(step)) for step in (epochs or path)[:MOST_STEPS]),
        epochs=bool(epochs),
        tried=_told_tried(run.evaluation.get("tried") or {}),
    )


def _told_tried(tried: Mapping[str, Any]) -> tuple[str, ...]:
    """The three lines that `fit --budget` told."""
    told = (str(tried.get(name) or "") for name in ("tried", "took", "stopped"))
    return tuple(f"{text[:1].upper()}{text[1:]}." for text in told if text)


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
    time = () if step.kind == "path" else (seconds(step.seconds),)
    return (*kind, *(number(value, 4) for value in measures), *time)


def _paired_sentence(paired: object, prefix: str) -> str:
    if not isinstance(paired, Mapping):
        return ""
    p = paired.get("p_value")
    names = [f"{prefix}{name}" for name in paired.get("names") or ()]
    who = f" of {' against '.join(names)}" if names else ""
    n = f"{count(paired['n'])} " if is_number(paired.get("n")) else ""
    measure = f"{paired['measure']} " if paired.get("measure") else ""
    words = f"Paired test{who} on the {n}validation images: {measure}difference {number(paired.get('difference'), 4)}"
    bounds = interval(paired.get("interval"), 4)
    return " ".join(part for part in (words, bounds) if part) + (f", p = {p:.2g}." if is_number(p) else ".")
