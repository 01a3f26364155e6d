"""The worst mistakes of a run, explained for its report."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from headway import files
from headway.data.sources import load_dataset
from headway.deployment.bundle import load_bundle
from headway.errors import Refused
from headway.events import Detail, drain
from headway.explaining import EXPLANATIONS, picture_mistakes
from headway.explanation import saliency
from headway.explanation.opening import open_explainer
from headway.explanation.saliency import GradCam
from headway.exports import Samples, write_bundle
from tests import make
from tests.backbones.networks import prepared_once
from tests.deployment import toys
from tests.explanation import networks


def test_picture_mistakes__one_small_picture_of_each(tmp_path: Path) -> None:
    toys.bundle(tmp_path / "run")
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"cat": 4, "dog": 4}))
    names = list(dataset.names[:6])
    mistakes = [{"name": name, "predicted": "owl"} for name in names]

    drain(picture_mistakes(tmp_path / "run", dataset, mistakes, 1))

    table = pq.read_table(tmp_path / "run" / EXPLANATIONS)
    assert table.column_names == ["name", "jpeg"]
    assert [name.decode() for name in table["name"].to_pylist()] == names
    for jpeg in table["jpeg"].to_pylist():
        with Image.open(io.BytesIO(jpeg)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (128, 128))


def test_picture_mistakes__an_image_that_is_gone_is_left_out(tmp_path: Path) -> None:
    toys.bundle(tmp_path / "run")
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"cat": 3, "dog": 3}))
    mistakes = [{"name": name, "predicted": "dog"} for name in dataset.names]
    (tmp_path / "photos" / dataset.names[1]).unlink()

    drain(picture_mistakes(tmp_path / "run", dataset, mistakes, 1))

    kept = pq.read_table(tmp_path / "run" / EXPLANATIONS)["name"].to_pylist()
    assert [name.decode() for name in kept] == [dataset.names[0], *dataset.names[2:]]


def test_picture_mistakes__all_images_are_gone(tmp_path: Path) -> None:
    toys.bundle(tmp_path / "run")
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"cat": 1, "dog": 1}))
    for name in dataset.names:
        (tmp_path / "photos" / name).unlink()
    drain(picture_mistakes(tmp_path / "run", dataset, [{"name": dataset.names[0], "predicted": "dog"}], 1))
    assert pq.read_table(tmp_path / "run" / EXPLANATIONS).num_rows == 0


def test_picture_mistakes__no_mistake_no_bundle_opened(tmp_path: Path) -> None:
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"cat": 1, "dog": 1}))
    drain(picture_mistakes(tmp_path, dataset, [], 1))
    assert pq.read_table(tmp_path / EXPLANATIONS).num_rows == 0


def mapless(folder: Path) -> Path:
    """A bundle whose network multiplies all pixels at once: it has no map that could be looked at."""
    made = toys.classifier(folder / "trunk")
    weight = np.random.default_rng(0).normal(0, 1e-3, (768, 16)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "row"], ["pixels"]),
            helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["numbers", "weight"], ["last"]),
        ],
        "flat",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 16, 16, 3])],
        [helper.make_tensor_value_info("last", TensorProto.FLOAT, ["B", 16])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([0, -1], np.int64), "row")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    made.trunk.graph.write_bytes(model.SerializeToString())
    facts = {
        **made.trunk.facts,
        "taps": [{"name": "last", "dim": 16}],
        "graph_digest": files.digest_file(made.trunk.graph),
    }
    made = dataclasses.replace(made, trunk=dataclasses.replace(made.trunk, facts=facts))
    pixels = toys.images(5)
    features = pixels.reshape(5, -1).astype(np.float32) @ weight
    samples = Samples(pixels, made.head.logits(features))
    write_bundle(made, folder / "bundle", samples=samples, card={}, threads=1)
    return folder / "bundle"


def test_picture_mistakes__what_cannot_be_explained_has_no_pictures(tmp_path: Path) -> None:
    path = mapless(tmp_path)
    said = (
        f"{path} cannot be explained: its network (toy) has neither a map that is pooled nor attention of one size in "
        "all layers."
    )
    with pytest.raises(Refused) as refused:
        open_explainer(load_bundle(path, threads=1))
    assert str(refused.value) == said

    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"cat": 1, "dog": 1}))
    events = list(picture_mistakes(tmp_path, dataset, [{"name": dataset.names[0], "predicted": "owl"}], 1))
    assert events == [Detail("explain", said)]
    assert not (tmp_path / EXPLANATIONS).exists()


@pytest.mark.slow
def test_picture_mistakes__what_would_take_long_is_left_to_the_command(
    shared_networks: Path, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _ = networks.bundle(prepared_once(shared_networks, "test_convnext"), tmp_path)
    dataset = load_dataset(make.class_folders(tmp_path / "photos", {"a": 2, "b": 2}))
    mistakes = [{"name": dataset.names[0], "predicted": "c"}]
    explainer = open_explainer(bundle, threads=1)
    assert isinstance(explainer, GradCam)
    assert explainer.tail is not None
    assert 2 * 64 * 500 < explainer.tail.cost < saliency.MOST_WORK  # a norm of 64 channels, each shifted up and down

    assert list(picture_mistakes(tmp_path, dataset, mistakes, 1)) == []
    assert pq.read_table(tmp_path / EXPLANATIONS).num_rows == 1
    (tmp_path / EXPLANATIONS).unlink()

    monkeypatch.setattr(saliency, "MOST_WORK", explainer.tail.cost - 1)
    said = Detail("explain", "not the mistakes of this network, which take long: headway explain")
    assert list(picture_mistakes(tmp_path, dataset, mistakes, 1)) == [said]
    assert not (tmp_path / EXPLANATIONS).exists()
