"""Export: the bundle computes what torch computes, or there is none."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from headway import files
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import TrunkFiles
from headway.deployment.bundle import load_bundle
from headway.deployment.card import Card
from headway.errors import HeadwayError, Refused
from headway.exports import PROBABILITY_TOLERANCE, Samples, is_timm_model, timm_config, write_bundle
from headway.grafting import graft
from headway.training.classifier import Classifier
from headway.training.heads import Head, Layer
from tests.deployment import toys

ROADS = [
    (("last",), ()),
    (("last", "stage1_mean", "stage1_std"), ()),
    (("stage1_std",), (7, 5)),
    (("stage1_mean", "last"), (8,)),
]


@pytest.mark.parametrize(("taps", "hidden"), ROADS)
def test_write_bundle__gives_the_logits_and_features_of_torch(
    tmp_path: Path, taps: tuple[str, ...], hidden: tuple[int, ...]
) -> None:
    made = toys.classifier(tmp_path / "trunk", taps, hidden)
    parity = write_bundle(made, tmp_path / "bundle", samples=toys.samples(made), card={}, threads=1)
    loaded, pixels = load_bundle(tmp_path / "bundle", threads=1), toys.images(11, seed=9)
    features = toys.torch_features(made, pixels)
    x = torch.from_numpy(features)
    for position, layer in enumerate(made.head.layers):
        x = torch.nn.functional.linear(
            torch.relu(x) if position else x, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        )
    np.testing.assert_allclose(loaded.features(pixels), features, atol=1e-5)
    np.testing.assert_allclose(loaded.logits(pixels), x.numpy(), atol=1e-4)
    assert parity["n"] == parity["same_top1"] == 5
    assert parity["ties"] == 0
    assert 0 <= parity["probability_difference"] < 1e-5
    assert 0 <= parity["logit_difference"] < 1e-4


def test_write_bundle__leaves_exactly_these_files(tmp_path: Path) -> None:
    plain = toys.bundle(tmp_path / "a")
    assert sorted(item.relative_to(plain).as_posix() for item in plain.rglob("*")) == [
        "README.md",
        "config.json",
        "manifest.json",
        "model.onnx",
        "model.safetensors",
        "probe",
        "probe/features.npy",
        "probe/inputs.npy",
        "probe/logits.npy",
    ]
    other = toys.bundle(tmp_path / "b", hidden=(4,))
    assert not (other / "config.json").exists()
    assert sorted(item.name for item in tmp_path.rglob(".*")) == []


def test_write_bundle__the_manifest_says_what_is_there(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path / "trunk", ("stage1_mean", "last"))
    card: Card = {"created": "2026-01-02T03:04:05Z", "test": {"n": 9, "accuracy": 0.5, "interval": [0.2, 0.8]}}
    write_bundle(made, tmp_path / "bundle", samples=toys.samples(made), card=card)
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["created"] == "2026-01-02T03:04:05Z"
    assert manifest["classes"] == ["cat", "dog", "owl"]
    assert manifest["input"] == {"name": "image", "shape": ["B", 16, 16, 3], "dtype": "uint8"}
    assert manifest["outputs"] == {"logits": 3, "features": 24}
    assert manifest["temperature"] == 1.3
    assert manifest["conformal"] is None
    assert manifest["unknown"] is None
    assert manifest["optional_outputs"] == {}
    assert manifest["engine"]["name"] == "any"
    assert manifest["head"] == {"spec": "linear", "taps": ["stage1_mean", "last"]}
    assert manifest["test"] == card["test"]
    assert manifest["backbone"]["licence"] == "Apache-2.0"
    for key, name in (("model_digest", "model.onnx"), ("tensors_digest", "model.safetensors")):
        assert manifest[key] == files.digest_file(tmp_path / "bundle" / name)


def test_write_bundle__tensors_have_timms_names_only_for_a_timm_model(tmp_path: Path) -> None:
    for taps, hidden, expected in (
        (("last",), (), {"fc.weight", "fc.bias"}),
        (("stage1_mean",), (), {"head.0.weight", "head.0.bias"}),
        (("last",), (4,), {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}),
    ):
        folder = tmp_path / f"{'-'.join(taps)}{len(hidden)}"
        made = toys.classifier(folder / "trunk", taps, hidden)
        write_bundle(made, folder / "bundle", samples=toys.samples(made), card={})
        before, after = load_file(made.trunk.tensors), load_file(folder / "bundle" / "model.safetensors")
        assert set(after) - set(before) == expected
        for name, value in before.items():
            assert value.dtype == after[name].dtype
            np.testing.assert_array_equal(value, after[name])
        last = sorted(expected)[-1]
        np.testing.assert_array_equal(after[last], made.head.layers[-1].weight)


def test_write_bundle__twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = toys.bundle(tmp_path / "a"), toys.bundle(tmp_path / "b")
    for item in sorted(first.rglob("*")):
        if item.is_file():
            assert item.read_bytes() == (second / item.relative_to(first)).read_bytes(), item.name


def _changed_weight(trunk: bytes) -> bytes:
    model = onnx.load_model_from_string(trunk)
    tensor = next(item for item in model.graph.initializer if item.name == "conv2.weight")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3, 2, 1, 1] += 0.5
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


def test_write_bundle__one_changed_weight_is_caught_and_nothing_appears(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path / "trunk")
    samples = toys.samples(made)
    made.trunk.graph.write_bytes(_changed_weight(made.trunk.graph.read_bytes()))
    facts = {**made.trunk.facts, "graph_digest": files.digest_file(made.trunk.graph)}
    planted = dataclasses.replace(made, trunk=dataclasses.replace(made.trunk, facts=facts))
    with pytest.raises(HeadwayError) as caught:
        write_bundle(planted, tmp_path / "bundle", samples=samples, card={})
    assert str(caught.value).startswith(
        "the exported model does not agree with the trained one on 5 validation images:"
    )
    assert str(caught.value).endswith("No bundle was written. Try another --engine, or --no-cache.")
    assert caught.value.exit_code == 1
    assert [item.name for item in tmp_path.iterdir()] == ["trunk"]


def test_write_bundle__saturated_probabilities_hide_nothing(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path / "trunk")
    (layer,) = made.head.layers
    sure = type(layer)(layer.weight, np.array([1000, 0, 0], np.float32))
    made = dataclasses.replace(made, head=dataclasses.replace(made.head, layers=(sure,)))
    samples = toys.samples(made)
    logits = samples.logits.copy()
    logits[:, 0] -= 20
    with pytest.raises(HeadwayError) as caught:
        write_bundle(made, tmp_path / "bundle", samples=Samples(samples.images, logits), card={})
    assert str(caught.value) == (
        "the exported model does not agree with the trained one on 5 validation images: 0 get another class, "
        "probabilities differ by 0 (allowed 0.001), logits by 20. No bundle was written. Try another --engine, "
        "or --no-cache."
    )


def test_write_bundle__a_damaged_trunk_is_named(tmp_path: Path) -> None:
    for name in ("graph.onnx", "tensors.safetensors"):
        made = toys.classifier(tmp_path / name)
        samples, path = toys.samples(made), tmp_path / name / name
        path.write_bytes(path.read_bytes()[:-1] + b"\x55")
        with pytest.raises(HeadwayError) as caught:
            write_bundle(made, tmp_path / "bundle", samples=samples, card={})
        assert str(caught.value) == f"{path} is damaged. Run: headway cache verify, then the command again."


def test_write_bundle__not_a_number_is_never_parity(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path / "trunk")
    samples = toys.samples(made)
    logits = samples.logits.copy()
    logits[2, 1] = np.nan
    with pytest.raises(HeadwayError, match="does not agree"):
        write_bundle(made, tmp_path / "bundle", samples=Samples(samples.images, logits), card={})


def test_write_bundle__another_top_class_is_allowed_only_in_a_tie(tmp_path: Path) -> None:
    """Two classes with equal weights: the reference prefers one by a hair, the bundle the other."""
    made = toys.classifier(tmp_path / "trunk")
    (layer,) = made.head.layers
    weight, bias = layer.weight.copy(), layer.bias.copy()
    weight[2], bias[2], weight[1], bias[1] = weight[0], bias[0], 0, -50
    twin = dataclasses.replace(made, head=dataclasses.replace(made.head, layers=(type(layer)(weight, bias),)))
    samples = toys.samples(twin)
    logits = samples.logits.copy()
    logits[:, 2] += 1e-4
    parity = write_bundle(twin, tmp_path / "bundle", samples=Samples(samples.images, logits), card={})
    assert (parity["same_top1"], parity["ties"]) == (0, 5)
    logits[:, 2] += 4 * PROBABILITY_TOLERANCE * made.temperature * 2
    with pytest.raises(HeadwayError, match="5 get another class"):
        write_bundle(twin, tmp_path / "bundle", samples=Samples(samples.images, logits), card={})


def test_write_bundle__near_probabilities_do_not_excuse_another_class(tmp_path: Path) -> None:
    """The reference prefers its class by 0.0014, the bundle the other by 0.0002: each within 0.001, and no tie."""
    made = toys.classifier(tmp_path / "trunk")
    zero = np.zeros((3, 16), np.float32)
    flat = Layer(zero, (np.log(np.array([0.4999, 0.5001, 1e-9])) * 1.3).astype(np.float32))
    made = dataclasses.replace(made, head=dataclasses.replace(made.head, layers=(flat,)))
    reference = (np.log(np.array([0.5007, 0.4993, 1e-9])) * 1.3).astype(np.float32)
    samples = Samples(toys.images(), np.tile(reference, (5, 1)))
    with pytest.raises(HeadwayError, match=r"5 get another class, probabilities differ by 0\.0008 \(allowed 0\.001\)"):
        write_bundle(made, tmp_path / "bundle", samples=samples, card={})


def test_write_bundle__replaces_an_old_bundle_whole(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path / "trunk", hidden=(4,))
    toys.bundle(tmp_path / "old")
    (tmp_path / "old" / "bundle" / "probe" / "stale.npy").write_text("x")
    write_bundle(made, tmp_path / "old" / "bundle", samples=toys.samples(made), card={})
    assert not (tmp_path / "old" / "bundle" / "probe" / "stale.npy").exists()
    assert not (tmp_path / "old" / "bundle" / "config.json").exists()


def test_write_bundle__parts_that_do_not_fit(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path / "trunk")
    samples, path = toys.samples(made), tmp_path / "bundle"
    head = dataclasses.replace(made.head, taps=("stage7_mean",))
    with pytest.raises(HeadwayError, match=r"^the head reads stage7_mean, which toy does not give$"):
        write_bundle(dataclasses.replace(made, head=head), path, samples=samples, card={})
    with pytest.raises(HeadwayError, match=r"^layers \[\(3, 16\)\] do not lead from 16 features to 2 classes$"):
        write_bundle(dataclasses.replace(made, classes=("a", "b")), path, samples=samples, card={})
    with pytest.raises(HeadwayError, match="K >= 1"):
        write_bundle(made, path, samples=Samples(samples.images[:0], samples.logits[:0]), card={})
    with pytest.raises(Refused, match=r"^.*/none does not exist; the bundle would be written into it\.$"):
        write_bundle(made, tmp_path / "none" / "bundle", samples=samples, card={})


def test_graft__leaves_the_trunks_values_and_versions_and_drops_what_no_output_needs(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path)
    before = onnx.load_model(made.trunk.graph)
    after = onnx.load_model_from_string(graft(made.trunk.graph.read_bytes(), made.head))
    assert (after.ir_version, after.opset_import) == (before.ir_version, before.opset_import)
    assert [item.name for item in after.graph.output] == ["logits", "features"]
    stored = {item.name: item.SerializeToString() for item in before.graph.initializer}
    kept = {item.name: item.SerializeToString() for item in after.graph.initializer}
    assert set(stored) - set(kept) == {"small"}
    assert set(kept) - set(stored) == {"headway.head.0.weight", "headway.head.0.bias"}
    assert all(stored[name] == kept[name] for name in kept.keys() & stored.keys())
    assert "Sqrt" not in {node.op_type for node in after.graph.node}


def test_graft__a_tap_that_is_not_there(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path)
    with pytest.raises(HeadwayError) as caught:
        graft(made.trunk.graph.read_bytes(), dataclasses.replace(made.head, taps=("stage9_mean",)))
    assert str(caught.value) == ("the trunk's graph has no output stage9_mean; it gives last, stage1_mean, stage1_std")


@settings(max_examples=15, deadline=None)
@given(
    taps=st.permutations(list(toys.DIMS)).flatmap(lambda order: st.integers(1, 3).map(lambda n: tuple(order[:n]))),
    hidden=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    n=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_graft__any_head_on_any_taps_computes_what_numpy_computes(
    tmp_path_factory: pytest.TempPathFactory, taps: tuple[str, ...], hidden: tuple[int, ...], n: int, seed: int
) -> None:
    import onnxruntime

    folder = tmp_path_factory.mktemp("graft")
    head = toys.head(taps, hidden, n, seed)
    made = Classifier(toys.trunk(folder), toys.preprocess(), head, 1.0, tuple("abcdef"[:n]))
    session = onnxruntime.InferenceSession(graft(made.trunk.graph.read_bytes(), head))
    pixels = toys.images(3, seed)
    logits, features = session.run(["logits", "features"], {"image": pixels})
    wanted = head.logits(toys.torch_features(made, pixels))
    np.testing.assert_allclose(features, toys.torch_features(made, pixels), atol=1e-5)
    np.testing.assert_allclose(logits, wanted, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


def test_timm_config__carries_classes_and_preprocessing_and_no_other_place(tmp_path: Path) -> None:
    made = toys.classifier(tmp_path)
    assert is_timm_model(made)
    config = timm_config(made)
    assert config == {
        "architecture": "toy",
        "num_features": 16,
        "num_classes": 3,
        "label_names": ["cat", "dog", "owl"],
        "model_args": {"num_classes": 3},
        "pretrained_cfg": {
            "input_size": [3, 16, 16],
            "pool_size": None,
            "custom_load": False,
            "num_classes": 3,
            "classifier": "fc",
            "mean": [0.5, 0.4, 0.3],
            "std": [0.5, 0.25, 0.2],
            "interpolation": "bicubic",
            "crop_pct": 0.8,
            "crop_mode": "center",
        },
    }


@pytest.mark.slow
def test_write_bundle__a_linear_head_on_the_last_tap_is_a_timm_model(tmp_path: Path) -> None:
    """The parts as a prepared timm network has them; timm loads the folder and computes our logits."""
    import timm
    from timm.data import config, transforms_factory

    bundle = timm_bundle(tmp_path)
    pixels = np.load(bundle / "probe" / "inputs.npy")
    x = ((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255) - 0.5) / 0.5
    loaded: Any = timm.create_model(f"local-dir:{bundle}", pretrained=True).eval()
    with torch.inference_mode():
        logits = loaded(x).numpy()
    np.testing.assert_allclose(logits, load_bundle(bundle).logits(pixels), atol=1e-5)  # held against torch before
    assert loaded.num_classes == 3
    assert loaded.pretrained_cfg["label_names"] == list(toys.CLASSES)
    data: dict[str, Any] = config.resolve_model_data_config(loaded)  # type: ignore[no-untyped-call]
    assert (list(data["input_size"]), list(data["mean"]), data["crop_pct"]) == ([3, 64, 64], [0.5] * 3, 0.8)
    transforms_factory.create_transform(**data)


def timm_bundle(folder: Path) -> Path:
    """A bundle of a network that timm knows, with random weights, in folder/bundle."""
    made, network = _timm_classifier(folder)
    pixels = np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        features = network(((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255) - 0.5) / 0.5).numpy()
    write_bundle(made, folder / "bundle", samples=Samples(pixels, made.head.logits(features)), card={"name": "net"})
    return folder / "bundle"


def _timm_classifier(folder: Path) -> tuple[Classifier, Any]:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=0).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)

    class Trunk(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 255
            found: torch.Tensor = self.network((pixels - 0.5) / 0.5)
            return found

    graph, tensors = folder / "graph.onnx", folder / "tensors.safetensors"
    _export(Trunk().eval(), graph)
    save_file(network.state_dict(), tensors)
    config = {"architecture": "resnet10t", "num_features": 512, "pretrained_cfg": {"first_conv": "conv1.0"}}
    facts: dict[str, Any] = {"name": "resnet10t", "source": "timm", "taps": [{"name": "last", "dim": 512}]}
    facts |= {"classifier": "fc", "timm_config": config, "licence": None}
    rng = np.random.default_rng(0)
    layer = Layer(rng.normal(0, 0.05, (3, 512)).astype(np.float32), np.array([0.1, -0.2, 0.3], np.float32))
    preprocess = Preprocess(64, 80, "crop", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    trunk = TrunkFiles(graph, tensors, facts)
    return Classifier(trunk, preprocess, Head("linear", ("last",), (layer,)), 1.0, toys.CLASSES), network


def _export(trunk: torch.nn.Module, path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            trunk,
            (torch.zeros(2, 64, 64, 3, dtype=torch.uint8),),
            path,
            dynamo=True,
            input_names=["image"],
            output_names=["last"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            external_data=False,
            verbose=False,
        )


_LEAN = """
import sys
for name in ("torch", "timm", "torchvision", "sklearn", "pyarrow", "pydantic", "accelerate"):
    sys.modules[name] = None
import headway.exports
print([name for name in ("onnx", "safetensors", "onnxruntime") if name in sys.modules])
"""


def test_exports__imports_neither_torch_nor_anything_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _LEAN], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
