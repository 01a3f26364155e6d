"""From a name and weights to a prepared network in the cache: graph, tensors, facts. Imports timm or torchvision."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headway import files
from headway.backbones.catalog import PACKAGED, split_name
from headway.backbones.network import (
    Trunk,
    build_network,
    classifier_names,
    cut_trunk,
    own_preprocess,
    tensors_digest,
    trunk_tensors,
)
from headway.backbones.trunk import Tap, TrunkFiles, TrunkRequest, read_trunk, trunk_folder
from headway.backbones.weights import WeightsChoice
from headway.errors import HeadwayError

_SAME_LOGITS = 1e-4  # how far classifier(last) may be from the network's own logits to count as its classifier


def build_trunk(request: TrunkRequest, choice: WeightsChoice, *, seed: int) -> Trunk:
    """The network as a torch module, eval mode, on the CPU: the reference that every engine is held against."""
    network = build_network(request.name, choice, image=request.image, seed=seed)
    return cut_trunk(network, own_preprocess(request.name, network, request))[0]


def prepare_trunk(cache: Path, request: TrunkRequest, choice: WeightsChoice, *, seed: int) -> tuple[TrunkFiles, Trunk]:
    """Build the network, export its graph, and keep both with their facts in `cache`.

    Raises Refused for an unknown name or weights that do not fit; HeadwayError where it cannot be exported.
    """
    from safetensors.torch import save_file

    network = build_network(request.name, choice, image=request.image, seed=seed)
    preprocess = own_preprocess(request.name, network, request)
    trunk, taps = cut_trunk(network, preprocess)
    classifier = _classifier(trunk, preprocess.size)
    tensors = trunk_tensors(network, classifier_names(network))
    folder = trunk_folder(cache, request)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.new_folder(folder) as new:
            export_graph(trunk, taps, preprocess.size, new / "graph.onnx")
            save_file(tensors, new / "tensors.safetensors")
            facts: dict[str, Any] = {
                "name": request.name,
                "source": split_name(request.name)[0],
                "taps": [{"name": tap.name, "dim": tap.dim} for tap in taps],
                "feature_dim": taps[0].dim,
                "preprocess": preprocess.to_json(),
                "parameters": sum(tensor.numel() for key, tensor in tensors.items() if _is_parameter(network, key)),
                "licence": _licence(request.name, network),
                "weights": {"origin": choice.origin, "identity": choice.identity, "digest": tensors_digest(tensors)},
                "classifier": classifier,
                "timm_config": _timm_config(network) if classifier else None,
                **_measures(trunk, preprocess.size),
                "graph_digest": files.digest_file(new / "graph.onnx"),
                "tensors_digest": files.digest_file(new / "tensors.safetensors"),
            }
            files.write_json(new / "facts.json", {**facts, "facts_digest": files.digest_json(facts)})
    except OSError:
        if read_trunk(folder) is None:
            raise  # else another process prepared the same network meanwhile, and its files are as good
    whole = read_trunk(folder)
    if whole is None:
        raise HeadwayError(f"the prepared network in {folder} changed while it was written. Start again.")
    return whole, trunk


def export_graph(trunk: Trunk, taps: tuple[Tap, ...], size: int, path: Path) -> None:
    """Write the trunk as ONNX: `image` uint8 (B, size, size, 3) with free B; one output per tap, named by it."""
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    plain = _plainly_written(trunk)
    said = io.StringIO()
    try:
        # The exporter talks to the terminal and warns of its own future: neither is the user's concern.
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said), _no_logging():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                plain,
                (example,),
                path,
                dynamo=True,
                input_names=["image"],
                output_names=[tap.name for tap in taps],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the network's code makes it raise
        raise HeadwayError(
            f"this network cannot be exported to ONNX ({type(error).__name__}), so no bundle could be made of it. "
            f"Try another --backbone; headway backbones lists them."
        ) from error


class _Clamp6(nn.Module):
    """ReLU6 in one operation: the exporter takes nn.ReLU6 apart, at 40 ms each. Same bits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(0.0, 6.0)


def _plainly_written(trunk: Trunk) -> Trunk:
    """A copy that computes the same bits and exports in little more than half the time (lite0: 10 s → 6 s)."""
    copied = copy.deepcopy(trunk)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(parent, name, _Clamp6())
            elif getattr(child, "inplace", False) is True:
                child.inplace = False  # type: ignore[assignment]  # a flag that every activation of torch and timm has
    return copied


@contextmanager
def _no_logging() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


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
    found = getattr(network, "pretrained_cfg", {}).get("license")
    return str(found) if found else None


def _timm_config(network: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    kept = ("architecture", "tag", "input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode")
    return {
        "architecture": config["architecture"],
        "num_features": int(network.num_features),  # type: ignore[arg-type]
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
        trunk(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return {"macs": counter.get_total_flops() // 2, "layers": layers}
