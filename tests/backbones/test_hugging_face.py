"""Models of transformers as backbones, held against the library itself; their weights are random, and saved by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as library

from headway.backbones.hugging_face import build_hub_network, hub_preprocess
from headway.backbones.network import build_network, own_preprocess
from headway.backbones.preprocess import prepare
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import choose_weights
from headway.deployment.bundle import load_bundle
from headway.errors import Refused
from tests import make
from tests.ecosystem.hubbing import ask
from tests.hub_server import hub_server
from tests.toy import headway

SIDE = 32
transformers: Any = library  # half of it has types, and they are not those of what it takes


def vit() -> tuple[Any, Any]:
    """A transformer: its classifier reads the class token; both sides of an image are scaled."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=SIDE, patch_size=8, num_labels=5)
    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    return transformers.ViTForImageClassification(config), processor


def resnet() -> tuple[Any, Any]:
    """A convolutional network: its classifier flattens a map and reads that; the middle of an image is cut out."""
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=5
    )
    return transformers.ResNetForImageClassification(config), transformers.ConvNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_pct=0.875, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]
    )


def bit() -> tuple[Any, Any]:
    """The short side scaled, then a crop, as most processors say it."""
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=3)
    processor = transformers.BitImageProcessor(size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE})
    return transformers.ConvNextForImageClassification(config), processor


MODELS = {"vit": vit, "resnet": resnet, "bit": bit}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each model."""
    folder = tmp_path_factory.mktemp("models")
    transformers.logging.disable_progress_bar()
    for name, make_model in MODELS.items():
        torch.manual_seed(1)
        model, processor = make_model()
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        model.eval().save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


def normalised(n: int = 3) -> torch.Tensor:
    return torch.randn((n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", MODELS)
def test_build__features_are_what_the_models_own_classifier_reads(name: str, saved: Path) -> None:
    network = build_hub_network(str(saved / name), trained=True, image=SIDE)
    model = transformers.AutoModelForImageClassification.from_pretrained(saved / name).eval()
    layer = next(module for module in reversed(list(model.modules())) if isinstance(module, torch.nn.Linear))
    x = normalised()
    with torch.inference_mode():
        features, logits = network(x), model(pixel_values=x).logits
        assert features.shape == (3, layer.in_features)
        torch.testing.assert_close(layer(features), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_preprocess__is_the_processors(name: str, saved: Path) -> None:
    """transformers scales in torch, we in Pillow: pixels may be a step of 255 or two apart, hardly any further."""
    picture = make.image(1, 3, (90, 60))
    network = build_hub_network(str(saved / name), trained=True, image=None)
    own = hub_preprocess(str(saved / name), network)
    ours = (prepare(picture, own) / 255 - np.array(own.mean)) / np.array(own.std)
    processor = transformers.AutoImageProcessor.from_pretrained(saved / name)
    theirs = np.asarray(processor(picture, return_tensors="pt")["pixel_values"][0]).transpose(1, 2, 0)
    assert ours.shape == theirs.shape == (SIDE, SIDE, 3)
    steps = np.abs(ours - theirs) * np.array(own.std) * 255
    assert np.mean(steps) < 0.5
    assert np.quantile(steps, 0.99) <= 2.01


def test_build__a_model_without_a_classifier_gives_its_pooled_output(saved: Path, tmp_path: Path) -> None:
    base = transformers.ConvNextModel.from_pretrained(saved / "bit").eval()
    base.save_pretrained(tmp_path / "base")
    network = build_hub_network(str(tmp_path / "base"), trained=True, image=SIDE)
    with torch.inference_mode():
        wanted = base(pixel_values=normalised()).pooler_output
        torch.testing.assert_close(network(normalised()), wanted)


def test_build__random_weights_are_of_the_seed(saved: Path) -> None:
    name = f"hf:{saved / 'vit'}"
    with torch.inference_mode():
        found = [
            build_network(name, choose_weights(name, "none", seed=seed, offline=True), image=SIDE, seed=seed)(
                normalised()
            )
            for seed in (0, 0, 1)
        ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-2)


def test_build__another_size_than_the_model_was_made_for(saved: Path) -> None:
    name = f"hf:{saved / 'vit'}"
    choice = choose_weights(name, None, seed=0, offline=True)
    network = build_network(name, choice, image=64, seed=0)
    request = TrunkRequest(name, choice.identity, 64, None, (0.1, 0.2, 0.3))
    own = own_preprocess(name, network, request)
    assert (own.size, own.fit, own.mean, own.std) == (64, "squash", (0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    cropped = f"hf:{saved / 'bit'}"
    again = own_preprocess(
        cropped, build_network(cropped, choose_weights(cropped, None, seed=0, offline=True), image=64, seed=0), request
    )
    assert (again.size, again.resize) == (64, 80)  # the crop keeps its share
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 32)


def test_weights__are_told_apart_by_what_they_hold(saved: Path, tmp_path: Path) -> None:
    other = shutil.copytree(saved / "vit", tmp_path / "other")
    first, same = (choose_weights(f"hf:{place}", None, seed=0, offline=True) for place in (saved / "vit", other))
    assert first.identity == same.identity
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**config, "image_mean": [0.1, 0.1, 0.1]}))
    assert choose_weights(f"hf:{other}", None, seed=0, offline=True).identity != first.identity


def test_what_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bare, strange = shutil.copytree(saved / "vit", tmp_path / "bare"), tmp_path / "strange"
    (bare / "model.safetensors").unlink()
    strange.mkdir()
    (strange / "config.json").write_text('{"model_type": "frobnicator"}')
    (strange / "model.safetensors").write_bytes(b"")
    no_numbers = shutil.copytree(saved / "vit", tmp_path / "unprocessed")
    (no_numbers / "preprocessor_config.json").unlink()
    cases = {
        f"{tmp_path}/empty": f"--backbone hf:{tmp_path}/empty: {tmp_path}/empty/ holds no config.json: expected a "
        "folder of save_pretrained",
        f"{tmp_path}/none": f"--backbone hf:{tmp_path}/none: there is no such folder, and it is no name on the hub "
        "(user/name)",
        "user/model": "--backbone hf:user/model is not on this machine, and --offline was given. Give a folder: "
        "hf:FOLDER",
        str(bare): f"{bare}/ holds no model.safetensors: save the model with save_pretrained, or --weights none",
    }
    for name, said in cases.items():
        with pytest.raises(Refused) as caught:
            choose_weights(f"hf:{name}", None, seed=0, offline=True)
        assert str(caught.value) == said
    with pytest.raises(Refused) as caught:
        choose_weights(f"hf:{saved}/vit", "x.pth", seed=0, offline=True)
    assert str(caught.value) == (
        f"--weights x.pth does not go with --backbone hf:{saved}/vit, which brings its own. Leave one out."
    )
    with pytest.raises(Refused, match=rf"^--backbone hf:{strange}: transformers cannot use it: .*frobnicator"):
        build_hub_network(str(strange), trained=True, image=None)
    with pytest.raises(Refused, match=rf"^--backbone hf:{no_numbers}: .* has no readable preprocessor_config\.json"):
        hub_preprocess(str(no_numbers), None)


@pytest.mark.slow
def test_fit__the_bundle_is_the_model_with_our_head(saved: Path, tmp_path: Path) -> None:
    """From folder to bundle, through the parity gate; its features are those of transformers on the golden images."""
    make.class_folders(tmp_path / "photos", {"a": 12, "b": 12})
    words = ("--backbone", f"hf:{saved / 'vit'}", "--image", SIDE, "--engine", "onnxruntime", "--threads", "1")
    headway("fit", "photos", *map(str, words), "--run", "run", cwd=tmp_path)
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert (bundle.manifest.backbone["source"], bundle.manifest.head["taps"]) == ("hf", ["last"])
    assert not (bundle.path / "config.json").exists()
    pixels = np.load(bundle.path / "probe" / "inputs.npy")
    base = transformers.ViTModel.from_pretrained(saved / "vit", add_pooling_layer=False).eval()
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        wanted = base(pixel_values=x).last_hidden_state[:, 0].numpy()  # the class token
    np.testing.assert_allclose(bundle.features(pixels), wanted, atol=1e-4)


@pytest.mark.slow
def test_fit__model_and_data_by_their_names_on_a_hub(saved: Path, tmp_path: Path) -> None:
    """The card names where the data come from; the images, by content, are those of the same files in a folder."""
    import datasets
    from huggingface_hub import ModelCard

    make.class_folders(tmp_path / "photos", {"a": 12, "b": 12})
    datasets.disable_progress_bars()
    files = sorted((tmp_path / "photos").glob("*/*.jpg"))
    rows = {"image": [{"bytes": file.read_bytes(), "path": None} for file in files]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    labels = [["a", "b"].index(file.parent.name) for file in files]
    (tmp_path / "repo" / "data").mkdir(parents=True)
    made = datasets.Dataset.from_dict({**rows, "label": labels}, features=features)
    made.to_parquet(tmp_path / "repo" / "data" / "train-00000-of-00001.parquet")
    line = "--backbone hf:somebody/vit --image 32 --engine onnxruntime --threads 1 --json"
    with hub_server() as hub:
        hub.put("somebody/vit", saved / "vit")
        hub.put("somebody/photos", tmp_path / "repo", kind="datasets")
        far, near, gone = ask(
            (f"fit hf:somebody/photos {line} --run far", {}),
            (f"fit photos {line} --run near", {}),
            (f"fit photos {line.replace('/vit', '/vitt')} --run gone", {}),
            url=hub.url,
            home=tmp_path,
        )
    assert (far.code, near.code) == (0, 0), far.err
    assert (far.told["features"]["computed"], near.told["features"]["computed"]) == (24, 0)
    assert gone.err == f"headway: --backbone hf:somebody/vitt: no such model on {hub.url}, or none to read\n"
    assert load_bundle(tmp_path / "far" / "bundle").manifest.backbone["name"] == "hf:somebody/vit"
    card, other = (ModelCard.load(tmp_path / run / "bundle" / "README.md").data for run in ("far", "near"))
    assert (card.datasets, card.eval_results[0].dataset_type) == (["somebody/photos"], "somebody/photos")
    assert (other.datasets, other.eval_results[0].dataset_type) == (None, "photos")
