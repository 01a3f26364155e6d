"""Static quantisation: a prepared network's graph in int8, its weights per channel, its ranges from real images.

Jacob et al. 2018, arXiv:1712.05877, section 2; per-channel weights as in Krishnamoorthi 2018, arXiv:1806.08342, 3.1.1.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones.image_rows import normalise_rows, quantise_rows
from headway.backbones.trunk import TrunkFiles, check_trunk, read_trunk
from headway.machine import version

VERSION = 4  # of the rules below; part of every key
IMAGES = 64  # real ones that show the range of each layer's values
BATCH = 4
FEW_INPUTS = 64  # of one output of the first convolution: 3 x 3 pixels of 3 channels are few, 7 x 7 are not
_CONVOLUTIONS = ("Conv", "Add", "Relu", "Clip", "MaxPool")
_PRODUCTS = ("Conv", "MatMul", "Gemm")
# Least cosine to fp32 on the images that engines are compared on, for the network to count as quantised. Accuracy is
# judged on validation data; this only tells a graph that fell apart (default network: 0.97; with its first and
# depthwise layers in int8 too: 0.63).
AGREEMENT = 0.9


class NotQuantised(Exception):
    """A network that cannot run in int8; the message says why, in a few words."""


def quantised_trunk(
    cache: Path, trunk: TrunkFiles, images: NDArray[np.uint8], *, only_last: bool = False
) -> TrunkFiles:
    """The same network with its graph in int8, from the cache or made now (seconds).

    images     (n, S, S, 3) uint8 training images, at most `IMAGES` of them; what they hold decides the numbers
    only_last  give the tap `last` alone: the others cost a tenth of a network that is otherwise in int8

    Tensors stay those of the fp32 network. Raises NotQuantised.
    """
    if not len(images):
        raise NotQuantised("there is no training image that shows the range of its values")
    calibration = files.digest_bytes(np.ascontiguousarray(images).data)
    key = {
        "rules": VERSION,
        "graph": trunk.facts["graph_digest"],
        "calibration": calibration,
        "only_last": only_last,
        "onnxruntime": version("onnxruntime"),
    }
    folder = cache / "trunks" / files.digest_json(key)[:32]
    known = read_trunk(folder)
    if known is not None:
        return known
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(folder, _narrowed(trunk) if only_last else trunk, images, calibration)
    except OSError:
        if read_trunk(folder) is None:
            raise  # else another process made the same meanwhile
    made = read_trunk(folder)
    assert made is not None, folder
    return made


def _narrowed(trunk: TrunkFiles) -> TrunkFiles:
    taps = [tap for tap in trunk.facts["taps"] if tap["name"] == "last"]
    return TrunkFiles(trunk.graph, trunk.tensors, {**trunk.facts, "taps": taps})


def _write(folder: Path, trunk: TrunkFiles, images: NDArray[np.uint8], calibration: str) -> None:
    with files.new_folder(folder, keep=lambda: check_trunk(folder) is not None) as new:
        _quantise(trunk, new / "graph.onnx", images)
        shutil.copyfile(trunk.tensors, new / "tensors.safetensors")
        known = {name: value for name, value in trunk.facts.items() if name != "facts_digest"}
        facts: dict[str, Any] = {
            **known,
            "precision": "int8",
            "calibration": {"images": len(images), "digest": calibration},
            "float_graph_digest": trunk.facts["graph_digest"],
            "graph_digest": files.digest_file(new / "graph.onnx"),
        }
        files.write_json(new / "facts.json", {**facts, "facts_digest": files.digest_json(facts)})


def _quantise(trunk: TrunkFiles, to: Path, images: NDArray[np.uint8]) -> None:
    import onnx

    taps, narrow, folded = {tap.name for tap in trunk.taps}, to.with_name("narrow.onnx"), to.with_name("folded.onnx")
    model = onnx.load(trunk.graph)
    for position in reversed(range(len(model.graph.output))):
        if model.graph.output[position].name not in taps:
            del model.graph.output[position]
    with _quiet():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._parts = iter([images[start : start + BATCH] for start in range(0, len(images), BATCH)])

            def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
                part = next(self._parts, None)
                return None if part is None else {"image": part}

        try:
            # Constants that the graph computes become plain ones: else biases stand in the way of whole layers.
            normalise_rows(model)
            onnx.save(model, narrow)
            quant_pre_process(narrow, folded, skip_symbolic_shape=True)
            model = onnx.load(folded)
            narrow.unlink()
            folded.unlink()
            kinds, spared = _layers(model)
            quantize_static(
                model,
                to,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=kinds,
                nodes_to_exclude=spared,
            )
            model = onnx.load(to)
            quantise_rows(model)
            onnx.save(model, to)
        except NotQuantised:
            raise
        except Exception as error:  # the library raises what it likes at graphs that it does not know
            raise NotQuantised(f"onnxruntime cannot quantise it ({type(error).__name__})") from error


def _layers(model: Any) -> tuple[list[str], list[str]]:
    """The kinds of layers to quantise, and the names of those that stay in fp32.

    In fp32 stay the first layer, where few inputs carry the whole image, and depthwise layers, in which each channel
    has a range of its own and a tenth of the work is done. Where a network multiplies matrices (transformers) the sums
    along its residual path stay too: their outliers would take the range of all others.

    What only passes convolutions' values on is quantised with them: a range is then that after the activation (whose
    lower half would else be spent on what it cuts off), and pooling moves bytes. ResNet-18: 1 - cosine to fp32 from
    5e-4 to 2e-4, and 15 % more images a second; the default network: from 0.015 to 0.005.

    Raises NotQuantised where nothing of the network would be in int8.
    """
    from onnx import helper

    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in sizes]

    def groups(node: Any) -> int:
        return next((int(helper.get_attribute_value(a)) for a in node.attribute if a.name == "group"), 1)

    spared = [node.name for node in convolutions if groups(node) > 1]
    for node in convolutions[:1]:
        inputs = np.prod(sizes.get(node.input[1], (0,))[1:])
        spared += [node.name] if inputs <= FEW_INPUTS and node.name not in spared else []
    if len(spared) == len(convolutions) and not products:
        raise NotQuantised("it has no layer that int8 makes faster")
    return (list(_PRODUCTS) if products else list(_CONVOLUTIONS)), spared


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice to developers; what fails comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
