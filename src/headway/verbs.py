"""The public verbs for Python: the story of `fit`, step by step, in values that can be looked at.

features = headway.extract("photos/")
parts = headway.split(features, seed=0)
classifier = headway.probe(features, parts)
print(headway.evaluate(classifier, features, parts.test))
headway.save_bundle(classifier, "flowers/")
print(headway.load_bundle("flowers/").predict("new.jpg"))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from headway.data.dataset import Dataset, Split
    from headway.deployment.card import Card
    from headway.deployment.confidence import Confidence
    from headway.displays.judgement import ShownEvaluation
    from headway.displays.outcomes import Audited, Compared, Fitted, Planned
    from headway.exports import Samples
    from headway.recipes.book import Recipe
    from headway.steps import Sight
    from headway.training.classifier import Classifier


@dataclass(frozen=True, repr=False)
class Extracted:
    """A dataset and what one pass of the network showed of it. X (N, D) comes from `columns`, y (N,) from labels."""

    dataset: Dataset
    sight: Sight
    cache: Path

    def __repr__(self) -> str:
        return (
            f"<Extracted: {self.dataset.name!r}, {len(self.dataset):,} images, {len(self.dataset.classes):,} classes>"
        )

    def columns(self, indices: NDArray[np.intp], taps: tuple[str, ...] = ("last",)) -> NDArray[np.float32]:
        """Features of accepted samples: (n, D) float32, the columns of `taps` side by side."""
        return self.sight.features.columns(taps, indices)


@dataclass(frozen=True, repr=False)
class Trained:
    """A classifier with what proves an export of it: real validation images and torch's logits for them.

    confidence  prediction sets and what tells unknown images, calibrated on the validation images
    """

    classifier: Classifier
    samples: Samples
    name: str
    chosen: dict[str, Any]
    confidence: Confidence

    def __repr__(self) -> str:
        head, n = self.classifier.head, len(self.classifier.classes)
        taps = f"{len(head.taps)} tap{'s' * (len(head.taps) > 1)}"
        return f"<Trained: {self.name!r}, {head.spec} head on {taps}, {n:,} classes>"


def load_dataset(data: Any) -> Dataset:
    """Find out what the folder, manifest or archive at a path holds, or a `datasets.Dataset` or `DatasetDict`.

    Raises Refused where it is no labelled data.
    """
    from headway.data import hugging_face, sources

    return sources.load_dataset(data) if isinstance(data, (str, Path)) else hugging_face.read_object(data)


def extract(data: Any, **options: Any) -> Extracted:
    """Run the network once over every image of `data`, or read what was kept of an earlier time.

    data     what `load_dataset` takes, or what it gave
    options  backbone, weights, image, resize, fit, mean, std, engine, threads, seed, offline: as of `headway fit`

    Raises Refused for options or data that cannot work.
    """
    import numpy as np

    from headway.data.dataset import Dataset
    from headway.displays.progress import followed
    from headway.features.extract import extract as run_pass
    from headway.features.looking import Asked, get_ready
    from headway.machine import cache_folder
    from headway.settings import fit_settings
    from headway.steps import Sight

    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    settings = fit_settings(".", **options)
    asked = Asked(**{name: getattr(settings, name) for name in Asked.__dataclass_fields__})
    indices, cache = np.arange(len(dataset)), cache_folder()
    with get_ready(dataset, indices, asked, cache) as ready:
        features, contents = followed(run_pass(ready.readings, indices, len(dataset), ready.store, ready.engine))
    return Extracted(dataset, Sight(ready, features, contents), cache)


def split(
    extracted: Extracted, *, seed: int = 0, val: float = 0.1, test: float = 0.15, keep: str | Path | None = None
) -> Split:
    """Decide which image trains, validates and tests: stratified, by content and seed. Subsets the data brings stay.

    keep  a run folder or split.csv whose images stay where they were

    Raises Refused where a class has too few images.
    """
    from headway.data.split import make_split, read_split

    known = read_split(Path(keep)) if keep is not None else None
    return make_split(extracted.dataset, extracted.sight.contents, seed=seed, val=val, test=test, keep=known)


def probe(extracted: Extracted, parts: Split, **options: Any) -> Trained:
    """Train a head on the features of `parts.train`, everything chosen on `parts.val`.

    options  head, taps, l2, dropout, balance, optimizer, lr, ...: as of `headway fit`
    """
    from headway.assuring import calibrate
    from headway.displays.progress import followed
    from headway.settings import fit_settings
    from headway.steps import parity_samples, train

    settings = fit_settings(".", **options)
    classifier, found = followed(train(extracted.dataset, extracted.sight, parts, settings))
    samples = parity_samples(extracted.sight, parts.val, classifier)
    confidence = calibrate(extracted.dataset, extracted.sight, parts, classifier)
    return Trained(classifier, samples, extracted.dataset.name, found.chosen, confidence)


def evaluate(trained: Trained, extracted: Extracted, indices: NDArray[np.intp]) -> ShownEvaluation:
    """Judge a classifier on the labelled samples `indices`, from their features. Prints as accuracy [interval], n."""
    from headway.displays.judgement import shown_evaluation
    from headway.evaluation.evaluation import evaluate as judge
    from headway.steps import logits_of

    logits = logits_of(trained.classifier, extracted.sight.features, indices)
    labels = extracted.dataset.labels[indices]
    temperature = trained.classifier.temperature
    return shown_evaluation(judge(logits, labels, trained.classifier.classes, temperature=temperature, seed=0))


def save_bundle(trained: Trained, path: str | Path) -> Path:
    """Write a bundle folder that predicts without torch, held against torch on real images first.

    A bundle that stands at `path` is replaced. Raises Refused where anything else does.
    """
    from headway.exports import write_bundle

    card: Card = {"name": trained.name}
    write_bundle(trained.classifier, Path(path), samples=trained.samples, card=card, confidence=trained.confidence)
    return Path(path)


def fit(data: Any, **options: Any) -> Fitted:
    """All of it in one call, with a run folder, report and bundle, as `headway fit`. Returns its final JSON.

    data     what `load_dataset` takes; an object is written into the cache once, so that the run can be gone on with
    options  as of `headway fit`, underscores for dashes

    Raises Refused for options or data that cannot work.
    """
    from headway.displays.outcomes import Fitted
    from headway.displays.progress import followed
    from headway.settings import fit_settings
    from headway.workflow import fitting

    return Fitted(followed(fitting(fit_settings(_named(data), **options))))


def compare(
    data: Any, *, strategies: Sequence[str] | None = None, recipes: Sequence[str] | None = None, **options: Any
) -> Compared:
    """Train in several ways on the same split and hold them against each other, as `headway compare`.

    data                 as of `fit`
    strategies, recipes  what to compare, one of the two: names (or files, of recipes)

    Returns its final JSON. Raises Refused for options or data that cannot work.
    """
    from headway.choices import compare_settings
    from headway.displays.outcomes import Compared
    from headway.displays.progress import followed
    from headway.workflow import comparing

    ways = compare_settings(_named(data), strategies=strategies, recipes=recipes, **options)
    return Compared(followed(comparing(ways)))


def plan(data: Any, *, budget: str | None = None, **options: Any) -> Planned:
    """Predict what each road would cost on this machine, as `headway plan`. Returns its final JSON.

    data    as of `fit`
    budget  a time as 90s, 10m or 2h: which of the roads fit into it

    Raises Refused for options or data that cannot work.
    """
    from headway.choices import road_settings
    from headway.displays.outcomes import Planned
    from headway.displays.progress import followed
    from headway.settings import fit_settings
    from headway.workflow import planning

    data = _named(data)
    ways = road_settings(data, **options)
    seconds = None if budget is None else fit_settings(data, budget=budget).seconds
    return Planned(followed(planning(ways, seconds)))


def audit(data: Any, *, write: str | Path | None = None, **options: Any) -> Audited:
    """Find out what is wrong with the data, as `headway audit`. Returns its final JSON.

    data     as of `fit`
    write    a CSV for a list of all images but the suspects;  options  backbone, seed, val, test, split, run, ...

    Raises Refused for options or data that cannot work, and where `write` is somebody else's file.
    """
    from headway.displays.outcomes import Audited
    from headway.displays.progress import followed
    from headway.settings import fit_settings
    from headway.workflow import audit_data

    place = None if write is None else Path(write)
    return Audited(followed(audit_data(fit_settings(_named(data), **options), place)))


def _named(data: Any) -> str | Path:
    """A path or an address as it is; a dataset of Hugging Face's library by a name of its own."""
    if isinstance(data, (str, Path)):
        return data
    from headway.data.hugging_face import keep_object
    from headway.machine import cache_folder

    return keep_object(data, cache_folder())


def push(bundle: str | Path, repo: str, *, public: bool = False) -> dict[str, Any]:
    """Put a bundle into a model repository of the Hugging Face hub, as `headway push`. Returns its final JSON."""
    from headway.displays.progress import followed
    from headway.ecosystem.hub import push as pushing

    return followed(pushing(bundle, repo, public=public))


def pull(repo: str, folder: str | Path | None = None, *, revision: str | None = None) -> dict[str, Any]:
    """Fetch a bundle from the Hugging Face hub and check all of it, as `headway pull`. Returns its final JSON."""
    from headway.displays.progress import followed
    from headway.ecosystem.hub import pull as pulling

    return followed(pulling(repo, folder, revision=revision))


def list_recipes() -> list[Recipe]:
    """The named settings that `fit(data, recipe=name)` takes: recipes.book.Recipe values."""
    from headway.recipes.book import names, read_recipe

    return [read_recipe(name) for name in names()]


def summary(backbone: str | None = None, **options: Any) -> str:
    """The network with its head, layer by layer, as text. options: head, dropout, classes, image, batch, recipe, ..."""
    from headway.settings import fit_settings
    from headway.workflow import summarise

    classes = int(options.pop("classes", 2))
    named = {} if backbone is None else {"backbone": backbone}
    return str(summarise(fit_settings(".", **named, **options), classes=classes)["text"])


def list_backbones(pattern: str = "") -> list[Any]:
    """The networks that images can be seen through: backbones.catalog.Backbone values."""
    from headway.workflow import list_backbones as listed

    return list(listed(pattern))
