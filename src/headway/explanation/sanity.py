"""Does an explanation depend on what the network learnt? Adebayo et al. 2018, arXiv:1810.03292, section 3.

A map that hardly changes when the weights are put in random order shows edges of the image, not the network's reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.deployment.bundle import Bundle
from headway.deployment.manifest import MODEL
from headway.deployment.runtime import open_runtime
from headway.explanation.answers import Explained
from headway.explanation.graph import read_graph, shuffled, with_outputs
from headway.explanation.head import read_head
from headway.explanation.opening import bundle_model
from headway.explanation.saliency import Explainer, Explanation, GradCam, RollOut, Shares
from headway.explanation.shifting import Tail

NETWORKS = 3
MOST_IMAGES = 32  # that a check looks at
SUSPICIOUS = 0.5  # mean correlation above which maps hardly depend on the weights


@dataclass(frozen=True)
class Check:
    """correlation: Spearman's, mean over `n` images and `networks` of shuffled weights, -1..1; None of no image."""

    n: int
    networks: int
    correlation: float | None

    @property
    def passed(self) -> bool:
        """Whether the maps change with the weights."""
        return self.correlation is not None and self.correlation < SUSPICIOUS

    def __str__(self) -> str:
        if self.correlation is None:
            return "check    no image could be read"
        words = "the maps show" if self.passed else "the maps hardly show"
        return (
            f"check    {words} what the network learnt: rank correlation {self.correlation:.2f} with those of "
            f"{self.networks} networks of shuffled weights, {self.n} images (0: none, 1: the same)"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"n": self.n, "networks": self.networks, "correlation": self.correlation, "passed": self.passed}


def check_explained(explainer: Explainer, bundle: Bundle, explained: Sequence[Explained]) -> Check:
    """The check of the first `MOST_IMAGES` that could be explained."""
    pairs = [(one.pixels, one.explanation) for one in explained][:MOST_IMAGES]
    known = [(pixels, found) for pixels, found in pairs if pixels is not None and found is not None]
    return check(explainer, bundle, [pixels for pixels, _ in known], [found for _, found in known])


def check(
    explainer: Explainer, bundle: Bundle, images: Sequence[NDArray[np.uint8]], found: Sequence[Explanation]
) -> Check:
    """Hold the explanations `found` of (S, S, 3) uint8 `images` against those by networks of shuffled weights."""
    correlations: list[float] = []
    for seed in range(NETWORKS if len(images) else 0):
        other = shuffled_explainer(explainer, bundle, seed)
        again = other.explain(np.stack(images), [one.label for one in found])
        correlations += [rank_correlation(a.values, b.values) for a, b in zip(again, found, strict=True)]
    return Check(len(found), NETWORKS, float(np.mean(correlations)) if correlations else None)


def shuffled_explainer(explainer: Explainer, bundle: Bundle, seed: int) -> Explainer:
    """The same for the bundle's network with every tensor of weights, the head's too, in random order."""
    content = shuffled(bundle_model(bundle), seed)
    graph, place, engine = read_graph(content), bundle.path / MODEL, bundle.manifest.engine["name"]
    if isinstance(explainer, RollOut):
        return replace(explainer, runtime=open_runtime(with_outputs(content, explainer.layers), place, engine))
    if isinstance(explainer, Shares):
        outputs = with_outputs(content, dict.fromkeys(part.map.name for part in explainer.parts))
        return replace(explainer, runtime=open_runtime(outputs, place, engine), head=read_head(graph))
    assert isinstance(explainer, GradCam), explainer
    names = [explainer.map.name] if explainer.tail is None else explainer.tail.inputs
    runtime = open_runtime(with_outputs(content, names), place, engine)
    tail = explainer.tail
    if tail is not None:
        tail = replace(tail, session=Tail.open(graph, tail.inputs, runtime, 0).session)
    return replace(explainer, runtime=runtime, head=read_head(graph), tail=tail)


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's, of two maps; equal values share their mean rank. 0 where a map is the same everywhere."""
    ranks = []
    for values in (np.nan_to_num(one).ravel(), np.nan_to_num(other).ravel()):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        rank = (ends - (counts - 1) / 2)[inverse]
        ranks.append(rank - rank.mean())
    size = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(ranks[0] @ ranks[1] / size) if size > 0 else 0.0
