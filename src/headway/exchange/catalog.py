"""Well-known data sets that torchvision fetches from where their authors give them: what they are, and on which terms.

What `terms` says is the authors' own word as far as it is known; "none stated" is no permission. Their page decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.errors import Refused, nearest


@dataclass(frozen=True)
class Known:
    """One data set.

    dataset    the class in torchvision.datasets
    subsets    our subset → what torchvision's class takes for it; "" = the set has no splits
    images     in all subsets;  classes;  megabytes  to fetch, about
    page       where its authors present it;  terms  their licence
    """

    name: str
    title: str
    dataset: str
    subsets: Mapping[str, Mapping[str, Any]]
    images: int
    classes: int
    megabytes: int
    page: str
    terms: str

    @property
    def splits(self) -> str:
        """The official subsets in words."""
        return " ".join(word for word in self.subsets if word) or "none"


_TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}
_SPLIT_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
_SPLIT_ALL = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
_NONE_STATED = "none stated"
_RESEARCH = "for research, see its page"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"

KNOWN = (
    Known(
        "cifar10", "CIFAR-10", "CIFAR10", _TRAIN_TEST, 60_000, 10, 170, "https://www.cs.toronto.edu/~kriz/cifar.html",
        _NONE_STATED,
    ),
    Known(
        "cifar100", "CIFAR-100", "CIFAR100", _TRAIN_TEST, 60_000, 100, 169,
        "https://www.cs.toronto.edu/~kriz/cifar.html", _NONE_STATED,
    ),
    Known(
        "mnist", "MNIST", "MNIST", _TRAIN_TEST, 70_000, 10, 12, "http://yann.lecun.com/exdb/mnist/", "CC BY-SA 3.0",
    ),
    Known(
        "fashionmnist", "Fashion-MNIST", "FashionMNIST", _TRAIN_TEST, 70_000, 10, 31,
        "https://github.com/zalandoresearch/fashion-mnist", "MIT",
    ),
    Known(
        "kmnist", "Kuzushiji-MNIST", "KMNIST", _TRAIN_TEST, 70_000, 10, 21, "http://codh.rois.ac.jp/kmnist/",
        "CC BY-SA 4.0",
    ),
    Known(
        "svhn", "Street View House Numbers", "SVHN", _SPLIT_TEST, 99_289, 10, 246,
        "http://ufldl.stanford.edu/housenumbers/", "non-commercial use only",
    ),
    Known(
        "stl10", "STL-10 (its labelled images)", "STL10", _SPLIT_TEST, 13_000, 10, 2640,
        "https://cs.stanford.edu/~acoates/stl10/", _NONE_STATED,
    ),
    Known(
        "flowers102", "Oxford 102 Flower", "Flowers102", _SPLIT_ALL, 8_189, 102, 345, f"{_OXFORD}/flowers/102/",
        _NONE_STATED,
    ),
    Known(
        "pets", "Oxford-IIIT Pet", "OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}, 7_349,
        37, 811, f"{_OXFORD}/pets/", "CC BY-SA 4.0",
    ),
    Known(
        "food101", "Food-101", "Food101", _SPLIT_TEST, 101_000, 101, 4996,
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/", _RESEARCH,
    ),
    Known(
        "dtd", "Describable Textures (first of its ten partitions)", "DTD", _SPLIT_ALL, 5_640, 47, 625,
        f"{_OXFORD}/dtd/", _RESEARCH,
    ),
    Known(
        "eurosat", "EuroSAT, RGB", "EuroSAT", {"": {}}, 27_000, 10, 94, "https://github.com/phelber/EuroSAT", "MIT",
    ),
    Known(
        "aircraft", "FGVC-Aircraft, variants", "FGVCAircraft", _SPLIT_ALL, 10_000, 100, 2753,
        f"{_OXFORD}/fgvc-aircraft/", "non-commercial research only",
    ),
    Known(
        "sun397", "SUN397", "SUN397", {"": {}}, 108_754, 397, 37_000, "https://vision.princeton.edu/projects/2010/SUN/",
        _NONE_STATED,
    ),
    Known(
        "imagenette", "Imagenette, full size", "Imagenette", {"train": {"split": "train"}, "val": {"split": "val"}},
        13_394, 10, 1560, "https://github.com/fastai/imagenette", "images of ImageNet: non-commercial research only",
    ),
)  # fmt: skip


def find(name: str) -> Known:
    """The data set of that name, however it is written (CIFAR-10, cifar_10). Raises Refused, with the nearest name."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    for known in KNOWN:
        if plain in (known.name, known.dataset.lower()):
            return known
    near = nearest(plain, [known.name for known in KNOWN], 1)
    hint = f"Did you mean {near[0]} ?" if near else "headway fetch --list names them"
    raise Refused(f"no data set {name!r} is known. {hint}")


def as_json() -> list[dict[str, Any]]:
    """Every data set as JSON has it."""
    return [
        {
            "name": known.name,
            "title": known.title,
            "images": known.images,
            "classes": known.classes,
            "splits": [word for word in known.subsets if word],
            "megabytes": known.megabytes,
            "licence": known.terms,
            "page": known.page,
        }
        for known in KNOWN
    ]


def rows() -> list[dict[str, str]]:
    """A table for people."""
    return [
        {
            "name": known.name,
            "images": f"{known.images:,}",
            "classes": f"{known.classes:,}",
            "MB": f"{known.megabytes:,}",
            "splits": known.splits,
            "licence": known.terms,
            "what": known.title,
        }
        for known in KNOWN
    ]
