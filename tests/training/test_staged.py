"""Frozen is frozen: plain training steps on networks with BatchNorm, every parameter and buffer compared."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import torch
from torch import nn

from headway.backbones.network import build_network, cut_trunk, own_preprocess
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice
from headway.training.staged import StagedClassifier, frozen_digest

SIDE, CLASSES = 64, 3
NORMS = ("running_mean", "running_var", "num_batches_tracked")


def model_of(name: str = "test_resnet", *, freeze_bn: bool = False, dropout: float = 0.0, side: int = SIDE) -> Any:
    request = TrunkRequest(name, "none:0", side, None, None)
    network = build_network(name, WeightsChoice("none", "none:0"), image=side, seed=0)
    trunk, taps = cut_trunk(network, own_preprocess(name, network, request))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
        head = nn.Sequential(*layers, nn.Linear(taps[0].dim, CLASSES))
    return StagedClassifier(trunk, head, freeze_bn=freeze_bn)


def images(n: int, seed: int = 0, side: int = SIDE) -> torch.Tensor:
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def train(model: nn.Module, inputs: list[torch.Tensor], lr: float = 0.05) -> list[float]:
    """SGD with momentum and weight decay, nothing of the house: whatever can move does."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.1)
    losses = []
    for step, batch in enumerate(inputs):
        torch.manual_seed(step)
        model.train()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), torch.arange(len(batch)) % CLASSES)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer, those that are not saved too."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def moved(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    after = snapshot(model)
    assert after.keys() == before.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def stage_of_resnet(name: str) -> int:
    """Written out for test_resnet: the stage of a tensor by its name; 5 = head."""
    if name.startswith("head."):
        return 5
    part = name.removeprefix("trunk.network.").split(".")[0]
    return {"layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4}.get(part, 0)


@pytest.mark.parametrize("k", [0, 1, 2, 4, 5, None])
@pytest.mark.parametrize("freeze_bn", [False, True])
def test_thaw__what_is_frozen_neither_learns_nor_moves(k: int | None, freeze_bn: bool) -> None:
    model = model_of(freeze_bn=freeze_bn)
    model.thaw(k)
    before, digest = snapshot(model), frozen_digest(model)

    train(model, [images(6, seed) for seed in range(3)])

    first = 5 - (5 if k is None else k)
    ours = {name for name in before if not name.startswith(("trunk.network.fc.", "trunk.mean", "trunk.std"))}
    live = {name for name in ours if stage_of_resnet(name) >= first}
    if freeze_bn:
        live = {name for name in live if not name.endswith(NORMS)}
    assert moved(before, model) == live
    assert frozen_digest(model) == digest
    statistics = {name for name in live if name.endswith("running_mean")}
    assert bool(statistics) == (k != 0 and not freeze_bn)  # a live BatchNorm does move


@pytest.mark.parametrize(
    "name",
    ["tf_efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto", "test_vit", "cnn"],
)
@pytest.mark.parametrize("k", [0, 2])
def test_thaw__of_other_families(name: str, k: int) -> None:
    model = model_of(name)
    model.thaw(k)
    before, digest = snapshot(model), frozen_digest(model)

    train(model, [images(4, seed) for seed in range(2)], lr=0.01)

    depths = model.depths()
    frozen = {one for one in depths if depths[one] < model.n_stages - k}
    changed = moved(before, model)
    assert not changed & frozen
    assert {one for one in depths if one.startswith("head.")} <= changed
    assert frozen_digest(model) == digest
    assert bool(changed - {one for one in before if one.startswith("head.")}) == (k > 0)


def test_thaw__frozen_parts_act_as_in_prediction() -> None:
    """Dropout and drop path of a frozen stage are off, those of a live one and of the head are on."""
    model = model_of("test_vit", dropout=0.5)
    for module in model.trunk.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    x = images(2)

    def differs(k: int | None, part: nn.Module) -> bool:
        model.thaw(k)
        model.train()
        with torch.no_grad():
            return not torch.equal(part(x), part(x))

    class Features(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = model.trunk.last(x)
            return features

    assert not differs(0, Features())
    assert differs(1, Features())
    assert differs(0, model)
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(x), model(x))


def test_thaw__gradually_and_back_again() -> None:
    model = model_of()
    trainable = []
    for k in (0, 1, 2, 3, 4, 5, 6, None, 1, 0):
        model.thaw(k)
        trainable.append(model.count()[1])

    assert trainable == [*sorted(trainable[:6]), trainable[5], trainable[5], trainable[1], trainable[0]]
    assert len(set(trainable[:6])) == 6
    assert trainable[0] == 96 * CLASSES + CLASSES


def test_thaw__while_training_sets_the_mode_too() -> None:
    model = model_of()
    model.train()

    model.thaw(1)

    assert not model.trunk.network.layer3.training
    assert not model.trunk.network.layer3[0].bn1.training
    assert model.trunk.network.layer4[0].bn1.training
    model.thaw(2)
    assert model.trunk.network.layer3[0].bn1.training


def test_count__without_the_librarys_classifier() -> None:
    model = model_of()
    network = model.trunk.network
    plain = sum(one.numel() for one in network.parameters()) - sum(one.numel() for one in network.fc.parameters())

    assert model.count() == (plain + 96 * CLASSES + CLASSES,) * 2
    assert not any(one.requires_grad for one in network.fc.parameters())


def test_depths__by_stage_with_the_head_deepest() -> None:
    model = model_of()

    depths = model.depths()

    names = {name for name, _ in model.named_parameters() if not name.startswith("trunk.network.fc.")}
    assert depths == {name: stage_of_resnet(name) for name in names}
    assert (model.n_stages, max(depths.values())) == (5, 5)


def test_depths__what_stands_beside_the_blocks_of_a_transformer_is_nearest_the_image() -> None:
    depths = model_of("test_vit").depths()

    assert depths["trunk.network.cls_token"] == depths["trunk.network.pos_embed"] == 0
    assert depths["trunk.network.norm.weight"] == 3
    assert depths["head.0.weight"] == 4


@pytest.mark.parametrize("name", ["test_resnet", "cnn"])
def test_forward__is_the_head_on_last_features(name: str) -> None:
    model = model_of(name).eval()
    x = images(3)

    with torch.no_grad():
        assert torch.equal(model(x), model.head(model.trunk(x)[0]))


# Front and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0", "cnn", "test_vit"])
@pytest.mark.parametrize(("live", "freeze_bn"), [(2, False), (1, True)])
def test_front_and_back__trained_on_activations_as_on_images(name: str, live: int, freeze_bn: bool) -> None:
    apart, whole = model_of(name, freeze_bn=freeze_bn), model_of(name, freeze_bn=freeze_bn)
    for model in (apart, whole):
        model.thaw(live)
    digest = frozen_digest(apart)
    batches = [images(4, seed) for seed in range(3)]
    parts = apart.front_and_back(apart.n_stages - live)
    assert parts is not None
    front, back = parts
    activations = [front(batch) for batch in batches]

    losses = [train(back, activations, lr=0.01), train(whole, batches, lr=0.01)]

    assert losses[0] == losses[1]
    mine, theirs = snapshot(apart), snapshot(whole)
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert frozen_digest(apart) == digest == frozen_digest(whole)
    for model in (apart, whole, back):
        model.eval()
    x = images(3, seed=9)
    with torch.no_grad():
        assert torch.equal(apart(x), whole(x))
        assert torch.equal(back(front(x)), whole(x))


def test_front_and_back__names_and_depths_are_those_of_the_whole() -> None:
    model = model_of()
    model.thaw(2)
    parts = model.front_and_back(3)
    assert parts is not None
    back = parts[1]

    assert isinstance(back, StagedClassifier)
    assert set(back.state_dict()) == {
        key for key in model.state_dict() if stage_of_resnet(key) >= 3 and ".fc." not in key
    }
    assert back.depths() == {key: depth for key, depth in model.depths().items() if depth >= 3}
    assert (back.n_stages, back.n_live, back.count()[1]) == (5, 2, model.count()[1])


def test_front_and_back__a_kept_state_goes_into_the_whole() -> None:
    model = model_of()
    model.thaw(1)
    parts = model.front_and_back(4)
    assert parts is not None
    front, back = parts
    kept = {key: value.clone() for key, value in back.state_dict().items()}
    train(back, [front(images(4))])
    other = model_of()

    back.load_state_dict(kept)

    for one in (model, other):
        one.eval()
    with torch.no_grad():
        assert torch.equal(model(images(2)), other(images(2)))


def test_front_and_back__the_head_alone_learns_on_features() -> None:
    model = model_of()
    model.thaw(0)
    parts = model.front_and_back(5)
    assert parts is not None
    front, back = parts

    assert set(dict(back.named_parameters())) == {"head.0.weight", "head.0.bias"}
    assert back.depths() == {"head.0.weight": 5, "head.0.bias": 5}
    assert front(images(2)).shape == (2, 96)
    assert back(front(images(2))).shape == (2, CLASSES)


def test_front_and_back__a_live_stage_cannot_be_in_front() -> None:
    model = model_of()
    model.thaw(3)

    with pytest.raises(ValueError, match="3 stages in front, but only 2 are frozen"):
        model.front_and_back(3)
    assert model.front_and_back(0) is None


# The digest -------------------------------------------------------------------------------------------------------


def test_digest__counts_what_is_frozen() -> None:
    model = model_of()
    statistics = {name for name in snapshot(model) if name.endswith(NORMS)}

    model.thaw(None)
    assert frozen_digest(model)["tensors"] == 0
    model.thaw(1)
    known = {name for name in model.depths()} | statistics
    assert frozen_digest(model)["tensors"] == len({name for name in known if stage_of_resnet(name) < 4})
    model.thaw(0)
    assert (
        frozen_digest(model)["tensors"] == len({name for name in known if stage_of_resnet(name) < 5}) + 2
    )  # mean, std
    frozen = model_of(freeze_bn=True)
    assert frozen_digest(frozen)["tensors"] == len(statistics)


def test_digest__one_bit_of_any_frozen_tensor() -> None:
    model = model_of()
    model.thaw(1)
    digest = frozen_digest(model)
    assert digest == frozen_digest(model.train())
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    chosen = ["conv1.0.weight", "layer1.0.bn1.running_var", "layer3.0.bn1.num_batches_tracked", "bn1.bias"]

    for name in chosen:
        tensor = named[f"trunk.network.{name}"].data
        flat = tensor.view(-1) if tensor.ndim else tensor.view(1)
        kept = flat[0].clone()
        flat[0] = torch.nextafter(kept, torch.tensor(9e9)) if tensor.is_floating_point() else kept + 1
        assert frozen_digest(model) != digest, name
        flat[0] = kept
    with torch.no_grad():
        named["trunk.network.layer4.0.bn1.running_mean"].add_(1)
        named["head.0.weight"].add_(1)
    assert frozen_digest(model) == digest


def test_digest__is_sha256_over_names_and_bytes() -> None:
    model, rows = model_of(freeze_bn=True), []
    for name, tensor in sorted(model.named_buffers()):
        if name.endswith(NORMS):
            dtype = {"num_batches_tracked": "torch.int64"}.get(name.rpartition(".")[2], "torch.float32")
            rows.append([name, dtype, list(tensor.shape), hashlib.sha256(tensor.numpy().tobytes()).hexdigest()])
    plain = json.dumps(rows, separators=(",", ":")).encode()

    assert frozen_digest(model)["digest"] == hashlib.sha256(plain).hexdigest()
