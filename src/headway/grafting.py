"""The head joined to the trunk's ONNX graph: one file from uint8 images to `logits` and `features`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from headway.errors import HeadwayError, first_line
from headway.training.heads import Head

OUTPUTS = ("logits", "features")
_PREFIX = "headway.head"
_LARGEST = 2**31 - 1  # bytes of one protobuf message


def graft(trunk: bytes, head: Head) -> bytes:
    """ONNX bytes of the trunk (outputs named by tap) → ONNX bytes with outputs `logits` (B, C) and `features` (B, D).

    The taps that the head reads are set side by side as `features`; linear layers with ReLU between them give
    `logits`. Taps that are not read go, with every node and initialiser that only they need; all other initialisers,
    the IR version and the opsets stay as they are.

    Raises HeadwayError where the trunk lacks a tap, keeps data in other files, or the result is no valid ONNX model.
    """
    import onnx

    model = onnx.load_model_from_string(trunk)
    graph = model.graph
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.initializer):
        raise HeadwayError("the trunk's graph keeps data in other files; a bundle's model is one file")
    given = {output.name: output for output in graph.output}
    missing = [tap for tap in head.taps if tap not in given]
    if missing:
        raise HeadwayError(f"the trunk's graph has no output {', '.join(missing)}; it gives {', '.join(given)}")
    _free_names(graph, set(given))
    batch = given[head.taps[0]].type.tensor_type.shape.dim[0].dim_param or "B"
    graph.node.extend(_head_nodes(graph, head))
    del graph.output[:]
    widths = {"logits": len(head.layers[-1].bias), "features": head.layers[0].weight.shape[1]}
    for name in OUTPUTS:
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, widths[name]]))
    _prune(graph)
    if model.ByteSize() > _LARGEST:
        raise HeadwayError(f"the model has {model.ByteSize():,} bytes; one ONNX file holds {_LARGEST:,}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise HeadwayError(f"the head does not fit the trunk's graph: {first_line(error)}") from None
    return bytes(model.SerializeToString(deterministic=True))


def _head_nodes(graph: Any, head: Head) -> Iterator[Any]:
    """Nodes of the head, in order; their weights are added to the graph's initialisers."""
    from onnx import helper, numpy_helper

    if len(head.taps) > 1:
        yield helper.make_node("Concat", list(head.taps), ["features"], name=f"{_PREFIX}.features", axis=1)
    else:
        yield helper.make_node("Identity", [head.taps[0]], ["features"], name=f"{_PREFIX}.features")
    hidden, last = "features", len(head.layers) - 1
    for position, layer in enumerate(head.layers):
        name = f"{_PREFIX}.{position}"
        for part, value in (("weight", layer.weight), ("bias", layer.bias)):
            array = np.ascontiguousarray(value, dtype=np.float32)
            graph.initializer.append(numpy_helper.from_array(array, f"{name}.{part}"))
        linear = "logits" if position == last else f"{name}.linear"
        yield helper.make_node("Gemm", [hidden, f"{name}.weight", f"{name}.bias"], [linear], name=name, transB=1)
        if position != last:
            hidden = f"{name}.relu"
            yield helper.make_node("Relu", [linear], [hidden], name=hidden)


def _free_names(graph: Any, taps: set[str]) -> None:
    """Rename what within the trunk bears one of our names, so that the outputs can."""
    taken = {item.name for item in graph.initializer} | {name for node in graph.node for name in node.output}
    taken |= {item.name for item in graph.input}
    clashes = {name: f"trunk.{name}" for name in taken if name in OUTPUTS or name.startswith(_PREFIX)}
    if clashes.keys() & (taps | {item.name for item in graph.input}):
        raise HeadwayError(f"the trunk's graph has inputs or taps of the names {', '.join(clashes)}")
    if not clashes:
        return
    for node in _all_nodes(graph.node):
        for names in (node.input, node.output):
            names[:] = [clashes.get(name, name) for name in names]
    for item in (*graph.initializer, *graph.value_info):
        item.name = clashes.get(item.name, item.name)


def _prune(graph: Any) -> None:
    """Leave only what the outputs need."""
    needed, alive = {output.name for output in graph.output}, set()
    for position in reversed(range(len(graph.node))):  # in topological order, as ONNX demands
        node = graph.node[position]
        if needed.isdisjoint(node.output):
            del graph.node[position]
            continue
        alive.update(node.output)
        needed.update(name for inner in _all_nodes([node]) for name in inner.input)
    _keep(graph.initializer, needed)
    _keep(graph.value_info, alive)


def _keep(field: Any, names: set[str]) -> None:
    """Delete in place, so that what stays is not copied."""
    for position in reversed(range(len(field))):
        if field[position].name not in names:
            del field[position]


def _all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """The nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner.node)
