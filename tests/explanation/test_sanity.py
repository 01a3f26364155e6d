"""Maps that do not depend on the weights are found out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from scipy.stats import spearmanr

from headway.deployment.bundle import load_bundle
from headway.explanation.graph import shuffled
from headway.explanation.opening import open_explainer
from headway.explanation.sanity import Check, check, rank_correlation, shuffled_explainer
from tests.deployment import toys

MAPS = st.lists(st.integers(0, 4), min_size=9, max_size=9)


@settings(max_examples=50, deadline=None)
@given(MAPS, MAPS)
def test_rank_correlation__is_scipys(one: list[int], other: list[int]) -> None:
    a, b = (np.array(values, np.float32).reshape(3, 3) for values in (one, other))
    found = rank_correlation(a, b)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found == 0
    else:
        assert abs(found - spearmanr(a.ravel(), b.ravel()).statistic) < 1e-9


def test_shuffled__moves_the_weights_and_nothing_else(tmp_path: Path) -> None:
    content = (toys.bundle(tmp_path) / "model.onnx").read_bytes()
    before, after = (onnx.load_from_string(model) for model in (content, shuffled(content, 0)))
    assert [node.SerializeToString() for node in before.graph.node] == [
        node.SerializeToString() for node in after.graph.node
    ]
    moved = []
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        a, b = numpy_helper.to_array(one), numpy_helper.to_array(other)
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
        if not np.array_equal(a, b):
            moved.append(one.name)
    assert sorted(moved) == ["conv1.weight", "conv2.bias", "conv2.weight", "headway.head.0.weight"]
    assert shuffled(content, 0) == shuffled(content, 0) != shuffled(content, 1)


def test_shuffled_explainer__gives_another_map(tmp_path: Path) -> None:
    for taps, tap in ((("last",), "last"), (("last", "stage1_mean"), "stage1"), (("last", "stage1_std"), "all")):
        bundle = load_bundle(toys.bundle(tmp_path / tap, taps), threads=1)
        explainer, images = open_explainer(bundle, tap, threads=1), toys.images(4)
        own = explainer.explain(images, [0] * 4)
        other = shuffled_explainer(explainer, bundle, 0).explain(images, [0] * 4)
        assert not any(np.allclose(a.values, b.values, rtol=0.05) for a, b in zip(own, other, strict=True))


def test_check__passes_what_the_network_learnt(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path), threads=1)
    explainer, images = open_explainer(bundle, threads=1), toys.images(8)
    found = check(explainer, bundle, list(images), explainer.explain(images, [0] * 8))
    assert (found.n, found.networks, found.passed) == (8, 3, True)
    assert found.correlation is not None
    assert abs(found.correlation) < 0.5


def test_check__fails_maps_that_stay() -> None:
    found = Check(4, 3, 0.8)
    assert not found.passed
    assert str(found) == (
        "check    the maps hardly show what the network learnt: rank correlation 0.80 with those of 3 networks of "
        "shuffled weights, 4 images (0: none, 1: the same)"
    )
    assert not Check(0, 3, None).passed
    assert str(Check(0, 3, None)) == "check    no image could be read"
