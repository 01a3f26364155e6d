"""The small network for small images, against the same network written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from headway.backbones.catalog import known
from headway.backbones.cnn import SmallCnn, build_cnn
from headway.backbones.engines import BATCH, OnnxEngine
from headway.backbones.network import build_network, cut_trunk, own_preprocess
from headway.backbones.opening import BackboneSession
from headway.backbones.prepare import keep_trained
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice, choose_weights
from headway.errors import Refused
from tests.backbones.networks import Prepared, prepared_once

NONE = WeightsChoice("none", "none:0")
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


class WrittenOut(nn.Module):
    """Conv 3×3, ReLU, BatchNorm, max-pool 2, five times; flatten, 256, ReLU, 100: as the seed tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.conv4, self.bn4 = nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128)
        self.conv5, self.bn5 = nn.Conv2d(128, 512, 3, padding=1), nn.BatchNorm2d(512)
        self.fc1, self.fc2 = nn.Linear(512, 256), nn.Linear(256, 100)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for conv, bn in (
            (self.conv1, self.bn1),
            (self.conv2, self.bn2),
            (self.conv3, self.bn3),
            (self.conv4, self.bn4),
            (self.conv5, self.bn5),
        ):
            x = nn.functional.max_pool2d(bn(torch.relu(conv(x))), 2)
        return torch.flatten(x, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fc1(self.features(x)))
        logits: torch.Tensor = self.fc2(x)
        return logits


def test_cnn__is_the_network_written_out() -> None:
    own, other = build_cnn(32), WrittenOut()
    tensors = list(own.state_dict().values())
    theirs = [one for key, one in other.state_dict().items() if not key.startswith("fc")]
    other.load_state_dict({**other.state_dict(), **dict(zip(list(other.state_dict()), tensors, strict=False))})
    x = torch.randn(4, 3, 32, 32)

    assert [one.shape for one in tensors] == [one.shape for one in theirs]
    # Batch statistics: the last block is a matrix product then. One step of plain gradient descent is the same too.
    for network in (own.train(), other.train()):
        features = network(x) if network is own else other.features(x)
        features.square().sum().backward()
    for mine, named in zip(own.parameters(), other.parameters(), strict=False):
        assert mine.grad is not None
        assert named.grad is not None
        torch.testing.assert_close(mine.grad, named.grad, rtol=1e-4, atol=1e-4 * float(named.grad.abs().max()))
    torch.testing.assert_close(own(x), other.features(x), rtol=1e-5, atol=1e-5)
    other.load_state_dict({**other.state_dict(), **dict(zip(list(other.state_dict()), tensors, strict=False))})
    assert torch.equal(own.eval()(x), other.eval().features(x))  # running statistics


def test_cnn__has_846308_parameters_with_its_head() -> None:
    head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 100))
    own = sum(one.numel() for one in [*build_cnn(32).parameters(), *head.parameters()])

    assert own == 846_308
    assert own == sum(one.numel() for one in WrittenOut().parameters())


@pytest.mark.parametrize(("side", "dim"), [(32, 512), (64, 2048), (96, 4608)])
def test_cnn__features_by_side(side: int, dim: int) -> None:
    assert build_cnn(side).eval()(torch.zeros(2, 3, side, side)).shape == (2, dim)


@pytest.mark.parametrize(("side", "near"), [(40, 32), (16, 32), (224 + 20, 256), (1, 32)])
def test_cnn__sides_that_cannot_be_halved_five_times(side: int, near: int) -> None:
    with pytest.raises(Refused) as caught:
        build_network("cnn", NONE, image=side, seed=0)

    assert str(caught.value) == (
        f"--image {side}: the backbone cnn halves its images five times, so that their side must be a multiple of 32. "
        f"Nearest: --image {near}"
    )


def test_cnn__its_own_preprocessing_and_what_was_asked_for(tmp_path: Path) -> None:
    plain = TrunkRequest("cnn", "none:0", None, None, None)
    asked = TrunkRequest("cnn", "none:0", 64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))

    assert own_preprocess("cnn", SmallCnn(), plain) == Preprocess(32, None, "squash", "bilinear", MEAN, STD)
    expected = Preprocess(64, None, "squash", "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert own_preprocess("cnn", SmallCnn(), asked) == expected
    session = BackboneSession(tmp_path, asked, NONE, 0, 1)
    assert session.early_preprocess() == expected


@pytest.mark.parametrize("asked", [None, "none"])
@pytest.mark.parametrize("offline", [True, False])
def test_cnn__random_weights_by_seed(asked: str | None, offline: bool) -> None:
    assert choose_weights("cnn", asked, seed=7, offline=offline) == WeightsChoice("none", "none:7")


def test_cnn__seed_decides_the_weights() -> None:
    one, same, other = (build_network("cnn", NONE, image=32, seed=seed).state_dict() for seed in (3, 3, 4))

    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["blocks.0.0.weight"], other["blocks.0.0.weight"])


def test_cnn__weights_from_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = build_network("cnn", NONE, image=32, seed=5).state_dict()
    save_file(tensors, tmp_path / "cnn.safetensors")

    choice = choose_weights("cnn", str(tmp_path / "cnn.safetensors"), seed=0, offline=True)

    found = build_network("cnn", choice, image=32, seed=0).state_dict()
    assert choice.origin == "file"
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_cnn__what_the_list_says_of_it_is_so() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    (listed,) = (one for one in known() if one.name == "cnn")
    network, counter = build_cnn(32).eval(), FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        dim = network(torch.zeros(1, 3, 32, 32)).shape[1]

    assert (listed.input, listed.features, listed.top1, listed.licence) == (32, dim, None, "Apache-2.0")
    assert listed.parameters == sum(one.numel() for one in network.parameters())
    assert listed.macs == counter.get_total_flops() // 2
    assert listed.offline


def test_cnn__one_tap() -> None:
    network = build_network("cnn", NONE, image=32, seed=0)

    _, taps = cut_trunk(network, own_preprocess("cnn", network, TrunkRequest("cnn", "none:0", 32, None, None)))

    assert [(tap.name, tap.dim) for tap in taps] == [("last", 512)]


@pytest.fixture
def cnn(shared_networks: Path) -> Prepared:
    return prepared_once(shared_networks, "cnn", 32)


def test_cnn__prepared_and_run_like_any_other(cnn: Prepared) -> None:
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8)
    x = (torch.from_numpy(images) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    network = build_network("cnn", NONE, image=32, seed=0)

    seen = OnnxEngine(cnn.files, 1).run(images)["last"]

    facts = cnn.files.facts
    with torch.no_grad():
        assert np.allclose(seen, network(x.permute(0, 3, 1, 2)).numpy(), atol=1e-4)
    assert (facts["source"], facts["licence"], facts["parameters"]) == ("headway", "Apache-2.0", 689_280)
    assert (facts["classifier"], facts["timm_config"], facts["stem"]) == (None, None, "own")


def test_cnn__kept_when_trained(cnn: Prepared, tmp_path: Path) -> None:
    session = BackboneSession(tmp_path, cnn.request, NONE, 0, 1)
    module = session.module()
    with torch.no_grad():
        module.network.get_submodule("blocks.4.0").weight.mul_(2)  # type: ignore[operator]

    kept = keep_trained(tmp_path / "trained", module, session.facts())

    assert kept.facts["weights"]["origin"] == "trained"
    assert kept.facts["weights"]["base"] == {"origin": "none", "identity": "none:0"}
    assert kept.facts["weights"]["digest"] != cnn.files.facts["weights"]["digest"]
