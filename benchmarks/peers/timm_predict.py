"""What is on one image, by hand: timm's network, its weights from safetensors, timm's transform, softmax, the top 5.

python benchmarks/peers/timm_predict.py BUNDLE IMAGE

Reads config.json and model.safetensors of a bundle, as timm users keep them. Prints one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data.transforms_factory import create_transform


def main() -> None:
    """Build, load, transform, predict."""
    bundle, image = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads((bundle / "config.json").read_text())
    network = timm.create_model(config["architecture"], num_classes=config["num_classes"])
    network.load_state_dict(load_file(bundle / "model.safetensors"))
    network.eval()
    given = config["pretrained_cfg"]
    transform = create_transform(
        input_size=given["input_size"],
        interpolation=given["interpolation"],
        crop_pct=given["crop_pct"],
        mean=given["mean"],
        std=given["std"],
    )
    with Image.open(image) as opened, torch.inference_mode():
        batch = transform(opened.convert("RGB"))[None]  # (1, 3, S, S)
        shares = network(batch).softmax(dim=1)[0]
    names, best = config["label_names"], shares.topk(min(5, len(shares)))
    print(json.dumps({"top": [[names[i], round(float(p), 4)] for p, i in zip(best.values, best.indices, strict=True)]}))


if __name__ == "__main__":
    main()
