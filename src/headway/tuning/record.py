"""What a search came to, as plain values and as lines: tuning.json, from which the report draws it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headway.conflicts import option
from headway.conflicts import spelt as spelt_value
from headway.evaluation.compare import PairedTest, paired_test
from headway.evaluation.intervals import wilson
from headway.events import Event, Line
from headway.tuning import study
from headway.tuning.objective import Outcome
from headway.tuning.request import Request

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SCHEMA = 1
FEWEST = 10  # completed trials, before anything is said of which option counts


def spelt(options: Mapping[str, Any]) -> str:
    """Options as they are typed."""
    return " ".join(f"{option(name)} {spelt_value(value)}" for name, value in options.items()) or "the usual settings"


def facts(
    request: Request,
    trials: Sequence[FrozenTrial],
    winner: FrozenTrial,
    outcomes: tuple[Outcome, Outcome],
    *,
    n_train: int,
    judged: int,
) -> dict[str, Any]:
    """tuning.json, but for what the place, the clock and Optuna add.

    outcomes  of the winner and of the usual settings, on the same validation images
    judged    training images that a trial is judged on
    """
    ours, usual = outcomes
    rows = [row(trial) for trial in trials]
    losses = paired_test(ours.scores.loss, usual.scores.loss) if len(ours.labels) > 1 else None
    right = paired_test(ours.scores.right, usual.scores.right)
    names = ("winner", "usual")
    return {
        "schema": SCHEMA,
        "metric": request.metric,
        "falling": request.falling,
        "strategy": request.base.strategy,
        "fixed": {name: spelt_value(value) for name, value in request.typed.items() if name != "run"},
        "n": {"train": n_train, "judged": judged, "val": len(ours.labels)},
        "counts": {name: sum(row["state"] == name for row in rows) for name in ("complete", "pruned", "fail")},
        "winner": {
            "trial": winner.number,
            "value": float(winner.value or 0.0),
            "options": study.facts_of(winner)["options"],
            "judged": _judged(ours),
        },
        "usual": {"judged": _judged(usual)},
        "paired": {
            "log_loss": None if losses is None else {"names": list(names), **losses.to_json()},
            "accuracy": {"names": list(names), **right.to_json()},
        },
        "told": told(request, losses, right),
        "trials": rows,
    }


def row(trial: FrozenTrial) -> dict[str, Any]:
    """One trial: number, state, value (of a pruned one the last that was seen), options, seconds, what was drawn."""
    noted = study.facts_of(trial)
    value = trial.value if trial.value is not None else None
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": value,
        "seconds": noted.get("seconds"),
        "options": noted.get("options", {}),
        "drawn": dict(trial.params),
        "why": trial.user_attrs.get(study.WHY),
    }


def _judged(outcome: Outcome) -> dict[str, Any]:
    """On the validation images: n, accuracy with its interval, log-loss, balanced accuracy."""
    values, n = outcome.values(), len(outcome.labels)
    return {
        "n": n,
        "accuracy": values["accuracy"],
        "interval": list(wilson(values["accuracy"], n)),
        "log_loss": values["log-loss"],
        "balanced_accuracy": values["balanced-accuracy"],
    }


def told(request: Request, losses: PairedTest | None, right: PairedTest) -> str:
    """Whether the winner is shown to be better than the usual settings: one test, by what the search went by.

    Of balanced accuracy there is no paired test here: accuracy stands in.
    """
    test = losses if request.falling and losses is not None else right
    return test.sentence("the winner", "the usual settings")


def summary(found: Mapping[str, Any]) -> str:
    """What was tried, how long it took."""
    counts, seconds = found["counts"], float(found["seconds"])
    n = sum(counts.values())
    parts = [f"{n:,} trials in {seconds:.1f} s"]
    if seconds >= 1 and found["ran"]:
        parts[0] += f" ({60 * found['ran'] / seconds:,.0f} a minute)"
    if found["ran"] < n:
        parts[0] = f"{n:,} trials, {found['ran']:,} of them now in {seconds:.1f} s"
    if counts["pruned"]:
        parts.append(f"{counts['pruned']:,} left early as not among the best quarter so far")
    if counts["fail"]:
        parts.append(f"{counts['fail']:,} failed")
    return ", ".join(parts)


def caution(found: Mapping[str, Any]) -> str:
    """Why the winner's value in the search is not its score."""
    value, n = found["winner"]["value"], found["counts"]["complete"]
    return (
        f"its {found['metric']} of {value:.4f} in the search is the best of {n:,} and flatters it: "
        "the validation images below had no part in choosing it"
    )


def told_judged(name: str, judged: Mapping[str, Any]) -> str:
    """One of the two on the validation images."""
    low, high = judged["interval"]
    return (
        f"{name}: accuracy {judged['accuracy']:.3f} [{low:.3f}, {high:.3f}], log-loss {judged['log_loss']:.4f} "
        f"(n={judged['n']:,})"
    )


def tell(found: Mapping[str, Any]) -> Iterator[Event]:
    """The lines of a search that is over."""
    yield Line("tried", summary(found))
    yield Line("winner", f"trial {found['winner']['trial']}: {spelt(found['winner']['options'])}\n{caution(found)}")
    judged = [told_judged(name, found[key]["judged"]) for name, key in (("winner", "winner"), ("usual", "usual"))]
    yield Line("judged", "\n".join([*judged, found["told"]]))
    best = sorted(found["importance"].items(), key=lambda pair: -pair[1])[:4]
    if best:
        kind = found["winner"]["options"].get("head", "")
        of = f" among {kind.split(':')[0]} heads" if kind else ""
        yield Line("counts", f"what counted most{of}: " + ", ".join(f"{name} {share:.0%}" for name, share in best))
