"""A bundle as a torch module again: its network by name, its tensors, its head. Imports torch, and timm or torchvision.

Nothing but the numbers decides whether the network is the right one: whoever exports it holds it against the bundle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from headway.backbones.network import Trunk, build_network, classifier_names, cut_trunk, trunk_tensors
from headway.backbones.stems import LARGEST, stem_kind
from headway.backbones.weights import WeightsChoice
from headway.deployment.bundle import Bundle
from headway.deployment.manifest import TENSORS
from headway.errors import HeadwayError

_SEED = 0  # of the weights that a network has before the bundle's are put in


class TorchClassifier(nn.Module):
    """Images (B, S, S, 3) uint8 → logits (B, C) and features (B, D), float32, as the bundle's graph gives them.

    taps  of the trunk, those that the head reads, by their place in its outputs
    """

    def __init__(self, trunk: Trunk, taps: tuple[int, ...], layers: list[nn.Linear]) -> None:
        super().__init__()
        self.trunk = trunk
        self.taps = taps
        self.layers = nn.ModuleList(layers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.trunk(image)
        features = torch.cat([found[tap] for tap in self.taps], dim=1)  # (B, D)
        hidden = features
        for position, layer in enumerate(self.layers):
            hidden = layer(hidden if position == 0 else torch.relu(hidden))
        return hidden, features


def rebuilt(bundle: Bundle) -> Iterator[TorchClassifier]:
    """What the bundle may be as a torch module, the likeliest first: eval mode, on the processor.

    A bundle does not say whether its network's stem was made for small images, and the same tensors can stand in both.
    Raises HeadwayError where none of the networks of that name takes the bundle's tensors.
    """
    tensors, fitting = _tensors(bundle.path / TENSORS, bundle.manifest.tensors_digest), 0
    for small in (False, True) if bundle.preprocess.size <= LARGEST else (False,):
        network = _network(bundle, small)
        made = None if small and stem_kind(network) == "own" else _filled(bundle, network, dict(tensors))
        if made is not None:
            fitting += 1
            yield made
    if not fitting:
        raise HeadwayError(
            f"{bundle.path / TENSORS} does not fit the network {bundle.manifest.backbone.get('name')!r} as it is built "
            "here. Try the versions of torch and timm that stand in the bundle's README.md, or --to onnx."
        )


def _network(bundle: Bundle, small: bool) -> nn.Module:
    name = str(bundle.manifest.backbone.get("name"))
    none = WeightsChoice(origin="none", identity=f"none:{_SEED}", path=None)
    return build_network(name, none, image=bundle.preprocess.size, seed=_SEED, small_stem=small)


def _filled(bundle: Bundle, network: nn.Module, tensors: dict[str, Tensor]) -> TorchClassifier | None:
    """The network with the bundle's tensors and head; None where they do not fit each other."""
    wanted = tuple(bundle.manifest.head["taps"])
    own = classifier_names(network)
    layers = list(_layers(tensors, own[0] if len(own) == 1 else None))
    if set(trunk_tensors(network, own)) != set(tensors):
        return None
    try:
        network.load_state_dict(tensors, strict=False)  # the classifier that the network still has is not used
        trunk, taps = cut_trunk(network, bundle.preprocess)
    except RuntimeError:  # other shapes
        return None
    names = [tap.name for tap in taps]
    if not layers or not set(wanted) <= set(names):
        return None
    for name in own if trunk.stages else ():
        network.set_submodule(name, nn.Identity())  # never run, and megabytes of another data set's classes
    if wanted == ("last",):
        trunk = trunk.narrowed()
    places = tuple(names.index(tap) for tap in wanted)
    return TorchClassifier(trunk, places, layers).requires_grad_(False).eval()


def _layers(tensors: dict[str, Tensor], classifier: str | None) -> Iterator[nn.Linear]:
    """The head's layers, taken out of `tensors`: under the name of the network's own classifier, or head.0, head.1."""
    prefixes = [classifier] if f"{classifier}.weight" in tensors else [f"head.{at}" for at in range(len(tensors))]
    for prefix in prefixes:
        if f"{prefix}.weight" not in tensors:
            return
        weight, bias = tensors.pop(f"{prefix}.weight"), tensors.pop(f"{prefix}.bias")
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        yield layer


def _tensors(path: Path, digest: str) -> Mapping[str, Tensor]:
    from safetensors.torch import load

    from headway import files

    try:
        content = path.read_bytes()
    except OSError as error:
        raise HeadwayError(f"{path} cannot be read: {error.strerror or 'input/output error'}.") from None
    if files.digest_bytes(content) != digest:
        raise HeadwayError(f"{path} is damaged: its sha256 is not the one in the manifest. Copy the bundle again.")
    found: dict[str, Tensor] = load(content)
    return found
