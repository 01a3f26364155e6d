"""A tiny network with taps, its classifier, and torch's own opinion of both."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from safetensors.torch import load_file

from headway import files
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import TrunkFiles
from headway.deployment.confidence import Confidence
from headway.deployment.predictor import probabilities
from headway.deployment.sets import calibrated_sets, class_scores
from headway.exports import Samples, write_bundle
from headway.novelty import learn
from headway.training.classifier import Classifier
from headway.training.heads import Head, Layer

SIZE, CLASSES = 16, ("cat", "dog", "owl")
# Multiples of 8, as in real networks: ONNX Runtime's means depend, in the last bit, on where in memory an image lies.
DIMS = {"last": 16, "stage1_mean": 8, "stage1_std": 8}
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)


def preprocess(size: int = SIZE) -> Preprocess:
    return Preprocess(size=size, resize=20, fit="crop", interpolation="bicubic", mean=MEAN, std=STD)


def trunk(folder: Path, seed: int = 0) -> TrunkFiles:
    """Two convolutions with taps after each; graph, tensors and facts as a prepared backbone has them."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {
        "conv1.weight": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "conv1.bias": rng.normal(0, 0.3, 8).astype(np.float32),
        "conv2.weight": rng.normal(0, 0.3, (16, 8, 3, 3)).astype(np.float32),
        "conv2.bias": rng.normal(0, 0.3, 16).astype(np.float32),
        "steps": np.array(7, np.int64),
    }
    folder.mkdir(parents=True, exist_ok=True)
    graph, stored = folder / "graph.onnx", folder / "tensors.safetensors"
    graph.write_bytes(model(tensors).SerializeToString())
    save_file(tensors, stored)
    config = {"architecture": "toy", "num_features": 16, "pretrained_cfg": {"input_size": [3, 32, 32], "url": "x"}}
    facts: dict[str, Any] = {
        "name": "toy",
        "source": "timm",
        "taps": [{"name": name, "dim": dim} for name, dim in DIMS.items()],
        "licence": "Apache-2.0",
        "weights": {"origin": "none", "digest": "0" * 64},
        "parameters": 300,
        "classifier": "fc",
        "timm_config": config,
        "graph_digest": files.digest_file(graph),
        "tensors_digest": files.digest_file(stored),
    }
    return TrunkFiles(graph, stored, facts)


def model(tensors: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    """The trunk as ONNX, with an inner value called `features` and an initialiser that only a tap needs."""
    constants: dict[str, NDArray[Any]] = {
        "mean": np.array(MEAN, np.float32) * 255,
        "std": np.array(STD, np.float32) * 255,
        "axes": np.array([2, 3], np.int64),
        "small": np.array(1e-6, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "conv1.weight", "conv1.bias"], ["one"], strides=[2, 2]),
        helper.make_node("Relu", ["one"], ["features"]),
        helper.make_node("ReduceMean", ["features", "axes"], ["stage1_mean"], keepdims=0),
        helper.make_node("ReduceMean", ["features", "axes"], ["middle"], keepdims=1),
        helper.make_node("Sub", ["features", "middle"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axes"], ["variance"], keepdims=0),
        helper.make_node("Add", ["variance", "small"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["stage1_std"]),
        helper.make_node("Conv", ["features", "conv2.weight", "conv2.bias"], ["two"]),
        helper.make_node("Relu", ["two"], ["active"]),
        helper.make_node("ReduceMean", ["active", "axes"], ["last"], keepdims=0),
    ]
    weights: dict[str, NDArray[Any]] = {**{key: value for key, value in tensors.items() if key != "steps"}, **constants}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", dim]) for name, dim in DIMS.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def head(taps: tuple[str, ...] = ("last",), hidden: tuple[int, ...] = (), n: int = 3, seed: int = 1) -> Head:
    rng = np.random.default_rng(seed)
    widths = [sum(DIMS[tap] for tap in taps), *hidden, n]
    layers = tuple(
        Layer(rng.normal(0, 0.7, (out, inner)).astype(np.float32), rng.normal(0, 1, out).astype(np.float32))
        for inner, out in pairwise(widths)
    )
    return Head("mlp:" + ",".join(map(str, hidden)) if hidden else "linear", taps, layers)


def classifier(folder: Path, taps: tuple[str, ...] = ("last",), hidden: tuple[int, ...] = ()) -> Classifier:
    return Classifier(trunk(folder), preprocess(), head(taps, hidden), 1.3, CLASSES)


def images(n: int = 5, seed: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)


def torch_features(made: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, S, S, 3) uint8 → (N, D), by torch from the stored tensors."""
    stored = load_file(made.trunk.tensors)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
        STD
    ).view(3, 1, 1)
    one = torch.relu(torch.conv2d(x, stored["conv1.weight"], stored["conv1.bias"], stride=2))
    two = torch.relu(torch.conv2d(one, stored["conv2.weight"], stored["conv2.bias"]))
    taps = {
        "last": two.mean((2, 3)),
        "stage1_mean": one.mean((2, 3)),
        "stage1_std": (one.var((2, 3), correction=0) + 1e-6).sqrt(),
    }
    found: NDArray[np.float32] = torch.cat([taps[name] for name in made.head.taps], dim=1).numpy()
    return found


def samples(made: Classifier, n: int = 5) -> Samples:
    pixels = images(n)
    return Samples(pixels, made.head.logits(torch_features(made, pixels)))


def bundle(folder: Path, taps: tuple[str, ...] = ("last",), hidden: tuple[int, ...] = ()) -> Path:
    """A whole bundle of the toy network in folder/bundle."""
    made = classifier(folder / "trunk", taps, hidden)
    write_bundle(made, folder / "bundle", samples=samples(made), card={"name": "toys"}, threads=1)
    return folder / "bundle"


def confident(folder: Path, n_val: int = 39) -> Path:
    """A bundle of the toy network with confidence of noise images, in folder/b."""
    made = classifier(folder / "trunk", ("stage1_mean", "last"), (5,))
    train, val = (torch_features(made, images(n, seed)) for n, seed in ((60, 5), (n_val, 6)))
    logits = made.head.logits(val)
    labels = logits.argmax(1)
    labels[::3] = 0
    own = class_scores(probabilities(logits, made.temperature))[np.arange(n_val), labels]
    learnt = learn(train, np.arange(60) % 3)
    unknown = learnt.calibrated(learnt.parts(val, logits))
    confidence = Confidence(calibrated_sets(own), unknown)
    write_bundle(made, folder / "b", samples=samples(made), card={}, threads=1, confidence=confidence)
    return folder / "b"
