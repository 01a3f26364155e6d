"""A timm or torchvision network as a trunk: images in, pooled features and the taps of its stages out."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headway import files
from headway.backbones.catalog import CNN_PREPROCESS, check_name, split_name
from headway.backbones.preprocess import Fit, Preprocess
from headway.backbones.stems import adapt_stem
from headway.backbones.trunk import Tap, TrunkRequest, known_preprocess
from headway.backbones.weights import WeightsChoice, load_weights
from headway.errors import HeadwayError, Refused

_FITS: Mapping[str, Fit] = {"squash": "squash", "border": "pad"}  # timm's crop_mode; any other is crop
_MOST_STAGES = 6  # a network that shows more steps than this (a ViT's blocks) is tapped at four of them


class Trunk(nn.Module):
    """Images (B, S, S, 3), uint8 or floats of 0..255 → one float32 (B, d) tensor a tap, in the order of `taps`.

    Normalisation is inside. `last` is what the library's own classifier would read; `stage<k>_mean` and
    `stage<k>_std` are the spatial mean and (population) standard deviation of stage k's output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, stages: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.stages = stages
        self.size = preprocess.size
        self.only_last = False
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.only_last or not self.stages:
            return (self.last(image),)
        x = self.normalise(image)
        final, maps = self.network.forward_intermediates(x, indices=list(self.stages))  # type: ignore[operator]
        outputs = [self.network.forward_head(final, pre_logits=True)]  # type: ignore[operator]
        for stage in maps:  # (B, C, h, w) each
            mean = stage.mean((2, 3))
            centred = stage - mean[:, :, None, None]
            outputs += [mean, (centred * centred).mean((2, 3)).sqrt()]
        return tuple(outputs)

    def last(self, image: Tensor) -> Tensor:
        """The tap `last` alone, (B, D): the same bits as `forward` gives, and nothing computed beside it."""
        return pooled(self.network, self.normalise(image), tapped=bool(self.stages))

    def narrowed(self) -> Trunk:
        """The same trunk, its network shared, giving the one tap `last`."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.only_last = True
        return other

    def normalise(self, image: Tensor) -> Tensor:
        """(B, S, S, 3) → (B, 3, S, S) float32, as it lies in memory (channels last)."""
        return (image.permute(0, 3, 1, 2).float() - self.mean) / self.std


def pooled(network: nn.Module, x: Tensor, *, tapped: bool) -> Tensor:
    """What the classifier of `network` would read of normalised images (B, 3, S, S): (B, D).

    tapped  the network is timm's with its classifier still on; else its own output are the features
    """
    if tapped:
        x = network.forward_head(network.forward_features(x), pre_logits=True)  # type: ignore[operator]
        return x
    return network(x)  # type: ignore[no-any-return]


def build_network(
    name: str, choice: WeightsChoice, *, image: int | None, seed: int, small_stem: bool = False
) -> nn.Module:
    """The library's network in eval mode, classifier still on, weights loaded. Imports timm or torchvision.

    small_stem  where nothing is pretrained and the image is small: a stem made for it, if it can be (see `stems`)

    Raises Refused for an unknown name or weights that do not fit.
    """
    check_name(name)
    library, network_name = split_name(name)
    adapt = small_stem and choice.origin in ("none", "trained")
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation notes of the libraries are not the user's
            torch.manual_seed(seed)
            if library == "hf":
                network = _build_saved(network_name, choice, image)
            elif library == "headway":
                network = _build_own(image)
            elif library == "torchvision":
                network = _build_torchvision(network_name, choice.origin == "hub", image)
            else:
                network = _build_timm(network_name, choice.origin == "hub", image, adapt)
    except (OSError, RuntimeError, ValueError) as error:
        if choice.origin != "hub":
            raise
        raise HeadwayError(
            f"the weights of {name} could not be fetched ({type(error).__name__}). "
            f"Try again, or bring a file: --weights FILE"
        ) from error
    if choice.path is not None and not choice.path.is_dir():
        load_weights(network, choice, classifier_names(network))
    return network.eval()


def _build_saved(name: str, choice: WeightsChoice, image: int | None) -> nn.Module:
    from headway.backbones.hugging_face import build_hub_network

    return build_hub_network(name, trained=choice.origin == "file", image=image)


def _build_own(image: int | None) -> nn.Module:
    from headway.backbones.cnn import build_cnn

    return build_cnn(image or CNN_PREPROCESS[0])


def _build_timm(name: str, pretrained: bool, image: int | None, adapt: bool) -> nn.Module:
    import timm

    default = timm.get_pretrained_cfg(name) if "." in name else timm.models.get_pretrained_cfg(name)
    fixed = default is not None and default.fixed_input_size and image is not None
    sized: dict[str, Any] = {"img_size": image} if fixed else {}
    network: nn.Module = timm.create_model(name, pretrained=pretrained, **sized)
    if not adapt:
        return network
    side = image or int(network.pretrained_cfg["input_size"][-1])  # type: ignore[index]
    return adapt_stem(network, side, lambda **changed: timm.create_model(name, **sized, **changed))


def _build_torchvision(name: str, pretrained: bool, image: int | None) -> nn.Module:
    import torchvision

    extra: dict[str, Any] = {"image_size": image} if name.startswith("vit_") and image is not None else {}
    network: nn.Module = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None, **extra)
    return network


def own_preprocess(name: str, network: nn.Module, request: TrunkRequest) -> Preprocess:
    """The preprocessing that the weights were trained with, the request's size, mean and std put in."""
    library, network_name = split_name(name)
    fit: Fit
    known = known_preprocess(request) if library == "headway" else None
    if known is not None:
        return known
    if library == "hf":
        return _saved_preprocess(network_name, network, request)
    if library == "timm":
        config: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        side, crop = int(config["input_size"][-1]), float(config["crop_pct"])
        interpolation, mean, std = config["interpolation"], config["mean"], config["std"]
        fit = _FITS.get(str(config.get("crop_mode")), "crop")
    else:
        import torchvision

        weights = torchvision.models.get_model_weights(network_name)
        transforms = weights.DEFAULT.transforms()
        side, crop = transforms.crop_size[0], transforms.crop_size[0] / transforms.resize_size[0]
        interpolation, mean, std = transforms.interpolation.value, transforms.mean, transforms.std
        fit = "crop"
    size = request.image or side
    mean, std = request.mean or tuple(mean), request.std or tuple(std)
    # timm floors (its transforms_factory); 224 / 0.875 = 256 in both libraries.
    return Preprocess(size, int(size / crop) if fit == "crop" else None, fit, interpolation, mean, std)


def _saved_preprocess(name: str, network: nn.Module, request: TrunkRequest) -> Preprocess:
    """Of a model of transformers; at another size the crop keeps its share of the image."""
    from headway.backbones.hugging_face import hub_preprocess

    own = hub_preprocess(name, network)
    size = request.image or own.size
    resize = None if own.resize is None else int(own.resize * size / own.size)
    return Preprocess(size, resize, own.fit, own.interpolation, request.mean or own.mean, request.std or own.std)


def cut_trunk(network: nn.Module, preprocess: Preprocess) -> tuple[Trunk, tuple[Tap, ...]]:
    """Cut the classifier off and find the taps, by one forward pass of one grey image.

    A network whose stages cannot be seen has the one tap `last`.
    """
    stages = _stages(network, preprocess.size)
    if not stages:
        remove_classifier(network)
    trunk = Trunk(network, preprocess, stages).eval()
    grey = grey_image(preprocess.size)
    with torch.inference_mode():
        dims = [output.shape[1] for output in trunk(grey)]
    names = ["last"]
    for position in range(len(stages)):
        names += [f"stage{position + 1}_mean", f"stage{position + 1}_std"]
    return trunk, tuple(Tap(name, dim) for name, dim in zip(names, dims, strict=True))


def grey_image(size: int) -> Tensor:
    """One image to try a network with: (1, size, size, 3) uint8."""
    return torch.full((1, size, size, 3), 128, dtype=torch.uint8)


def _stages(network: Any, size: int) -> tuple[int, ...]:
    if not hasattr(network, "forward_intermediates") or not hasattr(network, "forward_head"):
        return ()
    try:
        with torch.inference_mode():
            final, maps = network.forward_intermediates(torch.zeros(1, 3, size, size))
            pooled = network.forward_head(final, pre_logits=True)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError, AttributeError):
        return ()  # timm has the method on networks that cannot do it
    if pooled.ndim != 2 or any(stage.ndim != 4 for stage in maps):
        return ()
    count = len(maps)
    if count <= _MOST_STAGES:
        return tuple(range(count))
    return tuple(round(count * quarter / 4) - 1 for quarter in (1, 2, 3, 4))


def classifier_names(network: Any) -> tuple[str, ...]:
    """Names of the layers that turn pooled features into classes, as in state_dict; () where none is known."""
    if hasattr(network, "pretrained_cfg"):  # timm tells
        named = network.pretrained_cfg.get("classifier") or ()
        return (named,) if isinstance(named, str) else tuple(named)
    for name in ("fc", "classifier", "head", "heads"):
        child = getattr(network, name, None)
        if isinstance(child, nn.Linear):
            return (name,)
        if isinstance(child, nn.Sequential) and len(child) and isinstance(child[-1], nn.Linear):
            return (f"{name}.{list(child._modules)[-1]}",)
    return ()


def remove_classifier(network: Any) -> None:
    """Take the last linear layer off, in place: the network gives pooled features. Raises Refused where it cannot."""
    if hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
        return
    for name in classifier_names(network):
        network.set_submodule(name, nn.Identity())
        return
    raise Refused(f"headway does not know the classifier of {type(network).__name__}. Use a timm network.")


def trunk_tensors(network: nn.Module, classifiers: tuple[str, ...]) -> dict[str, Tensor]:
    """The network's own state_dict without its classifier, contiguous, names unchanged."""
    return {
        key: value.detach().contiguous()
        for key, value in network.state_dict().items()
        if not any(key.startswith(f"{name}.") for name in classifiers)
    }


def _bytes(tensor: Tensor) -> memoryview:
    """As they lie in memory, row by row; numpy does not know every type that torch has."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    parts = [
        [key, str(tensor.dtype), list(tensor.shape), files.digest_bytes(_bytes(tensor))]
        for key, tensor in sorted(tensors.items())
    ]
    return files.digest_json(parts)
