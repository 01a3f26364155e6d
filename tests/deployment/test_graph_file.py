"""References out of an ONNX file are seen wherever a tensor can hide; the onnx package is the oracle."""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import example, given
from onnx import TensorProto, helper

from headway.deployment.graph_file import has_external_data
from tests.deployment import toys


def _outside(location: str = "weights.bin") -> TensorProto:
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _graph(*tensors: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(tensors))


def _sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=_outside(), dims=[4])


def _models() -> dict[str, onnx.ModelProto]:
    constant = helper.make_node("Constant", [], ["c"], value=_outside())
    several = onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSORS, tensors=[_outside()])
    listed = helper.make_node("Custom", [], ["c"])
    listed.attribute.append(several)
    inner = helper.make_node("If", ["c"], ["d"], then_branch=_graph(_outside()))
    deeper = helper.make_node("If", ["c"], ["d"], then_branch=_graph(nodes=(constant,)))
    rare = helper.make_node("Constant", [], ["c"])
    rare.attribute.append(
        onnx.AttributeProto(name="s", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse())
    )
    sparse = _graph()
    sparse.sparse_initializer.append(_sparse())
    function = helper.make_function("d", "F", [], ["c"], [constant], [helper.make_opsetid("", 18)])
    training = helper.make_model(_graph())
    training.training_info.add().initialization.CopyFrom(_graph(_outside()))
    only_location, only_data = _outside(), _outside()
    del only_location.external_data[:]
    only_data.ClearField("data_location")
    return {
        "initialiser": helper.make_model(_graph(_outside())),
        "attribute": helper.make_model(_graph(nodes=(constant,))),
        "attribute list": helper.make_model(_graph(nodes=(listed,))),
        "branch": helper.make_model(_graph(nodes=(inner,))),
        "node in a branch": helper.make_model(_graph(nodes=(deeper,))),
        "sparse attribute": helper.make_model(_graph(nodes=(rare,))),
        "sparse initialiser": helper.make_model(sparse),
        "function": helper.make_model(_graph(), functions=[function]),
        "training": training,
        "location only": helper.make_model(_graph(only_location)),
        "data only": helper.make_model(_graph(only_data)),
    }


@pytest.mark.parametrize("kind", list(_models()))
def test_has_external_data__seen_wherever_a_tensor_can_be(kind: str) -> None:
    assert has_external_data(_models()[kind].SerializeToString())


@pytest.mark.parametrize("place", ["/etc/passwd", "../../secret", "C:\\x", "", "*/_ORT_MEM_ADDR_/*", "a\0b"])
def test_has_external_data__wherever_it_leads(place: str) -> None:
    assert has_external_data(helper.make_model(_graph(_outside(place))).SerializeToString())


def test_has_external_data__a_whole_model_has_none() -> None:
    model = toys.model({key: np.ones((4, 3, 3, 3), np.float32) for key in ("conv1.weight", "conv1.bias")})
    assert not has_external_data(model.SerializeToString())


def test_has_external_data__values_that_look_like_a_reference_are_not_one() -> None:
    tensor = TensorProto(name="near", data_type=TensorProto.UINT8, raw_data=_outside().SerializeToString(), dims=[30])
    assert not has_external_data(helper.make_model(_graph(tensor)).SerializeToString())


def test_has_external_data__a_nest_without_end_is_no_model() -> None:
    content = b""
    for _ in range(60):  # written by hand: the onnx package itself gives up before
        for key in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g within node.attribute within graph.node
            content = key + _size(content) + content
    with pytest.raises(ValueError, match=r"^nested too deep$"):
        has_external_data(b"\x3a" + _size(content) + content)


def _size(content: bytes) -> bytes:
    size, digits = len(content), b""
    while size > 0x7F:
        digits += bytes([size & 0x7F | 0x80])
        size >>= 7
    return digits + bytes([size])


@given(st.binary(max_size=200))
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x08" + b"\x80" * 11)
def test_has_external_data__any_bytes_give_an_answer_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(has_external_data(content), bool)


@given(st.integers(0, 10_000))
def test_has_external_data__a_cut_file_never_hides_what_onnx_still_sees(cut: int) -> None:
    content = _models()["initialiser"].SerializeToString()
    part = content[: cut % len(content)]
    try:
        parsed = onnx.load_model_from_string(part)
    except Exception:
        return
    sees = any(onnx.external_data_helper.uses_external_data(item) for item in parsed.graph.initializer)
    assert has_external_data(part) or not sees
