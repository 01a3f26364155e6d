"""What `fit` says of its data beside how good it is: evidence from the cache, the rule of four, classes to label."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.advice.classes import as_json, confusions, weak_classes
from headway.advice.evidence import Evidence, gather_evidence
from headway.advice.four_ways import four_ways
from headway.data.dataset import Dataset, Split
from headway.evaluation.evaluation import Evaluation
from headway.events import Detail, Event
from headway.settings import FitSettings
from headway.steps import Sight, probe_data
from headway.training.probe import Probe


def look(
    dataset: Dataset, sight: Sight, split: Split, found: Probe, settings: FitSettings
) -> Generator[Event, None, Evidence]:
    """What training and validation images say; the head `found` was trained on them."""
    started = time.monotonic()
    data = probe_data(dataset, sight, split)
    # Its parts would have to be looked at anew under every view: another pass.
    no_curve = "with --views a learning curve is not drawn" if settings.views is not None else ""
    evidence = gather_evidence(
        data,
        found,
        seed=settings.seed,
        weighted=settings.balance == "weights",
        no_curve=no_curve,
        cache=sight.ready.session.cache,
    )
    yield Detail("advice", f"evidence from the cache in {time.monotonic() - started:.1f} s")
    return evidence


def conclude(evidence: Evidence | None, val: Evaluation, trained_on: NDArray[np.integer[Any]]) -> dict[str, Any]:
    """`advice` of evaluation.json: the rule, the learning curve, classes and confusions, and all of it in sentences.

    evidence    None where no pretrained network looked
    val         the classifier on validation images: the test set decides nothing here
    trained_on  (N,) labels of the training images
    """
    train_counts = np.bincount(trained_on, minlength=len(val.per_class))
    weak = weak_classes(val, train_counts, evidence.share_removed if evidence else None)
    confused = confusions(val)
    rule = four_ways(evidence) if evidence else None
    sentences = [
        *([rule.sentence] if rule else []),
        *([evidence.curve_sentence()] if evidence else []),
        *[own.sentence() for own in weak[:1]],
        *[pair.sentence() for pair in confused[:1]],
    ]
    return {
        "sentences": [sentence for sentence in sentences if sentence],
        "rule": rule.to_json() if rule else None,
        "evidence": evidence.to_json() if evidence else None,
        **as_json(weak, confused),
    }


def told(advice: Mapping[str, Any]) -> str:
    """The lines of the terminal."""
    return "\n".join(advice["sentences"])
