"""The beginning of quantised graphs: rows of bytes, the same bits; graphs that begin otherwise stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headway.backbones import quantise
from headway.backbones.image_rows import normalise_rows, quantise_rows
from headway.backbones.quantise import IMAGES, quantised_trunk
from tests.backbones.networks import NETWORKS, Prepared, copied, prepared_once
from tests.backbones.test_network import pixels

SIDE = 6


@pytest.fixture(params=NETWORKS)
def own(request: pytest.FixtureRequest, shared_networks: Path, tmp_path: Path) -> Prepared:
    return copied(prepared_once(shared_networks, request.param), tmp_path / "cache")


def kinds(model: Any) -> list[str]:
    """The operations from the image on, as long as each has one reader."""
    found, name = list[str](), model.graph.input[0].name
    while len(users := [node for node in model.graph.node if name in node.input and node.op_type != "Shape"]) == 1:
        found.append(users[0].op_type)
        name = users[0].output[0]
    return found


def test_normalise_rows__every_network_gives_the_same_bits(own: Prepared) -> None:
    model, images = onnx.load(own.files.graph), pixels(4, 1)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})

    normalise_rows(model)

    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})
    assert kinds(model)[:6] == ["Reshape", "Cast", "Sub", "Div", "Reshape", "Transpose"]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    read = {name for node in model.graph.node for name in node.input}
    assert all(tensor.name in read for tensor in model.graph.initializer)  # onnxruntime would warn of each other one


def test_quantised__images_are_turned_as_bytes_and_no_bit_differs(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a network whose first convolution is quantised."""
    monkeypatch.setattr(quantise, "FEW_INPUTS", 0)
    rows = quantised_trunk(tmp_path / "rows", own_resnet.files, pixels(IMAGES))
    for name in ("normalise_rows", "quantise_rows"):
        monkeypatch.setattr(quantise, name, lambda model: None)
    plain = quantised_trunk(tmp_path / "plain", own_resnet.files, pixels(IMAGES))
    session = own_resnet.session()

    beginning = ["Reshape", "Cast", "Sub", "Div", "QuantizeLinear", "DequantizeLinear", "Reshape", "Transpose", "Conv"]
    assert kinds(onnx.load(rows.graph))[:9] == beginning
    assert kinds(onnx.load(plain.graph))[:6] == ["Transpose", "Cast", "Sub", "Div", *beginning[4:6]]
    for engine in ("openvino", "onnxruntime"):
        found, expected = (session.open(trunk, engine).run(pixels(32, 1)) for trunk in (rows, plain))
        assert all(np.array_equal(found[tap], expected[tap]) for tap in expected)
    assert "Removing initializer" not in capfd.readouterr().err


def drawn(*nodes: Any, constants: dict[str, Any]) -> Any:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    answer = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    kept = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "drawn", [image], [answer], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def beginning(perm: tuple[int, ...] = (0, 3, 1, 2)) -> list[Any]:
    turn = helper.make_node("Transpose", ["image"], ["turned"], perm=perm)
    return [turn, helper.make_node("Cast", ["turned"], ["number"], to=TensorProto.FLOAT)]


@pytest.mark.parametrize("case", ["another turn", "two readers", "no turn"])
def test_normalise_rows__other_beginnings_stay(case: str) -> None:
    less = helper.make_node("Sub", ["number", "mean"], ["less"])
    if case == "another turn":
        model = drawn(*beginning((0, 3, 2, 1)), less, constants={"mean": [100.0]})
    elif case == "two readers":
        twice = helper.make_node("Cast", ["turned"], ["again"], to=TensorProto.FLOAT)
        both = helper.make_node("Add", ["less", "again"], ["both"])
        model = drawn(*beginning(), less, twice, both, constants={"mean": [100.0]})
    else:
        model = drawn(helper.make_node("Cast", ["image"], ["less"], to=TensorProto.FLOAT), constants={})
    before = model.SerializeToString()

    normalise_rows(model)
    quantise_rows(model)

    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "constant", [[100.0], np.reshape([100.0, 110.0, 120.0], (1, 3, 1, 1)), np.ones((3, SIDE, SIDE))]
)
def test_normalise_rows__as_far_as_constants_are_of_colours(constant: Any) -> None:
    steps = [
        helper.make_node("Sub", ["number", "mean"], ["less"]),
        helper.make_node("Div", ["less", "by"], ["done"]),
        helper.make_node("Relu", ["done"], ["end"]),
    ]
    model = drawn(*beginning(), *steps, constants={"mean": constant, "by": np.reshape([50.0, 51, 52], (3, 1, 1))})
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})

    normalise_rows(model)

    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})
    assert np.array_equal(found, expected)
    rows = ["Sub", "Div"] if np.size(constant) <= 3 else []
    assert kinds(model)[: len(rows) + 4] == ["Reshape", "Cast", *rows, "Reshape", "Transpose"]
