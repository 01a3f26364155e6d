"""The catalogue: names, and numbers that the networks themselves confirm."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from headway.backbones import catalog
from headway.backbones.catalog import PACKAGED, PACKAGED_PREPROCESS, check_name, known, matching, names, offline_names
from headway.errors import Refused


def refusal(name: str) -> str:
    with pytest.raises(Refused) as caught:
        check_name(name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet18", ("timm", "resnet18")),
        ("timm:resnet18.tv_in1k", ("timm", "resnet18.tv_in1k")),
        ("torchvision:resnet18", ("torchvision", "resnet18")),
        ("cnn", ("headway", "cnn")),
    ],
)
def test_split_name__library_and_network(name: str, parts: tuple[str, str]) -> None:
    assert catalog.split_name(name) == parts


def test_split_name__an_unknown_library() -> None:
    with pytest.raises(Refused) as caught:
        catalog.split_name("keras:resnet")

    assert str(caught.value) == (
        "no library 'keras' for backbones. Use a timm name (tf_efficientnet_lite0), torchvision:NAME or hf:FOLDER."
    )


@pytest.mark.parametrize(
    "name", ["resnet18", "timm:resnet18", "resnet18.tv_in1k", "torchvision:resnet18", "test_resnet", "cnn"]
)
def test_check_name__known(name: str) -> None:
    assert check_name(name) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tf_efficientnet_lit0",
            "no backbone 'tf_efficientnet_lit0'. Nearest: tf_efficientnet_lite0, tf_efficientnet_lite4, "
            "tf_efficientnet_lite3. See: headway backbones",
        ),
        (
            "torchvision:resnet19",
            "no backbone 'torchvision:resnet19'. Nearest: torchvision:resnet18, torchvision:resnet152, "
            "torchvision:resnet101. See: headway backbones",
        ),
        ("cn", "no backbone 'cn'. Nearest: cnn. See: headway backbones"),
        ("0", "no backbone '0'. See: headway backbones"),
        (
            "resnet18.tv_in2k",
            "backbone resnet18 has no weights 'tv_in2k'. "
            "Nearest: resnet18.tv_in1k, resnet18.a3_in1k, resnet18.a2_in1k.",
        ),
    ],
)
def test_check_name__unknown(name: str, message: str) -> None:
    assert refusal(name) == message


def test_packaged__preprocessing_is_timms_own() -> None:
    import timm

    told: dict[str, Any] = {name: timm.get_pretrained_cfg(name) for name in PACKAGED_PREPROCESS}
    assert {
        name: (config.input_size[-1], config.crop_pct, config.interpolation, config.mean, config.std)
        for name, config in told.items()
    } == PACKAGED_PREPROCESS
    assert {config.crop_mode for config in told.values()} == {"center"}
    assert PACKAGED.keys() == PACKAGED_PREPROCESS.keys()


def test_packaged__file_carries_the_start_of_its_digest() -> None:
    assert all(one.sha256[:8] in one.file and len(one.sha256) == 64 for one in PACKAGED.values())


def test_offline__what_is_installed() -> None:
    installed = [name for name, one in PACKAGED.items() if importlib.util.find_spec(one.module) is not None]

    assert offline_names() == installed
    assert catalog.DEFAULT in installed


def test_known__offline_first_then_by_cost() -> None:
    listed = known()

    keys = [(not one.offline, one.macs) for one in listed]
    ours = [one.name for one in listed].index("cnn")
    assert keys[:ours] + keys[ours + 1 :] == sorted(keys[:ours] + keys[ours + 1 :])
    assert ours == len(offline_names())  # behind those that bring pretrained weights
    assert {one.name for one in listed if one.offline} == {*offline_names(), "cnn"}
    assert {"resnet18.tv_in1k", "resnet50.tv_in1k", *PACKAGED} <= {one.name for one in listed}
    assert all(one.top1 is None or 0.5 < one.top1 < 0.95 for one in listed)


@pytest.mark.parametrize("pattern", ["lite0", "*lite0", "tf_*lite?"])
def test_matching__by_part_and_by_pattern(pattern: str) -> None:
    found = {one.name: one for one in matching(pattern)}

    assert found["tf_efficientnet_lite0"].top1 == 0.74846
    assert all("lite" in name for name in found)


def test_matching__tells_what_timm_tells() -> None:
    found = {one.name: one for one in matching("resnet18.a")}

    assert {"resnet18.a1_in1k", "resnet18.a2_in1k", "resnet18.a3_in1k"} <= found.keys()
    one = found["resnet18.a1_in1k"]
    assert (one.input, one.licence, one.parameters, one.offline) == (224, "apache-2.0", None, False)


def test_matching__nothing() -> None:
    assert matching("no-such-network") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(catalog._KNOWN))
def test_known__numbers_of_the_network_itself(name: str) -> None:
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    side, parameters, macs, _, features, _ = catalog._KNOWN[name]
    config = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=0).eval()
        counter = FlopCounterMode(display=False)
        with torch.inference_mode(), counter:
            out = network(torch.zeros(1, 3, side, side))

    assert config is not None
    assert config.input_size[-1] == side
    assert out.shape == (1, features)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert counter.get_total_flops() // 2 == macs


@pytest.mark.slow
def test_names__read_off_the_source_are_those_that_the_libraries_list() -> None:
    import timm
    import torchvision

    assert names("timm") == sorted(timm.list_models())
    assert names("torchvision") == sorted(torchvision.models.list_models(module=torchvision.models))
