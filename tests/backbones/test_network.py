"""Networks as trunks: what they give against the libraries' own words and against plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headway.backbones import engines
from headway.backbones.engines import BATCH, OnnxEngine
from headway.backbones.network import (
    build_network,
    classifier_names,
    cut_trunk,
    own_preprocess,
    remove_classifier,
    tensors_digest,
    trunk_tensors,
)
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice
from headway.errors import Refused
from tests.backbones.networks import SIDE, Prepared, prepared_once, request_of

NONE = WeightsChoice("none", "none:0")


def pixels(n: int, seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def module_run(prepared: Prepared, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    with torch.inference_mode():
        outputs = prepared.session().module()(torch.from_numpy(images))
    return {tap.name: output.numpy() for tap, output in zip(prepared.files.taps, outputs, strict=True)}


def normalised(prepared: Prepared, images: NDArray[np.uint8]) -> torch.Tensor:
    """As every other code does it: 0..1, minus mean, over std, channels first."""
    own = prepared.files.preprocess
    scaled = (images / 255.0 - np.array(own.mean)) / np.array(own.std)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def test_trunk__a_tap_for_every_promise(network: Prepared) -> None:
    taps = network.files.taps

    seen = module_run(network, pixels(2))

    assert {name: output.shape for name, output in seen.items()} == {tap.name: (2, tap.dim) for tap in taps}
    assert taps[0].name == "last"
    assert len(taps) >= 9
    assert all(output.dtype == np.float32 and np.isfinite(output).all() for output in seen.values())
    assert all(output.std() > 0 for output in seen.values())


def test_trunk__black_and_white_are_finite(network: Prepared) -> None:
    flat = np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)])

    assert all(np.isfinite(output).all() for output in module_run(network, flat).values())


def test_trunk__a_batch_of_five_is_five_batches_of_one(network: Prepared) -> None:
    images = pixels(5)

    together = module_run(network, images)
    alone = [module_run(network, images[row : row + 1]) for row in range(5)]

    for tap, output in together.items():
        single = np.concatenate([one[tap] for one in alone])
        assert np.abs(single - output).max() <= 1e-5 * max(1.0, float(np.abs(output).max()))


def test_trunk__last_is_the_librarys_own(network: Prepared) -> None:
    images = pixels(3)
    own = build_network(network.request.name, NONE, image=SIDE, seed=0)

    with torch.inference_mode():
        x = normalised(network, images)
        expected = own.forward_head(own.forward_features(x), pre_logits=True).numpy()  # type: ignore[operator]

    assert np.allclose(module_run(network, images)["last"], expected, atol=1e-5, rtol=1e-5)


def test_trunk__stages_are_mean_and_std_of_their_maps(network: Prepared) -> None:
    images = pixels(3)
    own = build_network(network.request.name, NONE, image=SIDE, seed=0)

    with torch.inference_mode():
        _, maps = own.forward_intermediates(normalised(network, images))  # type: ignore[operator]

    seen = module_run(network, images)
    assert len(seen) == 1 + 2 * len(maps)
    for number, stage in enumerate(maps, 1):
        flat = stage.numpy().astype(np.float64).reshape(*stage.shape[:2], -1)  # (B, C, h * w)
        assert np.allclose(seen[f"stage{number}_mean"], flat.mean(axis=2), atol=1e-5, rtol=1e-4)
        assert np.allclose(seen[f"stage{number}_std"], flat.std(axis=2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_trunk__last_alone_has_the_same_bits(network: Prepared, kind: torch.dtype) -> None:
    module, images = network.session().module(), torch.from_numpy(pixels(3))

    with torch.inference_mode():
        last = module.last(images.to(kind))
        assert torch.equal(last, module(images)[0])
        assert [output.shape for output in module.narrowed()(images)] == [last.shape]
        assert torch.equal(module.narrowed()(images)[0], last)
    assert len(module(images)) > 1  # the narrowed one is another


def test_trunk__pixels_stay_channels_last(resnet: Prepared) -> None:
    module, images = resnet.session().module(), torch.from_numpy(pixels(2))

    for given in (images, images.float()):
        assert module.normalise(given).is_contiguous(memory_format=torch.channels_last)


def test_trunk__a_mix_of_two_images_is_between_them(resnet: Prepared) -> None:
    module, images = resnet.session().module(), torch.from_numpy(pixels(2)).float()

    mixed = module.normalise(0.3 * images[:1] + 0.7 * images[1:])

    expected = 0.3 * module.normalise(images[:1]) + 0.7 * module.normalise(images[1:])
    assert torch.allclose(mixed, expected, atol=1e-5)


def test_trunk__running_it_changes_nothing(network: Prepared) -> None:
    module = network.session().module()
    before = tensors_digest(module.state_dict())

    for seed in range(3):
        module_run(network, pixels(4, seed))
        module(torch.from_numpy(pixels(4, seed)))  # outside of inference mode too

    assert tensors_digest(module.state_dict()) == before
    assert not module.training
    assert not any(child.training for child in module.modules())


@pytest.mark.parametrize("n", [1, 3, BATCH])
def test_graph__any_number_of_images_as_torch_sees_them(network: Prepared, n: int) -> None:
    images = pixels(n)

    seen = OnnxEngine(network.files, 1).run(images)

    expected = module_run(network, images)
    assert list(seen) == list(expected)
    assert engines.worst_cosine(expected, seen) >= engines.AGREEMENT
    assert np.allclose(seen["last"], expected["last"], atol=1e-4, rtol=1e-4)


def test_graph__normalisation_is_inside(resnet: Prepared) -> None:
    import onnx

    graph = onnx.load(resnet.files.graph).graph

    (image,) = graph.input
    dims = [one.dim_value or one.dim_param for one in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert isinstance(dims[0], str)
    assert dims[1:] == [SIDE, SIDE, 3]
    assert [output.name for output in graph.output] == [tap.name for tap in resnet.files.taps]


@pytest.mark.slow
def test_torchvision__pooled_features_and_all_of_its_layers(shared_networks: Path) -> None:
    prepared = prepared_once(shared_networks, "torchvision:resnet18")
    images = pixels(3)
    own: Any = build_network("torchvision:resnet18", NONE, image=SIDE, seed=0)
    own.fc = torch.nn.Identity()

    with torch.inference_mode():
        expected = own(normalised(prepared, images)).numpy()

    assert [(tap.name, tap.dim) for tap in prepared.files.taps] == [("last", 512)]
    assert np.allclose(module_run(prepared, images)["last"], expected, atol=1e-5)
    assert np.allclose(OnnxEngine(prepared.files, 1).run(images)["last"], expected, atol=1e-4)
    assert prepared.files.facts["source"] == "torchvision"
    assert prepared.files.facts["parameters"] == 11_176_512


# Classifiers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers", "features"),
    [
        ("resnet18", ("fc",), 512),
        ("vgg11", ("classifier.6",), 4096),
        ("mobilenet_v3_small", ("classifier.3",), 1024),
        ("densenet121", ("classifier",), 1024),
        ("vit_b_16", ("heads.head",), 768),
        ("swin_t", ("head",), 768),
    ],
)
def test_classifier__of_torchvision_is_its_last_linear_layer(name: str, layers: tuple[str, ...], features: int) -> None:
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None).eval()
        assert classifier_names(network) == layers
        before = set(network.state_dict())

        remove_classifier(network)

        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, features)
    assert before - set(network.state_dict()) == {f"{layers[0]}.weight", f"{layers[0]}.bias"}
    # What is left is features: all of it belongs to the digest and to the tensors that a bundle carries.
    assert set(trunk_tensors(network, classifier_names(network))) == set(network.state_dict())


@pytest.mark.parametrize(("name", "layer"), [("test_resnet", "fc"), ("test_vit", "head"), ("test_convnext", "head.fc")])
def test_classifier__of_timm_is_what_timm_says(name: str, layer: str) -> None:
    network = build_network(name, NONE, image=None, seed=0)

    assert classifier_names(network) == (layer,)
    left = set(network.state_dict()) - set(trunk_tensors(network, (layer,)))
    assert left == {f"{layer}.weight", f"{layer}.bias"}


def test_classifier__that_is_not_known() -> None:
    with pytest.raises(Refused) as caught:
        remove_classifier(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)))

    assert str(caught.value) == "headway does not know the classifier of Sequential. Use a timm network."


# Preprocessing --------------------------------------------------------------------------------------------------


def preprocess_of(name: str, **asked: Any) -> Preprocess:
    options: dict[str, Any] = {"image": None, "mean": None, "std": None, **asked}
    request = TrunkRequest(name, "none:0", **options)
    return own_preprocess(name, build_network(name, NONE, image=request.image, seed=0), request)


def test_preprocess__of_timm_networks() -> None:
    half = (0.5, 0.5, 0.5)
    assert preprocess_of("test_resnet") == Preprocess(160, 168, "crop", "bilinear", half, half)
    assert preprocess_of("test_vit") == Preprocess(160, 168, "crop", "bicubic", half, half)


def test_preprocess__what_was_asked_for_is_put_in() -> None:
    asked = preprocess_of("test_resnet", image=96, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))

    assert asked == Preprocess(96, 101, "crop", "bilinear", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(("mode", "fit", "resize"), [("squash", "squash", None), ("border", "pad", None)])
def test_preprocess__networks_that_were_not_trained_on_crops(mode: str, fit: str, resize: int | None) -> None:
    config = {"input_size": (3, 64, 64), "crop_pct": 0.9, "crop_mode": mode, "interpolation": "bicubic"}
    network: Any = torch.nn.Identity()
    network.pretrained_cfg = {**config, "mean": (0, 0, 0), "std": (1, 1, 1)}

    seen = own_preprocess("some_vit", network, request_of("some_vit", None))

    assert (seen.fit, seen.resize, seen.size) == (fit, resize, 64)


@pytest.mark.parametrize(("name", "sizes"), [("resnet18", (224, 256)), ("resnet50", (224, 232))])
def test_preprocess__of_torchvision_is_that_of_its_weights(name: str, sizes: tuple[int, int]) -> None:
    seen = own_preprocess(f"torchvision:{name}", torch.nn.Identity(), request_of(f"torchvision:{name}", None))

    assert (seen.size, seen.resize) == sizes
    assert (seen.interpolation, seen.mean, seen.std) == ("bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# Digest ---------------------------------------------------------------------------------------------------------


def changed(tensors: Mapping[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    """The same with one bit of one tensor flipped."""
    raw = tensors[key].contiguous().numpy().tobytes()
    flipped = bytearray(raw)
    flipped[-1] ^= 1
    array = np.frombuffer(bytes(flipped), tensors[key].numpy().dtype).reshape(tensors[key].shape)
    return {**tensors, key: torch.from_numpy(array.copy())}


def test_digest__one_bit_one_name_one_shape() -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "c": torch.zeros(2, dtype=torch.float64)}
    digest = tensors_digest(tensors)

    assert digest == tensors_digest(dict(reversed(list(tensors.items()))))
    others = [changed(tensors, key) for key in tensors]
    others.append({"x": tensors["a"], "b": tensors["b"], "c": tensors["c"]})
    others.append({**tensors, "a": tensors["a"].reshape(3, 2)})
    others.append({**tensors, "c": torch.zeros(4, dtype=torch.float32)})
    others.append({"a": tensors["a"], "b": tensors["b"]})
    assert len({digest, *map(tensors_digest, others)}) == 1 + len(others)


def test_cut__a_network_without_stages_has_one_tap() -> None:
    import torchvision

    network = torchvision.models.squeezenet1_0(weights=None).eval()
    network.classifier = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(512, 9))

    trunk, taps = cut_trunk(network, Preprocess(64, 64, "crop", "bilinear", (0.5,) * 3, (0.5,) * 3))

    assert [(tap.name, tap.dim) for tap in taps] == [("last", 512)]
    assert trunk(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))[0].shape == (2, 512)
