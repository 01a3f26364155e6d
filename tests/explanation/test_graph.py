"""A graph read, cut and extended as bytes is what the onnx package makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from headway.explanation.graph import between, field, read_graph, with_outputs
from tests.deployment import toys


def model(tmp_path: Path, taps: tuple[str, ...] = ("last", "stage1_mean", "stage1_std")) -> bytes:
    return (toys.bundle(tmp_path, taps, (5,)) / "model.onnx").read_bytes()


def test_read_graph__is_onnxs(tmp_path: Path) -> None:
    content = model(tmp_path)
    found, wanted = read_graph(content), onnx.load_from_string(content).graph
    assert [(node.op, node.inputs, node.outputs) for node in found.nodes] == [
        (node.op_type, tuple(node.input), tuple(node.output)) for node in wanted.node
    ]
    assert set(found.tensors) == {tensor.name for tensor in wanted.initializer}
    for tensor in wanted.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            np.testing.assert_array_equal(found.array(tensor.name), numpy_helper.to_array(tensor))
    with pytest.raises(ValueError, match=r"^axes is of type 7$"):
        found.array("axes")


def test_bottlenecks__are_what_every_way_passes(tmp_path: Path) -> None:
    graph = read_graph(model(tmp_path))
    way = ["centred", "pixels", "image"]
    trunk = ["trunk.features", "one", "channels", "normal", *way]
    assert list(graph.bottlenecks("last")) == ["active", "two", *trunk]
    assert list(graph.bottlenecks("stage1_mean")) == trunk
    assert list(graph.bottlenecks("stage1_std")) == ["above", "variance", "square", "off", *trunk]
    assert graph.behind("two") == {"two", "active", "last", "features", "logits"} | {
        name for node in graph.nodes for name in node.outputs if name.startswith("headway.head")
    }


def test_with_outputs__is_what_onnx_reads(tmp_path: Path) -> None:
    content = with_outputs(model(tmp_path), ["active", "two"])
    merged = onnx.load_from_string(content)
    assert [output.name for output in merged.graph.output] == ["logits", "features", "active", "two"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    active, two = session.run(["active", "two"], {"image": toys.images(3)})
    np.testing.assert_array_equal(active, np.maximum(two, 0))


def test_between__computes_the_rest_alone(tmp_path: Path) -> None:
    content = model(tmp_path)
    graph, images = read_graph(content), toys.images(3)
    names = ["two", "stage1_mean", "stage1_std"]
    whole = onnxruntime.InferenceSession(with_outputs(content, names), providers=["CPUExecutionProvider"])
    values = dict(zip([*names, "features"], whole.run([*names, "features"], {"image": images}), strict=True))

    part = between(graph, names, "features")

    cut = onnx.load_from_string(part)
    assert {node.op_type for node in cut.graph.node} == {"Relu", "ReduceMean", "Concat"}
    assert [tensor.name for tensor in cut.graph.initializer] == ["axes"]
    session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
    feeds = {name: values[name] for name in names}
    np.testing.assert_array_equal(session.run(["features"], feeds)[0], values["features"])


def test_between__the_number_of_images_is_no_path() -> None:
    """As torch.export writes a network: sizes come from the image itself."""
    nodes = [
        helper.make_node("Cast", ["image"], ["map"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["image"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["map", "shape"], ["features"]),
    ]
    whole = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 2, 2, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 12])],
        [numpy_helper.from_array(np.array([-1], np.int64), "rest")],
    )
    made = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    graph = read_graph(made.SerializeToString())
    assert list(graph.bottlenecks("features")) == ["map", "image"]
    session = onnxruntime.InferenceSession(between(graph, ["map"], "features"), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["map", "image"]
    values = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    found = session.run(["features"], {"map": values, "image": np.zeros((2, 2, 2, 3), np.uint8)})[0]
    np.testing.assert_array_equal(found, values.reshape(2, 12))


@given(st.binary(max_size=200))
def test_read_graph__any_bytes_give_a_graph_or_a_value_error(content: bytes) -> None:
    for whole in (content, field(7, content), field(7, field(1, content)), field(7, field(5, content))):
        try:
            found = read_graph(whole)
        except ValueError:
            continue
        assert "image" in found.moving
