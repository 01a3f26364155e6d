"""Where the evidence is known: a patch in the image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from headway import files
from headway.backbones.preprocess import prepare
from headway.deployment.bundle import load_bundle
from headway.explanation.opening import open_explainer
from headway.exports import write_bundle
from headway.training.heads import Head, Layer
from tests import toy
from tests.deployment import toys


def red_finder(folder: Path) -> Path:
    """A bundle of the toy network whose class "dog" is the redness of the image, wherever it is."""
    made = toys.classifier(folder / "trunk")
    tensors = {name: np.zeros_like(value) for name, value in load_file(made.trunk.tensors).items()}
    tensors["conv1.weight"][0] = np.array([1, -1, -1], np.float32)[:, None, None]
    tensors["conv2.weight"][0, 0] = 1
    save_file(tensors, made.trunk.tensors)
    made.trunk.graph.write_bytes(toys.model(tensors).SerializeToString())
    digests = {"graph": made.trunk.graph, "tensors": made.trunk.tensors}
    facts = {**made.trunk.facts, **{f"{key}_digest": files.digest_file(path) for key, path in digests.items()}}
    weight = np.zeros((3, 16), np.float32)
    weight[1, 0] = 1
    head = Head("linear", ("last",), (Layer(weight, np.zeros(3, np.float32)),))
    made = dataclasses.replace(made, trunk=dataclasses.replace(made.trunk, facts=facts), head=head)
    write_bundle(made, folder / "bundle", samples=toys.samples(made), card={}, threads=1)
    return folder / "bundle"


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 10), (10, 0), (8, 4)])
def test_explain__heat_lies_where_the_evidence_is(tmp_path: Path, top: int, left: int) -> None:
    bundle = load_bundle(red_finder(tmp_path), threads=1)
    image = np.full((16, 16, 3), 90, np.uint8)
    image[top : top + 6, left : left + 6] = (250, 20, 20)
    found = open_explainer(bundle, threads=1).explain(image[None], [1])[0]
    heat = found.heat(16)
    row, column = (float((heat.sum(axis) * np.arange(16)).sum() / heat.sum()) for axis in (1, 0))
    assert abs(row - (top + 2.5)) < 2.5
    assert abs(column - (left + 2.5)) < 2.5
    assert not open_explainer(bundle, threads=1).explain(image[None], [0])[0].values.any()  # nothing speaks for a cat


def rings(rng: np.random.Generator, *, there: bool) -> tuple[Image.Image, NDArray[np.bool_]]:
    """A coloured ground of 192 pixels, a target of rings somewhere on it or not, and where it is."""
    ground = Image.fromarray(rng.integers(60, 196, (6, 6, 3), dtype=np.uint8))
    pixels = np.asarray(ground.resize((192, 192), Image.Resampling.BICUBIC)).copy()
    mask = np.zeros((192, 192), np.bool_)
    top, left = rng.integers(0, 192 - 64, 2)
    away = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    if there:
        pixels[top : top + 64, left : left + 64] = np.where((away // 8 % 2 > 0)[..., None], 240, (15, 15, 180))
        mask[top : top + 64, left : left + 64] = True
    return Image.fromarray(pixels), mask


@pytest.mark.slow
def test_explain__a_trained_classifier_looks_at_the_patch_that_tells(tmp_path: Path) -> None:
    rng, places = np.random.default_rng(0), {}
    for name in ("with", "without"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(20):
            path = tmp_path / "data" / name / f"{number}.png"
            image, places[path] = rings(rng, there=name == "with")
            image.save(path)
    words = ("--taps", "last", "--l2", "0.001", "--image", "224", "--engine", "onnxruntime", "--run", tmp_path / "run")
    toy.headway("fit", tmp_path / "data", *words, cwd=tmp_path)

    bundle = load_bundle(tmp_path / "run" / "bundle")
    explainer, shares, areas = open_explainer(bundle), [], []
    for path, place in places.items():
        if path.parent.name == "with":
            seen = prepare(Image.open(path), bundle.preprocess)
            scaled = Image.fromarray(np.repeat(place[..., None], 3, axis=2).astype(np.uint8) * 255)
            mask = prepare(scaled, bundle.preprocess)[..., 0] > 127
            heat = explainer.explain(seen[None], [None])[0].heat(len(seen))
            shares.append(heat[mask].sum() / heat.sum())
            areas.append(mask.mean())
    assert np.mean(shares) > 3 * np.mean(areas)
