"""A prepared network on disk: complete facts, the same each time, never trusted when damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from headway import files
from headway.backbones import prepare as prepare_module
from headway.backbones import trunk as trunk_module
from headway.backbones.engines import BATCH, OnnxEngine
from headway.backbones.graph import export_graph
from headway.backbones.network import Trunk, build_network, cut_trunk, own_preprocess, tensors_digest
from headway.backbones.opening import BackboneSession, trained_session
from headway.backbones.prepare import keep_trained, prepare_trunk
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import Tap, TrunkRequest, cached_trunk, read_trunk, trunk_folder
from headway.backbones.weights import WeightsChoice
from headway.errors import HeadwayError, Refused
from tests.backbones.networks import NETWORKS, Prepared, prepared_once

NONE = WeightsChoice("none", "none:0")
FACTS = {
    *("name", "source", "taps", "feature_dim", "preprocess", "parameters", "licence", "weights", "classifier"),
    *("timm_config", "macs", "layers", "graph_digest", "tensors_digest", "stem"),
}
CLASSIFIERS = dict(zip(NETWORKS, ("fc", "classifier", "head"), strict=True))


def test_facts__complete(network: Prepared) -> None:
    facts, name = network.files.facts, network.request.name
    own = build_network(name, NONE, image=64, seed=0)

    assert facts.keys() == FACTS
    assert (facts["name"], facts["source"], facts["classifier"]) == (name, "timm", CLASSIFIERS[name])
    assert facts["stem"] == "own"
    assert facts["feature_dim"] == own.num_features == facts["taps"][0]["dim"]
    classifier = own.get_submodule(CLASSIFIERS[name])
    parameters = sum(one.numel() for one in own.parameters()) - sum(one.numel() for one in classifier.parameters())
    assert facts["parameters"] == parameters
    assert facts["macs"] > 1_000_000
    assert facts["layers"][0]["name"] in dict(own.named_children())
    assert all(layer.keys() == {"name", "kind", "shape", "parameters"} for layer in facts["layers"])
    assert facts["timm_config"]["architecture"] == name
    assert facts["timm_config"]["num_features"] == facts["feature_dim"]
    assert json.loads(json.dumps(facts)) == facts


def test_facts__digests_are_those_of_the_files(network: Prepared) -> None:
    found, stored = network.files, load_file(network.files.tensors)

    assert found.facts["graph_digest"] == files.digest_file(found.graph)
    assert found.facts["tensors_digest"] == files.digest_file(found.tensors)
    assert found.facts["weights"] == {"origin": "none", "identity": "none:0", "digest": tensors_digest(stored)}


def test_tensors__are_the_librarys_without_its_classifier(network: Prepared) -> None:
    own = build_network(network.request.name, NONE, image=64, seed=0).state_dict()
    stored = load_file(network.files.tensors)

    assert set(own) - set(stored) == {f"{CLASSIFIERS[network.request.name]}.{part}" for part in ("weight", "bias")}
    assert all(torch.equal(stored[key], own[key]) for key in stored)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_prepare__twice_gives_the_same_files(tmp_path: Path, name: str) -> None:
    request = TrunkRequest(name, "none:0", 64, None, None)

    first, _ = prepare_trunk(tmp_path / "one", request, NONE, seed=0)
    again, _ = prepare_trunk(tmp_path / "two", request, NONE, seed=0)

    assert first.facts == again.facts


@pytest.mark.slow
def test_prepare__other_weights_other_digests(resnet: Prepared, tmp_path: Path) -> None:
    request = replace(resnet.request, weights="none:1")

    other, _ = prepare_trunk(tmp_path, request, WeightsChoice("none", "none:1"), seed=1)

    assert other.facts["weights"]["digest"] != resnet.files.facts["weights"]["digest"]
    assert other.facts["graph_digest"] != resnet.files.facts["graph_digest"]


@pytest.mark.slow
def test_prepare__another_process_was_faster(resnet: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file = os.replace

    def late(source: Path, target: Path) -> None:
        if Path(target) != trunk_folder(tmp_path, resnet.request):
            return replace_file(source, target)
        shutil.copytree(folder_of(resnet), target)
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(os, "replace", late)

    found, _ = prepare_trunk(tmp_path, resnet.request, NONE, seed=0)

    assert found.facts == resnet.files.facts
    assert [path.name for path in (tmp_path / "trunks").iterdir()] == [folder_of(resnet).name]


@pytest.mark.slow
def test_prepare__what_another_process_has_written_meanwhile_stays(
    resnet: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trunk_folder(tmp_path, resnet.request)

    def slow(*args: Any) -> None:
        export_graph(*args)
        shutil.copytree(folder_of(resnet), folder)
        (folder / "read_at_this_moment").touch()

    monkeypatch.setattr(prepare_module, "export_graph", slow)

    found, _ = prepare_trunk(tmp_path, resnet.request, NONE, seed=0)

    assert found.facts == resnet.files.facts
    assert (folder / "read_at_this_moment").exists()
    assert [path.name for path in (tmp_path / "trunks").iterdir()] == [folder_of(resnet).name]


def test_prepare__an_unknown_network_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no backbone 'tset_resnet'"):
        prepare_trunk(tmp_path, TrunkRequest("tset_resnet", "none:0", 64, None, None), NONE, seed=0)

    assert list(tmp_path.iterdir()) == []


class Stubborn(torch.nn.Module):
    """A network whose path depends on its values: it cannot be exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


class Sticky(torch.nn.Module):
    """A network that a trace gets wrong without a warning: it takes the number of images that were traced for good."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0] if torch.compiler.is_exporting() else x.untyped_storage().nbytes() // (4 * 3 * 16 * 16)
        return x.mean((2, 3)).reshape(n, 3)


class Branching(torch.nn.Module):
    """A network whose path depends on the size of its input: a trace warns of it, torch.export settles it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.shape[2] > 8 else x.amax((2, 3))


@pytest.mark.parametrize("network", [Sticky, Branching])
def test_export__falls_back_where_a_trace_is_not_to_be_trusted(tmp_path: Path, network: type[torch.nn.Module]) -> None:
    own = Preprocess(16, 16, "crop", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    trunk, path = Trunk(network(), own, ()).eval(), tmp_path / "graph.onnx"

    export_graph(trunk, (Tap("last", 3),), 16, path)

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n in (1, 2, 5):
        images = torch.randint(0, 256, (n, 16, 16, 3), dtype=torch.uint8)
        (found,) = session.run(["last"], {"image": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), trunk(images)[0])


@pytest.mark.parametrize("image", [64, 75])
def test_export__padding_as_tensorflow_does_it_is_written_down(tmp_path: Path, image: int) -> None:
    """Its arithmetic would cost engines a third of their speed: the graph has none of it, at odd sizes too."""
    request = TrunkRequest("tf_efficientnet_lite0", "none:0", image, None, None)
    network = build_network(request.name, NONE, image=image, seed=0)
    trunk, taps = cut_trunk(network, own_preprocess(request.name, network, request))
    path = tmp_path / "graph.onnx"

    export_graph(trunk, taps, image, path)

    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert kinds["Ceil"] == kinds["If"] == 0
    assert kinds["Pad"] <= 5
    images = torch.randint(0, 256, (3, image, image, 3), dtype=torch.uint8)
    found = onnxruntime.InferenceSession(str(path)).run([tap.name for tap in taps], {"image": images.numpy()})
    with torch.inference_mode():
        for one, other in zip(found, trunk(images), strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-3, atol=1e-4)
    assert [type(one).__name__ for one in trunk.modules()].count("Conv2dSame") == 5  # the network itself is as it was


def test_export__that_cannot_be_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = Preprocess(16, 16, "crop", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    with pytest.raises(HeadwayError) as caught:
        export_graph(Trunk(Stubborn(), own, ()).eval(), (Tap("last", 3),), 16, tmp_path / "graph.onnx")

    first, _, rest = str(caught.value).partition(" (")
    assert first == "this network cannot be exported to ONNX"
    assert rest.partition("), ")[2] == (
        "so no bundle could be made of it. Try another --backbone; headway backbones lists them."
    )
    assert capfd.readouterr() == ("", "")


# Trained networks -----------------------------------------------------------------------------------------------


def trained(prepared: Prepared) -> Trunk:
    """The network with other weights and other statistics, as training leaves it."""
    module = prepared.session().module()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.01).add_(0.003)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(0.01)
    return module.train()


@pytest.mark.parametrize("name", [NETWORKS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS[1:])])
def test_keep__a_trained_network_is_kept_as_a_prepared_one(shared_networks: Path, tmp_path: Path, name: str) -> None:
    network = prepared_once(shared_networks, name)
    module = trained(network)

    kept = keep_trained(tmp_path / "trained", module, network.files.facts)

    base, facts = network.files.facts, kept.facts
    differing = {key for key in base if facts[key] != base[key]}
    assert facts.keys() == base.keys()
    assert differing == {"taps", "weights", "graph_digest", "tensors_digest"}
    assert facts["taps"] == [base["taps"][0]]
    stored = load_file(kept.tensors)
    digest = tensors_digest(stored)
    assert facts["weights"] == {
        "origin": "trained",
        "identity": f"trained:{digest}",
        "digest": digest,
        "base": base["weights"],
    }
    own = module.network.state_dict()
    assert set(stored) == set(load_file(network.files.tensors))
    assert all(torch.equal(stored[key], own[key]) for key in stored)
    assert read_trunk(tmp_path / "trained") == kept
    assert all(part.training for part in module.modules())  # as it was given
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["trained"]


def test_keep__engines_run_what_was_trained(resnet: Prepared, tmp_path: Path) -> None:
    module = trained(resnet)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 64, 64, 3), dtype=np.uint8)

    kept = keep_trained(tmp_path / "trained", module, resnet.files.facts)
    session = trained_session(tmp_path / "cache", kept, module, 1)

    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(images))[0].numpy()
    before = OnnxEngine(resnet.files, 1).run(images)["last"]
    assert session.trunk() is kept
    for name in ("torch", "onnxruntime"):
        seen = session.open(session.trunk(), name).run(images)
        assert list(seen) == ["last"]
        assert np.allclose(seen["last"], expected, atol=1e-4, rtol=1e-4)
        assert not np.allclose(seen["last"], before, atol=1e-2)


def test_keep__a_session_builds_the_network_again_from_what_was_kept(resnet: Prepared, tmp_path: Path) -> None:
    module = trained(resnet).eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)

    kept = keep_trained(tmp_path / "trained", module, resnet.files.facts)
    again = trained_session(tmp_path / "cache", kept, None, 1).module()

    with torch.no_grad():
        assert torch.equal(again.last(images), module.last(images))
        assert len(again(images)) == 1


def test_keep__what_stood_there_is_replaced(own_resnet: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "rubbish").touch()

    keep_trained(folder, own_resnet.session().module(), own_resnet.files.facts)

    assert sorted(path.name for path in folder.iterdir()) == ["facts.json", "graph.onnx", "tensors.safetensors"]


def test_facts__without_a_graph_are_those_of_the_prepared_network(resnet: Prepared, tmp_path: Path) -> None:
    session = BackboneSession(tmp_path, resnet.request, NONE, 0, 1)

    found = session.facts()

    whole = dict(resnet.files.facts)
    weights = {key: whole["weights"][key] for key in ("origin", "identity")}
    assert found == {key: whole[key] for key in ("name", "source", "preprocess", "licence")} | {"weights": weights}
    assert list(tmp_path.iterdir()) == []
    assert resnet.session().facts() == whole


# The request ----------------------------------------------------------------------------------------------------

REQUEST = TrunkRequest("resnet18", "none:0", 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "resnet34"},
        {"weights": "none:1"},
        {"image": 225},
        {"image": None},
        {"mean": (0.5, 0.5, 0.6)},
        {"mean": None},
        {"std": (0.5, 0.5, 0.6)},
        {"std": None},
        {"small_stem": True},
    ],
    ids=str,
)
def test_request__every_field_counts(change: dict[str, Any]) -> None:
    assert replace(REQUEST, **change).digest != REQUEST.digest
    assert replace(REQUEST).digest == REQUEST.digest


def test_request__rules_and_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {REQUEST.digest}
    for package in ("torch", "timm", "torchvision", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setattr(trunk_module, "version", lambda name, package=package: "9" if name == package else "1")
            digests.add(REQUEST.digest)
    monkeypatch.setattr(trunk_module, "VERSION", 99)
    digests.add(REQUEST.digest)

    assert len(digests) == 6


# The cache ------------------------------------------------------------------------------------------------------


def folder_of(prepared: Prepared) -> Path:
    return trunk_folder(prepared.cache, prepared.request)


def test_cache__whole(own_resnet: Prepared, resnet: Prepared) -> None:
    found = cached_trunk(own_resnet.cache, own_resnet.request)

    assert found is not None
    assert found.facts == resnet.files.facts
    assert found.graph.parent == folder_of(own_resnet)


def test_cache__of_another_request(own_resnet: Prepared) -> None:
    assert cached_trunk(own_resnet.cache, replace(own_resnet.request, image=65)) is None


@pytest.mark.parametrize("name", ["graph.onnx", "tensors.safetensors", "facts.json"])
@pytest.mark.parametrize("how", ["gone", "empty", "cut", "flipped", "a folder"])
def test_cache__damaged(own_resnet: Prepared, name: str, how: str) -> None:
    path = folder_of(own_resnet) / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how != "gone":
        content[len(content) // 2] ^= 1
        part = {"empty": 0, "cut": len(content) - 5, "flipped": len(content)}[how]
        path.write_bytes(content[:part])

    assert read_trunk(folder_of(own_resnet)) is None


@pytest.mark.parametrize("value", [[], None, 3, {}, {"facts_digest": None}], ids=str)
def test_cache__facts_of_another_shape(own_resnet: Prepared, value: Any) -> None:
    (folder_of(own_resnet) / "facts.json").write_text(json.dumps(value))

    assert read_trunk(folder_of(own_resnet)) is None


def test_cache__facts_that_somebody_edited(own_resnet: Prepared) -> None:
    path = folder_of(own_resnet) / "facts.json"
    facts = files.read_json(path)
    facts["taps"][0]["dim"] += 1
    files.write_json(path, facts)

    assert read_trunk(folder_of(own_resnet)) is None


@pytest.mark.slow
def test_cache__a_damaged_network_is_built_again(own_resnet: Prepared, resnet: Prepared) -> None:
    (folder_of(own_resnet) / "graph.onnx").write_bytes(b"")
    (folder_of(own_resnet) / "rubbish").touch()

    found = own_resnet.session().trunk()

    assert found.facts == resnet.files.facts
    assert sorted(path.name for path in folder_of(own_resnet).iterdir()) == [
        "facts.json",
        "graph.onnx",
        "tensors.safetensors",
    ]


def test_cache__removed_while_its_use_is_noted(own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(os, "utime", gone)

    found = read_trunk(folder_of(own_resnet))

    assert found is not None
    assert found.facts == own_resnet.files.facts


def test_cache__reading_notes_the_use(own_resnet: Prepared) -> None:
    note = folder_of(own_resnet) / "facts.json"
    os.utime(note, (1, 1))

    read_trunk(folder_of(own_resnet))

    assert note.stat().st_mtime > 1000
