"""A bundle's ONNX graph read from its bytes, without the onnx package: what depends on what, inner values as outputs.

Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.deployment.graph_file import fields

INPUT = "image"
_IR, _GRAPH, _OPSET, _FUNCTION = 1, 7, 8, 25  # of ModelProto
_NODE, _TENSOR, _GRAPH_INPUT, _OUTPUT = 1, 5, 11, 12  # of GraphProto
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_FLOAT, _UINT8 = 1, 2
_BYTES_OF = {1: 4, 2: 1, 3: 1, 10: 2, 11: 8}  # TensorProto.DataType → bytes of one value, of types that hold weights
_SIZES = ("Shape", "Size")  # operations whose result does not depend on what an image shows
_FEWEST = 16  # values that make a tensor of weights; mean and deviation of three channels are none


@dataclass(frozen=True)
class Node:
    """One operation. inputs: names, those that graphs within it read too. content: its bytes in the file."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    content: memoryview


@dataclass(frozen=True)
class Graph:
    """nodes in topological order; tensors: name → bytes of the initialiser; moving: what depends on the image."""

    content: bytes
    nodes: tuple[Node, ...]
    tensors: Mapping[str, memoryview]
    moving: frozenset[str]

    def bottlenecks(self, name: str) -> Iterator[str]:
        """The values that every way from the image to the value `name` passes, nearest first, without `name`.

        Ends at the second softmax on the way: what lies before several attentions is no map of what lies behind them.
        """
        front, attentions = {name}, 0
        for node in reversed(self.nodes):
            if front.isdisjoint(node.outputs):
                continue
            attentions += node.op == "Softmax"
            if attentions > 1:
                return
            front.difference_update(node.outputs)
            front.update(value for value in node.inputs if value in self.moving)
            if len(front) == 1:
                yield next(iter(front))

    def behind(self, name: str) -> frozenset[str]:
        """`name` and every value that depends on it."""
        found = {name}
        for node in self.nodes:
            if not found.isdisjoint(node.inputs):
                found.update(node.outputs)
        return frozenset(found)

    def source(self, name: str) -> Node | None:
        """The operation that gives the value `name`."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def array(self, name: str) -> NDArray[np.float32]:
        """The float32 initialiser `name`. Raises KeyError where there is none, ValueError where it is not float32."""
        dims: list[int] = []
        kind, raw = 0, memoryview(b"")
        for field, wire, number, part in fields(self.tensors[name]):
            if field == _DIMS:
                dims += [number] if wire == 0 else list(_varints(part))
            elif field == _TYPE:
                kind = number
            elif field == _RAW:
                raw = part
        if kind != _FLOAT:
            raise ValueError(f"{name} is of type {kind}")
        return np.frombuffer(bytes(raw), np.float32).reshape(dims)


def read_graph(content: bytes) -> Graph:
    """The graph of the ONNX model `content`. Raises ValueError where it is no whole protobuf message."""
    nodes, tensors = [], {}
    for part in _within(memoryview(content), _GRAPH):
        for field, _, _, inner in fields(part):
            if field == _NODE:
                nodes.append(_node(inner))
            elif field == _TENSOR:
                name = next(_within(inner, _NAME), None)
                if name is None:
                    raise ValueError("a tensor without a name")
                tensors[_text(name)] = inner
    moving = {INPUT}
    for node in nodes:
        if node.op not in _SIZES and not moving.isdisjoint(node.inputs):
            moving.update(node.outputs)
    return Graph(content, tuple(nodes), tensors, frozenset(moving))


def with_outputs(content: bytes, names: Iterable[str]) -> bytes:
    """The model `content`, giving the inner values `names` too; their types are left to the engine, which infers them.

    A message that stands twice in a protobuf file is merged, so what is new is written behind the old.
    """
    added = b"".join(field(_OUTPUT, field(1, name.encode())) for name in names)
    return content + field(_GRAPH, added)


def between(graph: Graph, inputs: Iterable[str], output: str) -> bytes:
    """The part of the graph that computes the float32 `output` from the float32 values `inputs`.

    Where that part asks for the number of images, `image` is an input too.
    """
    given, wanted, kept = set(inputs), {output}, []
    for node in reversed(graph.nodes):
        new = wanted.intersection(node.outputs) - given
        if new:
            kept.append(node)
            wanted.update(node.inputs)
    parts = [field(_NODE, bytes(node.content)) for node in reversed(kept)]
    parts.append(field(2, b"part"))
    parts += [field(_TENSOR, bytes(part)) for name, part in graph.tensors.items() if name in wanted]
    parts += [field(_GRAPH_INPUT, _typed(name)) for name in inputs if name in wanted]
    parts += [field(_GRAPH_INPUT, _typed(INPUT, _UINT8))] * (INPUT in wanted)
    parts.append(field(_OUTPUT, _typed(output)))
    head = b""
    for number, wire, value, part in fields(memoryview(graph.content)):
        if number == _IR and wire == 0:
            head += _varint(_IR << 3) + _varint(value)
        elif number in (_OPSET, _FUNCTION):
            head += field(number, bytes(part))
    return head + field(_GRAPH, b"".join(parts))


def shuffled(content: bytes, seed: int) -> bytes:
    """The model with every tensor of weights put in random order: the same network with other weights of like size."""
    copied = bytearray(content)
    rng = np.random.default_rng(seed)
    for part in _within(memoryview(copied), _GRAPH):
        for tensor in _within(part, _TENSOR):
            size = next((_BYTES_OF.get(number) for field, _, number, _ in fields(tensor) if field == _TYPE), None)
            for raw in _within(tensor, _RAW):
                if size is not None and len(raw) >= _FEWEST * size:
                    values = np.frombuffer(raw, np.dtype((np.void, size)))
                    values[:] = values[rng.permutation(len(values))]
    return bytes(copied)


def field(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protobuf message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _node(content: memoryview) -> Node:
    inputs, outputs, op = [], [], ""
    for number, _, _, part in fields(content):
        if number == 1:
            inputs.append(_text(part))
        elif number == 2:
            outputs.append(_text(part))
        elif number == 4:
            op = _text(part)
        elif number == 5:
            for attribute, _, _, inner in fields(part):
                if attribute in (6, 11):  # a graph, or several
                    inputs += [name for one in _within(inner, _NODE) for name in _node(one).inputs]
    return Node(op, tuple(inputs), tuple(name for name in outputs if name), content)


def _within(content: memoryview, number: int) -> Iterator[memoryview]:
    return (part for field, wire, _, part in fields(content) if field == number and wire == 2)


def _typed(name: str, kind: int = _FLOAT) -> bytes:
    """ValueInfoProto of a tensor, its shape left open."""
    return field(1, name.encode()) + field(2, field(1, _varint(1 << 3) + _varint(kind)))


def _text(content: memoryview) -> str:
    return bytes(content).decode("utf-8", "surrogateescape")


def _varint(number: int) -> bytes:
    content = b""
    while number > 0x7F:
        content += bytes([number & 0x7F | 0x80])
        number >>= 7
    return content + bytes([number])


def _varints(content: memoryview) -> Iterator[int]:
    value, shift = 0, 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value, shift = 0, 0
