"""A judgement as a notebook shows it: accuracy on its line, every class with its interval, the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass, fields

from headway.displays.frame import beside, framed, lead, quiet, table
from headway.evaluation.evaluation import Evaluation
from headway.reporting.figures import LARGEST_MATRIX, confusion_matrix, interval_line, range_bar
from headway.reporting.svg import Safe
from headway.reporting.text import count, interval, number, shortened

MOST_CLASSES = 30  # rows of the table; of more classes, those with the least recall


@dataclass(frozen=True, repr=False)
class ShownEvaluation(Evaluation):
    """An Evaluation that a notebook draws; its values are the same."""

    def __repr__(self) -> str:
        return f"<Evaluation: {self}>"

    def _repr_html_(self) -> str:
        return framed(*judged(self))


def shown_evaluation(evaluation: Evaluation) -> ShownEvaluation:
    """The same judgement, with a display."""
    return ShownEvaluation(**{field.name: getattr(evaluation, field.name) for field in fields(Evaluation)})


def judged(evaluation: Evaluation) -> tuple[Safe, ...]:
    """The parts of a judgement, from its headline to its classes."""
    own = evaluation
    words = (
        f"guessing {number(own.guess_accuracy)} ({shortened(own.guess, 30)}) · macro-F1 {number(own.macro_f1)} · "
        f"log-loss {number(own.log_loss)} · temperature {number(own.calibration.temperature, 2)}"
    )
    return (
        lead(f"accuracy {number(own.accuracy)} {interval(own.interval)} on {count(own.n)} images"),
        interval_line(own.accuracy, own.interval, own.guess_accuracy),
        quiet(words),
        beside(_classes(own), *_matrix(own)),
    )


def _classes(evaluation: Evaluation) -> Safe:
    known = sorted(evaluation.per_class, key=lambda own: 2.0 if own.recall is None else own.recall)
    few = len(known) <= MOST_CLASSES
    rows = [
        (
            shortened(own.name, 30),
            range_bar(own.recall, own.recall_interval),
            f"{number(own.recall)} {interval(own.recall_interval, 2)}",
            number(own.precision),
            count(own.support),
        )
        for own in (evaluation.per_class if few else known[:MOST_CLASSES])
    ]
    head = "class" if few else f"{MOST_CLASSES} of {len(known)} classes"
    return table((head, "recall", "[95 %]", "precision", "images"), rows, numbers=(3, 4))


def _matrix(evaluation: Evaluation) -> tuple[Safe, ...]:
    names = [own.name for own in evaluation.per_class]
    return (confusion_matrix(evaluation.confusion, names),) if len(names) <= LARGEST_MATRIX else ()
