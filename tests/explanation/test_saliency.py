"""Grad-CAM from a bundle's graph is Grad-CAM: captum, on the same network in torch, says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headway.deployment.bundle import load_bundle
from headway.deployment.runtime import run
from headway.errors import HeadwayError, Refused
from headway.explanation.opening import open_explainer
from headway.explanation.saliency import Explanation, GradCam, Shares
from tests.deployment import toys
from tests.explanation import oracle

HEADS = [
    (("last",), ()),
    (("last",), (7, 5)),
    (("stage1_mean", "last"), ()),
    (("last", "stage1_mean", "stage1_std"), (6,)),
]


@pytest.mark.parametrize(("taps", "hidden"), HEADS)
def test_explain__last_is_captums_grad_cam(tmp_path: Path, taps: tuple[str, ...], hidden: tuple[int, ...]) -> None:
    path, made = oracle.bundle(tmp_path, taps, hidden)
    explainer = open_explainer(load_bundle(path, threads=1), "last", threads=1)
    images = toys.images(3, seed=5)
    for label in range(3):
        found = explainer.explain(images, [label] * 3)
        for image, one in zip(images, found, strict=True):
            assert one.label == label
            np.testing.assert_allclose(one.values, oracle.captums(made, "two", image, label), atol=1e-6, rtol=1e-4)
    assert isinstance(explainer, GradCam)
    assert explainer.tail is None  # the short way was taken: one more output, no gradient by shifting


@pytest.mark.parametrize(
    "taps", [("last", "stage1_mean"), ("last", "stage1_std"), ("last", "stage1_mean", "stage1_std")]
)
@pytest.mark.parametrize("hidden", [(), (9,)])
def test_explain__a_stage_is_captums_grad_cam(tmp_path: Path, taps: tuple[str, ...], hidden: tuple[int, ...]) -> None:
    path, made = oracle.bundle(tmp_path, taps, hidden)
    explainer = open_explainer(load_bundle(path, threads=1), "stage1", threads=1)
    image = toys.images(1, seed=6)
    wanted = np.stack([oracle.captums(made, "one", image[0], label) for label in range(3)])
    found = np.stack([explainer.explain(image, [label])[0].values for label in range(3)])
    # The layers behind have kinks, where a shift and a derivative are not the same.
    np.testing.assert_allclose(found, wanted, atol=2e-3 * wanted.max())
    assert isinstance(explainer, GradCam)
    assert explainer.tail is not None


def test_explain__a_stage_that_is_only_pooled_is_exact(tmp_path: Path) -> None:
    path, made = oracle.bundle(tmp_path, ("stage1_std", "stage1_mean"))
    explainer = open_explainer(load_bundle(path, threads=1), "stage1", threads=1)
    image = toys.images(1, seed=7)
    found = explainer.explain(image, [0])[0].values
    np.testing.assert_allclose(found, oracle.captums(made, "one", image[0], 0), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("taps", [("stage1_mean", "last"), ("last", "stage1_mean", "stage1_std"), ("stage1_std",)])
def test_explain__shares_of_all_maps_sum_to_the_logit(tmp_path: Path, taps: tuple[str, ...]) -> None:
    path, made = oracle.bundle(tmp_path, taps)
    bundle = load_bundle(path, threads=1)
    explainer, images = open_explainer(bundle, threads=1), toys.images(3, seed=5)
    assert isinstance(explainer, Shares)
    assert (explainer.method, explainer.tap) == ("cam", "all")
    names = ("logits", "features", *dict.fromkeys(part.map.name for part in explainer.parts))
    found = run(explainer.runtime, images, names)
    bias = made.head.layers[-1].bias
    for row, logits in enumerate(bundle.logits(images)):
        one = {name: values[row] for name, values in found.items()}
        for label in range(3):
            shares = explainer.shares(one, label)
            assert shares.shape == (7, 7)
            assert shares.sum() == pytest.approx(logits[label] - bias[label], abs=1e-4)
            explained = explainer.explain(images[row : row + 1], [label])[0]
            np.testing.assert_allclose(explained.values, np.maximum(shares, 0), atol=1e-5)


def test_explain__all_maps_of_a_single_mean_are_grad_cam(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path, hidden=(6,)), threads=1)
    images = toys.images(2, seed=6)
    shared, plain = (open_explainer(bundle, tap, threads=1).explain(images, [0, 1]) for tap in ("all", "last"))
    for one, other in zip(shared, plain, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)


@pytest.mark.parametrize(
    ("taps", "tap"), [(("last",), "last"), (("last", "stage1_std"), "all"), (("stage1_mean",), "all")]
)
def test_open_explainer__which_map_where_none_is_named(tmp_path: Path, taps: tuple[str, ...], tap: str) -> None:
    assert open_explainer(load_bundle(toys.bundle(tmp_path, taps), threads=1), threads=1).tap == tap


def test_explain__the_answer_where_no_class_is_named(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path), threads=1)
    explainer, images = open_explainer(bundle, threads=1), toys.images(5, seed=8)
    found = explainer.explain(images, [None, 1, None, 2, None])
    best = bundle.logits(images).argmax(axis=1)
    assert [one.label for one in found] == [best[0], 1, best[2], 2, best[4]]
    np.testing.assert_allclose(np.stack([one.logits for one in found]), bundle.logits(images), atol=1e-5)


def test_explain__an_image_says_the_same_in_any_company(tmp_path: Path) -> None:
    explainer = open_explainer(load_bundle(toys.bundle(tmp_path), threads=1), threads=1)
    images = toys.images(6, seed=9)
    together = explainer.explain(images, [1] * 6)
    for image, one in zip(images, together, strict=True):
        np.testing.assert_array_equal(explainer.explain(image[None], [1])[0].values, one.values)


def test_explain__images_of_another_size_are_an_error(tmp_path: Path) -> None:
    explainer = open_explainer(load_bundle(toys.bundle(tmp_path), threads=1), threads=1)
    with pytest.raises(HeadwayError, match=r"^expected uint8 images \(B, 16, 16, 3\), got uint8 \(1, 8, 8, 3\)$"):
        explainer.explain(np.zeros((1, 8, 8, 3), np.uint8), [None])


def test_open_explainer__a_tap_that_the_head_does_not_read(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path, ("last", "stage1_std")), threads=1)
    with pytest.raises(Refused) as refused:
        open_explainer(bundle, "stage4")
    assert str(refused.value) == f"--tap stage4: the head of {bundle.path} reads last, stage1."


def test_open_explainer__a_model_that_changed_meanwhile(tmp_path: Path) -> None:
    bundle = load_bundle(toys.bundle(tmp_path), threads=1)
    model = bundle.path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(Refused) as refused:
        open_explainer(bundle)
    assert str(refused.value) == f"{model} was changed after the bundle was opened. Copy the bundle again."


def test_heat__is_scaled_by_the_largest_and_keeps_its_place() -> None:
    values = np.zeros((4, 4), np.float32)
    values[0, 3] = 2.5
    heat = Explanation(0, np.zeros(2, np.float32), values).heat(32)
    assert heat.shape == (32, 32)
    assert heat.dtype == np.float32
    assert (heat.min(), heat.max()) == (0, 1)
    assert heat[4, 28] > 0.9
    assert heat[:8, 24:].sum() > 0.6 * heat.sum()


def test_heat__nothing_stays_nothing() -> None:
    heat = Explanation(0, np.zeros(2, np.float32), np.zeros((3, 3), np.float32)).heat(9)
    assert heat.max() == 0
