"""`fit --budget`: after the probe dearer roads, while they fit and may pay; what validation images back is kept.

What is decided stands in advice.plan, what things cost in advice.cost. Here they are put in order and kept to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from headway import roads
from headway.advice import beside, cost, gauge, measuring, plan
from headway.advice.cost import Regime, Speeds, Work
from headway.advice.plan import NAMES, Quote, told_seconds
from headway.data.dataset import Dataset, Split
from headway.defaults import by_strategy
from headway.errors import HeadwayError
from headway.evaluation.compare import PairedTest, paired_test
from headway.evaluation.metrics import Scores, score
from headway.events import Event, Line, Note
from headway.machine import memory_bytes
from headway.runs import CHECKPOINTS, WORK, Run
from headway.settings import FitSettings
from headway.steps import Made, Sight, logits_of, train

if TYPE_CHECKING:
    from headway.training.probe import Probe

Value = TypeVar("Value")

_BUILT = 3.0  # seconds of importing a library of networks and building one, where this machine remembers none
THAW: Mapping[str, int | str] = {"last": 1, "full": "all"}


@dataclass
class Purse:
    """The budget of a run, in seconds, and what of it is spent: by this start of the run and by those before it.

    now  seconds since this process started;  noted  what stands in resolved.json of it
    """

    run: Run
    budget: float
    now: Callable[[], float]
    before: float = 0.0
    noted: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def open(run: Run, now: Callable[[], float]) -> Purse:
        """As an earlier start of the run left it."""
        assert run.settings.seconds is not None
        noted = dict(run.resolved.get("budget") or {})
        return Purse(run, run.settings.seconds, now, float(noted.get("spent", 0.0)), noted)

    @property
    def spent(self) -> float:
        """Seconds that the processes of this run worked; of one that was killed, up to its last note."""
        return self.before + self.now()

    @property
    def left(self) -> float:
        """Seconds; below 0 where the budget is overdrawn."""
        return self.budget - self.spent

    def settled(self, road: str) -> dict[str, Any]:
        """What an earlier start settled about a road; {} where it settled nothing."""
        return dict((self.noted.get("roads") or {}).get(road) or {})

    def note(self, road: str | None = None, **facts: Any) -> None:
        """Write down what is spent, and what is settled about a road: a later start holds to it."""
        known = dict(self.noted.get("roads") or {})
        if road is not None:
            known[road] = {**self.settled(road), **facts}
        self.noted = {"spent": round(self.spent, 3), "roads": known}
        self.run.resolve({"budget": self.noted})


@dataclass(frozen=True)
class Ground:
    """What every road starts from: the data, the pretrained network and what it saw, the probe on it."""

    dataset: Dataset
    sight: Sight
    split: Split
    start: Probe
    run: Run


@dataclass(frozen=True)
class Result:
    """A road that was taken to its end, with the scores of its classifier on the validation images."""

    road: str
    made: Made
    scores: Scores


@dataclass(frozen=True)
class Begun:
    """A road that is begun: what it costs, what the end of the run costs after it, how long it trains."""

    quote: Quote
    finish: float
    epochs: int


def spend(ground: Ground, probe: Made, purse: Purse) -> Generator[Event, None, Made]:
    """The best of the probe and of the dearer roads that fit into the budget, with an account of all of them."""
    best = _judged("probe", probe, ground)
    tried = [{**_record(best), "seconds": round(purse.spent, 1)}]
    stopped = "every road that a budget tries has been tried"
    for road in plan.TRIED:
        begun = yield from _decided(road, best, ground, purse)
        if isinstance(begun, str):
            stopped = begun
            break
        began = purse.spent
        made, lost = yield from _attempted(road, begun, ground, purse)
        row = {"road": road, "seconds": round(purse.spent - began, 1)}
        row["predicted"] = round(begun.quote.seconds(begun.epochs), 1)
        if made is None:
            purse.note(road, given_up=lost)
            tried.append({**row, "given_up": lost})
            stopped = lost
            break
        result = _judged(road, made, ground)
        losses, right = _compared(result, best)
        better = plan.keeps(losses, right)
        why = plan.told_keeping(road, best.road, losses, right)
        tried.append({**_record(result), **row, "against": best.road, "kept": better, "why": why})
        best = result if better else best
        purse.note()
    return (yield from _told(best, tried, stopped, purse))


def _decided(road: str, best: Result, ground: Ground, purse: Purse) -> Generator[Event, None, Begun | str]:
    """How a road is begun, or why it is not; as an earlier start settled it."""
    settled = purse.settled(road)
    if settled.get("given_up"):
        return str(settled["given_up"])
    if "epochs" in settled:
        yield Note(f"{NAMES[road]} was begun before and is gone on with")
        return Begun(Quote(**settled["quote"]), settled["finish"], settled["epochs"])
    errors, n = int((~best.scores.right).sum()), len(best.scores.right)
    reason = plan.pays(errors, n, best.road)
    if reason:
        return reason
    work, notebook = work_of(ground.dataset, ground.sight, ground.split, ground.run.settings), notebook_of(ground.sight)
    rough = gauge.guessed(ground.sight.ready, notebook, decode_seconds(ground.sight, notebook))
    least = cost.least(work, rough) + cost.ending(work, rough)
    if purse.left < least:  # not even worth measuring
        left = told_seconds(max(0.0, purse.left))
        return f"{NAMES[road]} would take {told_seconds(least)} at the very least, and {left} were left"
    settings = ground.run.settings.for_road(THAW[road], 1)
    most = by_strategy("epochs", "finetune")
    finish = cost.ending(work, rough)
    measuring_speeds = _measured(road, settings, work, ground, notebook)
    speeds = yield from until(measuring_speeds, purse, purse.budget - plan.CAUTION * (finish + rough.graph))
    if speeds is None:
        return f"measuring what {NAMES[road]} costs took all the time that there was for it"
    quote = cost.quoted(road, work, speeds, Regime.of(settings))
    built = (notebook.remembered("imports") or [0.0, _BUILT])[1]
    solved = 0.0 if ground.start.head.taps == ("last",) else beside.solving(work, speeds, all_taps=False)
    quote = replace(quote, before=quote.before + built + solved)
    finish = cost.ending(work, speeds)
    decision = plan.decide(quote, purse.left, finish, most, memory_bytes())
    if not decision.epochs:
        return decision.why
    yield Line("road", f"{NAMES[road]}: {decision.why}")
    begun = Begun(quote, finish, decision.epochs)
    purse.note(road, epochs=begun.epochs, quote=vars(quote), finish=finish)
    return begun


def _measured(
    road: str, settings: FitSettings, work: Work, ground: Ground, notebook: measuring.Notebook
) -> Generator[Event, None, Speeds]:
    """What training costs here, on some of the training images."""
    from headway.training.finetune import RoadSettings

    ready = ground.sight.ready
    indices = ground.split.train[:: max(1, len(ground.split.train) // measuring.IMAGES)][: measuring.IMAGES]
    decode, images = measuring.decoding(ground.dataset, indices, ready.preprocess, ready.session.threads)
    session = fresh(ground)
    way = gauge.Way(session, RoadSettings.from_settings(settings, session.threads, session.device))
    return (yield from gauge.gauged(ready, work, {road: way}, gauge.Known(images, decode), notebook))


def _attempted(
    road: str, begun: Begun, ground: Ground, purse: Purse
) -> Generator[Event, None, tuple[Made | None, str]]:
    """A road from the solved head to a classifier; or None and why it was given up, its work left behind."""
    place = ground.run.path / WORK / road
    place.mkdir(parents=True, exist_ok=True)
    settings = ground.run.settings.for_road(THAW[road], begun.epochs)
    own = replace(ground.run, path=place, settings=settings)
    last_step, last_moment = plan.ends(purse.budget, begun.quote, begun.finish)
    start = ground.start
    try:
        if start.head.taps != ("last",):  # a network that is trained ends in its last features
            folder = place / CHECKPOINTS / "head"
            _, start = yield from train(ground.dataset, ground.sight, ground.split, settings, folder)
        seen = replace(ground.sight.seen, session=fresh(ground))
        events = roads.take(ground.dataset, seen, ground.split, start, own, enough=lambda: purse.spent >= last_step)
        made = yield from until(events, purse, last_moment)
    except (HeadwayError, MemoryError) as error:  # the best so far is there all the same
        return None, f"{NAMES[road]} was given up: {str(error).rstrip('.') or 'not enough memory'}"
    if made is None:
        spent = told_seconds(purse.spent)
        return None, f"{NAMES[road]} was given up after {spent} in all: it went slower than predicted"
    return made, ""


def until(
    events: Generator[Event, None, Value], purse: Purse, last_moment: float
) -> Generator[Event, None, Value | None]:
    """The events of some work, and what it gives; None where the last moment came first."""
    try:
        while True:
            event = next(events)
            yield event
            if isinstance(event, Line):
                purse.note()
            if purse.spent >= last_moment:
                return None
    except StopIteration as end:
        value: Value = end.value
        return value
    finally:
        events.close()


def _judged(road: str, made: Made, ground: Ground) -> Result:
    labels = ground.dataset.labels[ground.split.val]
    logits = logits_of(made.classifier, made.sight.features, ground.split.val)
    return Result(road, made, score(logits, labels, made.classifier.temperature))


def _compared(result: Result, best: Result) -> tuple[PairedTest, PairedTest]:
    """Log-losses, then right or wrong, image by image."""
    a, b = result.scores, best.scores
    return paired_test(a.loss, b.loss), paired_test(a.right, b.right)


def _record(result: Result) -> dict[str, Any]:
    """A road as a row of `tried`."""
    scores, training = result.scores, result.made.account.training
    return {
        "road": result.road,
        "accuracy": float(scores.right.mean()),
        "log_loss": float(scores.loss.mean()),
        "n": len(scores.right),
        "epochs": None if training is None else training["epochs"],
        "ended": None if training is None else training["stopped"],
    }


def _told(best: Result, tried: list[dict[str, Any]], stopped: str, purse: Purse) -> Generator[Event, None, Made]:
    """The three lines, and the best with its account of them."""
    lines = {
        "tried": plan.told_tried(tried, best.road),
        "took": plan.told_took(tried, purse.spent, purse.budget),
        "stopped": stopped,
    }
    for label, text in lines.items():
        yield Line(label, text)
    account = replace(best.made.account, tried={"budget": purse.budget, **lines, "roads": tried})
    if best.road != "probe":
        taken = purse.run.settings.for_road(THAW[best.road], purse.settled(best.road)["epochs"])
        purse.run.resolve({"settings": taken.model_dump(mode="json")})  # what the report tells of
    purse.note()
    return replace(best.made, account=account)


def told_more(ground: Ground) -> str:
    """What more than the probe would cost and could bring, from what was seen anyway: nothing is measured for it."""
    labels = ground.dataset.labels[ground.split.val]
    errors, n = int((ground.start.val_logits.argmax(axis=1) != labels).sum()), len(labels)
    reason = plan.pays(errors, n)
    if reason:
        return f"{reason}: training the network would take longer and prove nothing"
    work = work_of(ground.dataset, ground.sight, ground.split, ground.run.settings)
    notebook = notebook_of(ground.sight)
    speeds = gauge.guessed(ground.sight.ready, notebook, decode_seconds(ground.sight, notebook))
    rest = cost.ending(work, speeds)
    most = by_strategy("epochs", "finetune")
    settings = {road: ground.run.settings.for_road(THAW[road], most) for road in plan.TRIED}
    return plan.told_more(
        {road: cost.quoted(road, work, speeds, Regime.of(own)) for road, own in settings.items()},
        dict.fromkeys(settings, most),
        rest,
        (errors, n),
    )


def fresh(ground: Ground) -> Any:
    """The session of the pretrained network with a module of its own: training changes it."""
    return replace(ground.sight.ready.session, _module=None)


def work_of(dataset: Dataset, sight: Sight, split: Split, settings: FitSettings) -> Work:
    """What there is to do, all of it looked at before. settings: of the run."""
    from headway.repeating import REPEATS, repeats
    from headway.training.feeding import fits_in_memory

    taps, side = {tap.name: tap.dim for tap in sight.features.taps}, sight.ready.preprocess.size
    seen = len(split.train) + len(split.val) + len(split.test) + len(split.unlabelled)
    return Work(
        train=len(split.train),
        val=len(split.val),
        test=len(split.test),
        unlabelled=len(split.unlabelled),
        classes=len(dataset.classes),
        known=seen,
        read=seen,
        taps=(taps["last"], sum(taps.values())),
        side=side,
        weights=sight.ready.trunk.tensors.stat().st_size,
        held=fits_in_memory(len(split.train), side),
        repeats=REPEATS if repeats(settings, split, sight) else 0,
    )


def notebook_of(sight: Sight) -> measuring.Notebook:
    """What this machine remembers of the network."""
    return gauge.open_notebook(sight.ready.session, sight.ready.preprocess.size)


def decode_seconds(sight: Sight, notebook: measuring.Notebook) -> float:
    """Seconds of decoding an image, from the pass where it decoded; else a guess from the engine's rate."""
    engine = gauge.engine_seconds(sight.ready, notebook)
    rate = sight.features.images_per_second
    return max(0.05 * engine, 1 / rate - engine) if rate else 0.25 * engine
