"""Image classifiers of Hugging Face's `transformers` as backbones: hf:FOLDER of `save_pretrained`, or hf:NAME.

What the classifier reads are the features of the tap `last`. Only safetensors are read; no code of a repository runs.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headway.backbones.preprocess import Preprocess
from headway.backbones.transformers_folder import SOURCE_CARD, find_folder
from headway.errors import HeadwayError, Refused

_SAME_LOGITS = 1e-4  # how far classifier(features) may be from the model's own logits
_HEAD = re.compile(r"(^|\.)(classifier|head|fc)")
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class HubNetwork(nn.Module):
    """A model of transformers: normalised images (B, 3, S, S) → features (B, D), which its classifier would read."""

    def __init__(self, model: Any, folder: Path, image: int | None) -> None:
        super().__init__()
        self.pretrained_cfg = {"license": _licence(folder)}
        own = _image_size(model.config)
        resized = image is not None and own is not None and image != own
        self.arguments = {"interpolate_pos_encoding": True} if resized and _interpolates(model) else {}
        self.model = _without_classifier(model, image or own or 224, self.arguments)
        self.side = own

    def forward(self, x: Tensor) -> Tensor:
        return _features(self.model(pixel_values=x, **self.arguments))

    def reset_classifier(self, _classes: int) -> None:
        """The classifier is off from the start."""


def build_hub_network(name: str, *, trained: bool, image: int | None) -> nn.Module:
    """The model in the folder that `name` (without hf:) means, classifier off. Imports transformers.

    trained  with its weights; else random ones, from torch's own random numbers

    Raises Refused where it holds none that transformers knows, or none for images.
    """
    folder = find_folder(name)
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise Refused(
            f"--backbone hf:{name} needs transformers, which is not installed: pip install 'headway[hub]'"
        ) from None
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        classifies = any("ForImageClassification" in word for word in config.architectures or ())
        kind = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
        options = {"attn_implementation": "eager"}  # plain products, which every engine has
        if trained:
            files = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
            model = kind.from_pretrained(folder, dtype=torch.float32, **files, **options)
        else:
            model = kind.from_config(config, trust_remote_code=False, **options)
        return HubNetwork(model.eval(), folder, image).eval()
    except HeadwayError:
        raise
    except Exception as error:  # transformers raises many kinds for what it does not know
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Refused(f"--backbone hf:{name}: transformers cannot use it: {said[:300]}") from error
    finally:
        if bars:
            transformers.logging.enable_progress_bar()


def hub_preprocess(name: str, network: Any) -> Preprocess:
    """The preprocessing that preprocessor_config.json tells. Raises Refused where there is none, or no size in it."""
    folder = find_folder(name)
    try:
        told: Mapping[str, Any] = json.loads((folder / "preprocessor_config.json").read_bytes())
    except (OSError, ValueError):
        raise Refused(
            f"--backbone hf:{name}: {folder}/ has no readable preprocessor_config.json, which says what images the "
            "model expects. Save it beside the model: AutoImageProcessor.from_pretrained(...).save_pretrained(...)"
        ) from None
    size, crop = told.get("size"), told.get("crop_size")
    tall = _side(crop) if told.get("do_center_crop", crop is not None) and crop is not None else None
    short = size.get("shortest_edge") if isinstance(size, dict) else None
    interpolation = _INTERPOLATIONS.get(int(told.get("resample", 2)), "bilinear")
    mean, std = (_three(told.get(key), usual) for key, usual in (("image_mean", 0.0), ("image_std", 1.0)))
    if told.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if told.get("crop_pct") and short and short < 384:  # ConvNeXt's own rule
        return Preprocess(short, int(short / told["crop_pct"]), "crop", interpolation, mean, std)
    if tall:
        resize = short or _side(size) or tall
        return Preprocess(tall, max(resize, tall), "crop", interpolation, mean, std)
    side = _side(size) or short or network.side
    if side is None:
        raise Refused(f"--backbone hf:{name}: its preprocessor_config.json tells no size. Give one: --image 224")
    return Preprocess(int(side), None, "squash", interpolation, mean, std)


def _side(size: Any) -> int | None:
    if isinstance(size, dict):
        size = size.get("height")
    return int(size) if isinstance(size, int) else None


def _three(values: Any, usual: float) -> tuple[float, float, float]:
    if isinstance(values, list | tuple) and len(values) == 3:
        return float(values[0]), float(values[1]), float(values[2])
    value = float(values) if isinstance(values, int | float) else usual
    return value, value, value


def _image_size(config: Any) -> int | None:
    size = getattr(config, "image_size", None)
    return int(size[0] if isinstance(size, list | tuple) else size) if size else None


def _interpolates(model: Any) -> bool:
    import inspect

    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters


def _licence(folder: Path) -> str | None:
    """What the front matter of the repository's own card says."""
    try:
        front = (folder / SOURCE_CARD).read_text(encoding="utf-8", errors="replace").split("---")[1]
    except (OSError, IndexError):
        return None
    found = re.search(r"^license: *['\"]?([\w.-]+)['\"]? *$", front, re.MULTILINE)
    return found[1] if found else None


def _features(output: Any) -> Tensor:
    """(B, D) of what a model gives: logits (its classifier is off), pooled output, or the mean of the last map."""
    for key in ("logits", "pooler_output"):
        value = getattr(output, key, None)
        if isinstance(value, Tensor):
            return value.flatten(1)
    last: Tensor = output.last_hidden_state
    return last.mean((2, 3)) if last.ndim == 4 else last.mean(1)


def _without_classifier(model: Any, side: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The model giving what its classifier reads, proven on an image; where there is no one classifier, its base."""
    labels = getattr(model.config, "num_labels", 0)
    heads = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == labels
        and re.search(r"(^|\.)(classifier|head|fc)", name)
    ]
    base: nn.Module = getattr(model, "base_model", model)
    if len(heads) != 1 or base is model:
        return base
    name, layer = heads[0]
    image = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logits = model(pixel_values=image, **arguments).logits
        model.set_submodule(name, nn.Identity())
        features = model(pixel_values=image, **arguments).logits.flatten(1)
        read = features.shape[1] == layer.in_features
        same = read and torch.allclose(layer(features), logits, atol=_SAME_LOGITS, rtol=_SAME_LOGITS)
    return model if same else base
