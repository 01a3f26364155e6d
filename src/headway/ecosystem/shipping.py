"""A fitted classifier of scikit-learn's kind as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.dataset import Dataset
from headway.deployment.card import Card
from headway.ecosystem.passing import Look, see
from headway.ecosystem.refusing import WrongInput
from headway.ecosystem.solving import Solved, torch_threads
from headway.evaluation.evaluation import evaluate
from headway.exports import write_bundle
from headway.machine import versions
from headway.steps import Sight, logits_of, parity_samples
from headway.training.classifier import Classifier


def save(dataset: Dataset, look: Look, solved: Solved, cache: Path, path: Path) -> dict[str, Any]:
    """Write the bundle folder `path`; returns what its gate found, and "test" where `dataset` has labels.

    dataset  images that the bundle must answer as the classifier does; its classes are the bundle's. With labels (none
             is -1) they are judged, as images that no fit saw
    """
    sight = see(dataset, look, cache)
    classifier = Classifier(sight.ready.trunk, sight.ready.preprocess, solved.head, solved.temperature, dataset.classes)
    every = np.arange(len(dataset), dtype=np.intp)
    test = _judged(dataset, sight, classifier, every) if (dataset.labels >= 0).all() else {}
    card: Card = {
        "command": "headway.HeadwayClassifier(...).fit(X, y).save_bundle(...)",
        "limits": [
            "Made in Python, by an estimator: no prediction sets and no flag of unknown images were calibrated."
        ],
        "versions": versions(),
    }
    if test:
        card |= {"test": test}
    with torch_threads(sight.ready.session.threads):  # the caller's own again afterwards
        samples = parity_samples(sight, every, classifier)
    found = write_bundle(classifier, path, samples=samples, card=card)
    return {**found, **({"test": test} if test else {})}


def indices_of(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Labels `y` (N,) as indices into `classes`. Raises WrongInput where one is none of them."""
    place = {value: at for at, value in enumerate(classes.tolist())}
    strange = [value for value in dict.fromkeys(y.tolist()) if value not in place]
    if strange:
        told, known = (", ".join(map(repr, values[:5])) for values in (strange, list(place)))
        raise WrongInput(f"y holds {told}, which this was not fitted on: expected classes such as {known}")
    return np.array([place[value] for value in y.tolist()], np.int64)


def _judged(dataset: Dataset, sight: Sight, classifier: Classifier, every: NDArray[np.intp]) -> dict[str, Any]:
    logits = logits_of(classifier, sight.features, every)
    found = evaluate(logits, dataset.labels, classifier.classes, temperature=classifier.temperature, seed=0)
    return {"n": found.n, "accuracy": found.accuracy, "interval": list(found.interval)}
