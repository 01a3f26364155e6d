"""From a name and weights to a prepared network in the cache: graph, tensors, facts. Imports timm or torchvision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headway import files
from headway.backbones.catalog import CNN, PACKAGED, split_name
from headway.backbones.graph import export_graph
from headway.backbones.network import (
    Trunk,
    build_network,
    classifier_names,
    cut_trunk,
    grey_image,
    own_preprocess,
    tensors_digest,
    trunk_tensors,
)
from headway.backbones.stems import stem_arguments, stem_kind
from headway.backbones.trunk import Tap, TrunkFiles, TrunkRequest, check_trunk, read_trunk, trunk_folder
from headway.backbones.weights import WeightsChoice
from headway.errors import HeadwayError

_SAME_LOGITS = 1e-4  # how far classifier(last) may be from the network's own logits to count as its classifier


def build_trunk(request: TrunkRequest, choice: WeightsChoice, *, seed: int) -> Trunk:
    """The network as a torch module, eval mode, on the CPU: the reference that every engine is held against."""
    network = _build(request, choice, seed)
    return cut_trunk(network, own_preprocess(request.name, network, request))[0]


def prepare_trunk(cache: Path, request: TrunkRequest, choice: WeightsChoice, *, seed: int) -> tuple[TrunkFiles, Trunk]:
    """Build the network, export its graph, and keep both with their facts in `cache`.

    Raises Refused for an unknown name or weights that do not fit; HeadwayError where it cannot be exported.
    """
    network = _build(request, choice, seed)
    preprocess = own_preprocess(request.name, network, request)
    trunk, taps = cut_trunk(network, preprocess)
    folder = trunk_folder(cache, request)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        # What another process prepared meanwhile stays: it may be reading its files at this moment.
        with files.new_folder(folder, keep=lambda: check_trunk(folder) is not None) as new:
            _write(new, trunk, taps, base_facts(request, choice, network))
    except OSError:
        if read_trunk(folder) is None:
            raise  # else another process prepared the same network meanwhile, and its files are as good
    return _read_whole(folder), trunk


def base_facts(request: TrunkRequest, choice: WeightsChoice, network: nn.Module) -> dict[str, Any]:
    """The facts of a network that do not ask for its graph: name, source, preprocess, licence, weights."""
    return {
        "name": request.name,
        "source": split_name(request.name)[0],
        "preprocess": own_preprocess(request.name, network, request).to_json(),
        "licence": _licence(request.name, network),
        "weights": {"origin": choice.origin, "identity": choice.identity},
    }


def keep_trained(folder: Path, trunk: Trunk, base: Mapping[str, Any]) -> TrunkFiles:
    """A trained network as `prepare_trunk` keeps one: graph (with the tap `last` only), tensors, facts.

    folder  appears by rename, whole; what stood there is replaced
    trunk   on any device, in any mode: it is not changed
    base    facts of the network that training began from (BackboneSession.facts); its weights come under weights.base

    Raises HeadwayError where it cannot be exported.
    """
    still = copy.deepcopy(trunk).narrowed().requires_grad_(False).cpu().eval()
    with torch.no_grad():
        last = Tap("last", still.last(grey_image(still.size)).shape[1])
    kept = {key: base[key] for key in ("name", "source", "preprocess", "licence")}
    weights = {"origin": "trained", "base": dict(base["weights"])}
    with files.new_folder(folder) as new:
        _write(new, still, (last,), {**kept, "weights": weights})
    return _read_whole(folder)


def _build(request: TrunkRequest, choice: WeightsChoice, seed: int) -> nn.Module:
    return build_network(request.name, choice, image=request.image, seed=seed, small_stem=request.small_stem)


def _write(new: Path, trunk: Trunk, taps: tuple[Tap, ...], known: Mapping[str, Any]) -> None:
    """Graph, tensors and facts of a network into the new folder; `known` is what the network itself cannot tell."""
    from safetensors.torch import save_file

    network, size = trunk.network, trunk.size
    classifier, arguments = _classifier(trunk, size), stem_arguments(network)
    tensors = trunk_tensors(network, classifier_names(network))
    digest = tensors_digest(tensors)
    if stem_kind(network) != "own":  # the same tensors may stand in both networks, which see other things
        digest = files.digest_json([digest, stem_kind(network)])
    export_graph(trunk, taps, size, new / "graph.onnx")
    save_file(tensors, new / "tensors.safetensors")
    facts: dict[str, Any] = {
        **known,
        "taps": [{"name": tap.name, "dim": tap.dim} for tap in taps],
        "feature_dim": taps[0].dim,
        "parameters": sum(tensor.numel() for key, tensor in tensors.items() if _is_parameter(network, key)),
        "weights": {"identity": f"trained:{digest}", **known["weights"], "digest": digest},
        "stem": stem_kind(network),
        "classifier": classifier,
        "timm_config": _timm_config(network, arguments) if classifier and arguments is not None else None,
        **_measures(trunk, size),
        "graph_digest": files.digest_file(new / "graph.onnx"),
        "tensors_digest": files.digest_file(new / "tensors.safetensors"),
    }
    files.write_json(new / "facts.json", {**facts, "facts_digest": files.digest_json(facts)})


def _read_whole(folder: Path) -> TrunkFiles:
    whole = read_trunk(folder)
    if whole is None:
        raise HeadwayError(f"the prepared network in {folder} changed while it was written. Start again.")
    return whole


def _is_parameter(network: nn.Module, key: str) -> bool:
    return isinstance(_lookup(network, key), nn.Parameter)


def _lookup(network: nn.Module, key: str) -> Any:
    found: Any = network
    for part in key.split("."):
        found = getattr(found, part)
    return found


def _classifier(trunk: Trunk, size: int) -> str | None:
    """Name of the linear layer that reads exactly our `last` features; None where there is no such layer."""
    names = classifier_names(trunk.network)
    if not trunk.stages or len(names) != 1:
        return None
    try:
        layer = _lookup(trunk.network, names[0])
    except AttributeError:
        return None
    if not isinstance(layer, nn.Linear):
        return None
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        last = trunk(image)[0]
        own = trunk.network((image.permute(0, 3, 1, 2).float() - trunk.mean) / trunk.std)
        if last.shape[1] != layer.in_features:
            return None
        same = torch.allclose(layer(last), own, atol=_SAME_LOGITS, rtol=_SAME_LOGITS)
    return names[0] if same else None


def _licence(name: str, network: nn.Module) -> str | None:
    if name in PACKAGED:
        return PACKAGED[name].licence
    if name == CNN:
        return "Apache-2.0"
    found = getattr(network, "pretrained_cfg", {}).get("license")
    return str(found) if found else None


def _timm_config(network: nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What timm needs to build the network; `arguments` are those that differ from its own."""
    config: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    kept = ("architecture", "tag", "input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode")
    return {
        "architecture": config["architecture"],
        "num_features": int(network.num_features),  # type: ignore[arg-type]
        **({"model_args": dict(arguments)} if arguments else {}),
        "pretrained_cfg": {
            **{key: config[key] for key in kept if config.get(key) is not None},
            "mean": list(config["mean"]),
            "std": list(config["std"]),
            "first_conv": config.get("first_conv"),
            "classifier": config.get("classifier"),
        },
    }


def _measures(trunk: Trunk, size: int) -> dict[str, Any]:
    """Multiply-adds of one image, and the output shape and parameter count of each top-level layer."""
    from torch.utils.flop_counter import FlopCounterMode

    layers: list[dict[str, Any]] = []

    def note(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shape = list(output.shape[1:]) if isinstance(output, torch.Tensor) else []
            count = sum(parameter.numel() for parameter in module.parameters())
            layers.append({"name": name, "kind": type(module).__name__, "shape": shape, "parameters": count})

        return module.register_forward_hook(hook)

    hooks = [note(name, child) for name, child in trunk.network.named_children()]
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        trunk.last(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return {"macs": counter.get_total_flops() // 2, "layers": layers}
