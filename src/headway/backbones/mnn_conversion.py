"""A program: write an ONNX graph as MNN reads it, and see that it runs.

python -m headway.backbones.mnn_conversion GRAPH.onnx TO.mnn SIDE

Ends with 0 where TO.mnn is there and ran; TO.part then holds how many images it may see at a time. MNN's own
command-line program is not used: it reports to its makers and installs a package for that.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from headway import files
from headway.backbones.mnn_graph import Interpreter

PART = 4
_SPACE = [2, 3]  # axes of height and width in (B, C, H, W)


def main(graph: Path, to: Path, side: int) -> None:
    """Convert, run, and write beside TO.mnn how many images it may see at a time."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="headway-mnn-") as place:
        written = Path(place) / "graph.onnx"
        onnx.save(with_pooled_means(onnx.load(str(graph))), str(written))
        _convert(written, to)
    files.write_text(to.with_suffix(".part"), str(widest(to, side)))


def with_pooled_means(model: Any) -> Any:
    """The same graph, means over height and width written as pooling.

    MNN lays images out anew for a ReduceMean and not for a pooling: ResNet-18 with the statistics of its stages went
    from 85 to 93 images/s. What has other axes, or keeps them, is left alone.
    """
    from onnx import helper

    constants = _constants(model)
    ranks = _ranks(model)
    nodes = []
    for node in model.graph.node:
        axes = constants.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        kept = any(attribute.name == "keepdims" and attribute.i for attribute in node.attribute)
        if axes == _SPACE and not kept and ranks.get(node.input[0]) == 4:
            pooled = f"{node.output[0]}_pooled"
            nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled]))
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _constants(model: Any) -> dict[str, list[int]]:
    """Small constants of the graph, as lists."""
    from onnx import numpy_helper

    found = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                found[node.output[0]] = attribute.t
    return {name: numpy_helper.to_array(one).ravel().tolist() for name, one in found.items() if len(one.dims) == 1}


def _ranks(model: Any) -> dict[str, int]:
    """How many axes the values between the nodes have, where that is known."""
    from onnx import shape_inference

    values = shape_inference.infer_shapes(model).graph.value_info
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def _convert(graph: Path, to: Path) -> None:
    import _tools  # MNN's converter; what stands around it in MNN.tools reports home

    _tools.mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", str(graph), "--MNNModel", str(to), "--bizCode", "headway"]
    )


def widest(converted: Path, side: int) -> int:
    """How many images a core may look at together: `PART` where their order and company change no bit, else 1.

    Together they are quicker (ResNet-18, 2 cores, 1, 2, 4, 8 images: 79, 91, 93, 93 images/s). But MNN computes what
    does not fill its blocks by other instructions; which images these are depends on the network and its input size.
    """
    rng = np.random.default_rng(0)
    images, others = rng.integers(0, 256, (2, PART, side, side, 3), dtype=np.uint8)
    interpreter = Interpreter(converted, (PART, side, side, 3))
    expected = interpreter.run(images)
    for first in range(PART):
        order = np.roll(np.arange(PART), first)
        mixed = others.copy()
        mixed[first] = images[0]
        turned, beside = interpreter.run(images[order]), interpreter.run(mixed)
        for name, rows in expected.items():
            if not (np.array_equal(turned[name], rows[order]) and np.array_equal(beside[name][first], rows[0])):
                Interpreter(converted, (1, side, side, 3)).run(images[:1])
                return 1
    return PART


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
