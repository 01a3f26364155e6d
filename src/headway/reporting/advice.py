"""What to do next, beside accuracy on what was learnt from and on what had not been seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.reporting import figures
from headway.reporting.curves import Frame, Line, chart
from headway.reporting.records import Run, kept_step
from headway.reporting.svg import Safe
from headway.reporting.text import count, interval, is_number, number

_FAR = 0.05  # of accuracy between training and test images; less is common and does little harm


@dataclass(frozen=True)
class Row:
    """A number with its interval and n, and its place on a line."""

    name: str
    value: str
    interval: str
    n: str
    bar: Safe


@dataclass(frozen=True)
class Advice:
    """Section 3: the sentence, accuracy by subset as its evidence, and what a wide gap between them says.

    more   further advice, a sentence each
    curve  validation accuracy over the number of training images, carried on to twice as many; None without one
    """

    text: str
    rows: tuple[Row, ...]
    axis: tuple[str, str]
    caption: str
    gap: str
    more: tuple[str, ...] = ()
    curve: Safe | None = None


def advice(run: Run) -> Advice:
    """The run's own suggestion, beside accuracy on what it learnt from and on what it had not seen."""
    evaluation, subsets = run.evaluation, run.evaluation.get("subsets") or {}
    n = (evaluation.get("result") or {}).get("n") or {}
    found = [*_training(run, n.get("train"))]
    for key, words in (("val", "validation"), ("test", "test")):
        e = subsets.get(key) or {}
        if is_number(e.get("accuracy")):
            found.append((words, e["accuracy"], e.get("interval"), f"n={count(e.get('n'))}"))
    low = min([bounds[0] if bounds else value for _, value, bounds, _ in found], default=0.0)
    low = max(0.0, int(low * 20 - 0.5) / 20)
    rows = tuple(
        Row(name, number(v), interval(b), size, figures.range_bar(v, b, low=low, quiet=name != "test"))
        for name, v, b, size in found
    )
    gap = _gap_sentence(subsets.get("train") or {}, subsets.get("test") or {})
    nothing = "This run suggests nothing further: none of what it measured says that more work would pay."
    found_too = evaluation.get("advice") or {}
    told = [*(found_too.get("sentences") or ()), *([evaluation["next"]] if evaluation.get("next") else [])]
    classes = tuple(str(name) for name in evaluation.get("classes") or ())
    sentences = [_sentence(str(line), classes) for line in told]
    text = sentences[0] if sentences else gap or nothing
    seen = "Accuracy on what chose the model, and on what it had never seen."
    caption = "Accuracy on what it learnt from, on what chose the model, and on what it had never seen. "
    caption += "A wide gap from the first to the last says that more data helps more than a bigger head."
    learnt = any(name == "training" for name, *_ in found)
    gap = gap if gap != text else ""
    curve = _curve((found_too.get("evidence") or {}).get("curve") or {})
    return Advice(text, rows, (f"{low:g}", "1"), caption if learnt else seen, gap, tuple(sentences[1:]), curve)


def _sentence(text: str, classes: tuple[str, ...]) -> str:
    """A line of the terminal as a sentence; the name of a class at its beginning stays as it is."""
    begins = text if text.startswith(classes) else text[:1].upper() + text[1:]
    return begins if begins.endswith((".", "!", "?")) else f"{begins}."


def _curve(found: Mapping[str, Any]) -> Safe | None:
    """The learning curve of the head on frozen features, and the interval of what twice the images would bring."""
    points = [(float(point["n"]), float(point["val_accuracy"])) for point in found.get("points") or ()]
    doubling = found.get("doubling") or {}
    if len(points) < 2 or not is_number(doubling.get("gain")):
        return None
    n, last = points[-1]
    ends = {"at best": doubling["interval"][1], "twice as many": doubling["gain"], "at worst": doubling["interval"][0]}
    fan = [
        Line(name, ((n, last), (2 * n, min(1.0, max(0.0, last + gain)))), beads=False) for name, gain in ends.items()
    ]
    frame = Frame(width=410.0, right=92.0)
    return chart(
        "validation accuracy",
        "training images",
        [Line("the head", tuple(points), main=True, inner=True), *fan],
        log=True,
        frame=frame,
    )


def _training(run: Run, n: object) -> list[tuple[str, float, Any, str]]:
    """Accuracy on training images: as judged at the end, else (older runs) as the history has it."""
    judged = (run.evaluation.get("subsets") or {}).get("train") or {}
    if is_number(judged.get("accuracy")):
        part = is_number(n) and n != judged.get("n")
        size = f"n={count(judged.get('n'))}" + (f" of {count(n)}" if part else "")
        return [("training", judged["accuracy"], judged.get("interval"), size)]
    kept = kept_step(run)
    if kept is None or kept.train_accuracy is None:
        return []
    return [("training", kept.train_accuracy, None, f"n={count(n)}")]


def _gap_sentence(train: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Said where training lies far above test, beyond what both intervals allow: overfitting."""
    known, unseen = train.get("accuracy"), test.get("accuracy")
    if not isinstance(known, float | int) or not isinstance(unseen, float | int) or known - unseen < _FAR:
        return ""
    ends = (train.get("interval") or [known])[0], (test.get("interval") or [unseen])[-1]
    if ends[0] <= ends[1]:
        return ""
    return (
        f"It is right on {number(known)} of the images that it learnt from, but on {number(unseen)} of those that it "
        "had not seen: in part it knows its training images by heart (overfitting). More images, stronger augmentation "
        "or fewer trained parameters help against that."
    )
