"""An ONNX graph read as a Network: convolutions with what follows them in one step, and the statistics of maps."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.backbones.native.layers import Bounds, Kernel, Kind, Network, NotNative, Shape, Step

_SPACE = [2, 3]  # axes of height and width in (B, C, H, W)


def read_network(graph: Path) -> Network:
    """The network in an ONNX file: one uint8 input (B, S, S, 3), outputs (B, d). Raises NotNative with what it does not
    know.

    ONNX Runtime first computes what is constant and joins padding and normalisation with the convolution beside them.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="headway-native-") as place:
        simpler = Path(place) / "graph.onnx"
        options.optimized_model_filepath = str(simpler)
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        model = onnx.load(str(simpler))
    reader = _Reader(model.graph)
    for node in model.graph.node:
        reader.read(node)
    return reader.network()


@dataclass(frozen=True)
class _Pixels:
    """The images, of which `mean` was taken and which were divided by `deviation`, (3,) each."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


@dataclass(frozen=True)
class _Around:
    """A map on the way to its deviation: "mean", its mean as (B, C, 1, 1); "centred"; "squares"; "variance"."""

    map: int
    what: str


_Value = int | _Pixels | _Around


@dataclass
class _Reader:
    """The graph as it is read, node by node."""

    graph: Any
    maps: list[Shape] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        self.constants = {one.name: numpy_helper.to_array(one) for one in self.graph.initializer}
        self.users: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.outputs = [one.name for one in self.graph.output]
        if len(self.graph.input) != 1:
            raise NotNative("it has more than one input")
        image = self.graph.input[0]
        self.side = image.type.tensor_type.shape.dim[1].dim_value
        self.values[image.name] = _Pixels(np.zeros(3, np.float32), np.ones(3, np.float32))

    def read(self, node: Any) -> None:
        """One node, unless a step before has done it."""
        if node.output[0] in self.values:
            return
        readers: dict[str, Callable[[Any], _Value]] = {
            "Transpose": self._channels_first,
            "Cast": self._numbers,
            "Flatten": self._same,
            "Unsqueeze": self._same,
            "Sub": self._difference,
            "Div": self._quotient,
            "Mul": self._square,
            "Sqrt": self._root,
            "Conv": self._convolution,
            "Relu": self._bounded,
            "Clip": self._bounded,
            "MaxPool": self._pooling,
            "AveragePool": self._pooling,
            "Add": self._sum,
            "GlobalAveragePool": self._mean,
            "ReduceMean": self._mean,
        }
        if node.op_type not in readers:
            raise NotNative(f"it has a {node.op_type}")
        self.values[node.output[0]] = readers[node.op_type](node)

    def network(self) -> Network:
        found: dict[str, int] = {}
        for name in self.outputs:
            value = self.values.get(name)
            if not isinstance(value, int) or (self.maps[value].height, self.maps[value].width) != (1, 1):
                raise NotNative(f"its output {name} is no vector")
            found[name] = value
        return Network(tuple(self.maps), tuple(self.steps), found)

    def _value(self, node: Any, at: int = 0) -> _Value:
        name = node.input[at]
        if name not in self.values:
            raise NotNative(f"it has a {node.op_type} of something else than images")
        return self.values[name]

    def _map(self, node: Any, at: int = 0) -> int:
        """The number of a map that the node reads; of the images, once they are one."""
        value = self._value(node, at)
        if isinstance(value, _Pixels):
            number = self._new(Shape(self.side, self.side, 3, image=True))
            self.steps.append(Step(Kind.PIXELS, number, number, weights=np.stack([value.mean, value.deviation])))
            self.values[node.input[at]] = value = number
        if not isinstance(value, int):
            raise NotNative(f"it has a {node.op_type} of statistics")
        return value

    def _new(self, shape: Shape) -> int:
        self.maps.append(shape)
        return len(self.maps) - 1

    def _constant(self, node: Any, at: int) -> NDArray[np.float32]:
        """A constant that the node reads, one number for each channel of the images."""
        found = self.constants.get(node.input[at])
        if found is None or found.size not in (1, 3):
            raise NotNative(f"it has a {node.op_type} of two maps")
        return np.broadcast_to(found.astype(np.float32).ravel(), 3)

    def _channels_first(self, node: Any) -> _Value:
        value = self._value(node)
        if not isinstance(value, _Pixels) or _attributes(node).get("perm") != [0, 3, 1, 2]:
            raise NotNative("it has a Transpose of something else than images")
        return value

    def _numbers(self, node: Any) -> _Value:
        from onnx import TensorProto

        if _attributes(node)["to"] != TensorProto.FLOAT:
            raise NotNative("it has a Cast to other numbers than float32")
        return self._value(node)

    def _same(self, node: Any) -> _Value:
        value = self._value(node)
        shape = self.maps[value] if isinstance(value, int) else None
        if shape is not None and (shape.height, shape.width) != (1, 1):
            raise NotNative(f"it has a {node.op_type} of a map")
        if node.op_type == "Unsqueeze" and isinstance(value, int):
            source = next(step for step in self.steps if step.target == value)
            if source.kind == Kind.MEAN:
                return _Around(source.source, "mean")
        return value

    def _difference(self, node: Any) -> _Value:
        value = self._value(node)
        if isinstance(value, _Pixels):
            return replace(value, mean=value.mean + self._constant(node, 1) * value.deviation)
        if isinstance(value, int) and self._value(node, 1) == _Around(value, "mean"):
            return _Around(value, "centred")
        raise NotNative("it has a Sub of two maps")

    def _quotient(self, node: Any) -> _Value:
        value = self._value(node)
        if not isinstance(value, _Pixels):
            raise NotNative("it has a Div of a map")
        return replace(value, deviation=value.deviation * self._constant(node, 1))

    def _square(self, node: Any) -> _Value:
        value = self._value(node)
        if isinstance(value, _Around) and value.what == "centred" and node.input[0] == node.input[1]:
            return replace(value, what="squares")
        raise NotNative("it has a Mul of two maps")

    def _root(self, node: Any) -> _Value:
        value = self._value(node)
        if not isinstance(value, _Around) or value.what != "variance":
            raise NotNative("it has a Sqrt of a map")
        return self._statistic(Kind.DEVIATION, value.map)

    def _mean(self, node: Any) -> _Value:
        value = self._value(node)
        if node.op_type == "ReduceMean":
            axes = self.constants.get(node.input[1]) if len(node.input) > 1 else None
            if axes is None or axes.tolist() != _SPACE or _attributes(node).get("keepdims", 1):
                raise NotNative("it has a ReduceMean of other axes")
            if isinstance(value, _Around) and value.what == "squares":
                return replace(value, what="variance")
        return self._statistic(Kind.MEAN, self._map(node))

    def _statistic(self, kind: Kind, source: int) -> int:
        target = self._new(Shape(1, 1, self.maps[source].channels))
        self.steps.append(Step(kind, source, target))
        return target

    def _convolution(self, node: Any) -> _Value:
        source, weights = self._map(node), self.constants.get(node.input[1])
        if weights is None or weights.ndim != 4:
            raise NotNative("it has a Conv whose weights are computed")
        kernel, shape = self._window(node, self.maps[source], len(weights))
        groups, channels = _attributes(node)["group"], self.maps[source].channels
        if groups == 1:
            kind, laid = Kind.DENSE, weights.transpose(2, 3, 1, 0)
        elif groups == channels == len(weights):
            kind, laid = Kind.DEPTHWISE, weights[:, 0].transpose(1, 2, 0)
        else:
            raise NotNative(f"it has a Conv in {groups} groups")
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights))
        step = Step(kind, source, self._new(shape), None, kernel, Bounds(), laid, bias.astype(np.float32))
        return self._step(node, step)

    def _pooling(self, node: Any) -> _Value:
        source, given = self._map(node), _attributes(node)
        seen, padded = self.maps[source], any(given.get("pads", []))
        kernel, shape = self._window(node, seen, seen.channels)
        ends = ((shape.height - 1, seen.height), (shape.width - 1, seen.width))
        if given.get("ceil_mode") and (
            padded or any(last * kernel.stride + kernel.height < side for last, side in ends)
        ):
            raise NotNative(f"it has a {node.op_type} that rounds up")
        if node.op_type == "AveragePool" and padded and given.get("count_include_pad"):
            raise NotNative("it has a AveragePool of zeros over the edge")
        kind = Kind.LARGEST if node.op_type == "MaxPool" else Kind.AVERAGE
        return self._step(node, Step(kind, source, self._new(shape), None, kernel))

    def _sum(self, node: Any) -> _Value:
        source, added = self._map(node), self._map(node, 1)
        if self.maps[source] != self.maps[added]:
            raise NotNative("it has an Add of maps of two shapes")
        return self._step(node, Step(Kind.SUM, source, self._new(self.maps[source]), added))

    def _bounded(self, node: Any) -> _Value:
        source = self._map(node)
        step = Step(Kind.SUM, source, self._new(self.maps[source]), None, bounds=self._bounds(node))
        self.steps.append(step)
        return step.target

    def _step(self, node: Any, step: Step) -> int:
        """The step, with an addition and bounds that follow it and that nobody else looks before."""
        name = node.output[0]
        follower = self._only(name)
        if step.kind == Kind.DENSE and follower is not None and follower.op_type == "Add":
            others = [self.values.get(other) for other in follower.input if other != name]
            if len(others) == 1 and isinstance(others[0], int) and self.maps[others[0]] == self.maps[step.target]:
                step, name = replace(step, added=others[0]), follower.output[0]
                self.values[name] = step.target
                follower = self._only(name)
        if follower is not None and follower.op_type in ("Relu", "Clip"):
            step = replace(step, bounds=self._bounds(follower))
            self.values[follower.output[0]] = step.target
        self.steps.append(step)
        return step.target

    def _only(self, name: str) -> Any:
        """The one node that reads this value; None where there are more, or it is an output."""
        users = self.users[name]
        return users[0] if len(users) == 1 and name not in self.outputs else None

    def _bounds(self, node: Any) -> Bounds:
        if node.op_type == "Relu":
            return Bounds(low=0.0)
        ends = []
        for at, none in ((1, -np.inf), (2, np.inf)):
            name = node.input[at] if len(node.input) > at else ""
            if name and name not in self.constants:
                raise NotNative("it has a Clip whose bounds are computed")
            ends.append(float(self.constants[name]) if name else none)
        return Bounds(*ends)

    def _window(self, node: Any, seen: Shape, channels: int) -> tuple[Kernel, Shape]:
        """The kernel of a convolution or pooling, and the shape of what it gives."""
        given = _attributes(node)
        height, width = given["kernel_shape"]
        down, across = given.get("strides", [1, 1])
        top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
        if (
            down != across
            or set(given.get("dilations", [1, 1])) != {1}
            or given.get("auto_pad", b"NOTSET") != b"NOTSET"
        ):
            raise NotNative(f"it has a {node.op_type} with dilation, or with two strides")
        high, wide = (seen.height + top + bottom - height) // down + 1, (seen.width + left + right - width) // down + 1
        return Kernel(height, width, down, top, left), Shape(high, wide, channels)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}
