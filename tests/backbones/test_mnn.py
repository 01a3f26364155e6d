"""MNN: its own contracts beside those of every engine; the graph that is rewritten for it; what it must not do."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from headway.backbones import mnn_conversion, mnn_graph, opening
from headway.backbones.engines import AGREEMENT, BATCH, CannotRun, is_here, worst_cosine
from headway.backbones.mnn_conversion import PART, with_pooled_means
from headway.backbones.mnn_graph import MnnGraph
from headway.backbones.opening import BackboneSession
from headway.backbones.trunk import TrunkRequest
from headway.backbones.weights import WeightsChoice
from headway.errors import HeadwayError
from tests.backbones.networks import SIDE, Prepared
from tests.backbones.test_engines import Outputs
from tests.backbones.test_network import pixels


def run_by_onnxruntime(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> Outputs:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def averaging(shape: tuple[int, ...], axes: tuple[int, ...], *, keep: bool) -> onnx.ModelProto:
    """A graph of one ReduceMean after a Relu."""
    rest = [side for at, side in enumerate(shape) if at not in axes]
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("ReduceMean", ["y", "axes"], ["mean"], keepdims=int(keep)),
    ]
    kept = [1 if at in axes else side for at, side in enumerate(shape)]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, kept if keep else rest)],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_pooled_means__a_network_gives_what_it_gave(network: Prepared) -> None:
    model = onnx.load(str(network.files.graph))
    images = {"image": pixels(3)}
    before = run_by_onnxruntime(model, images)
    means = Counter(node.op_type for node in model.graph.node)["ReduceMean"]

    after = run_by_onnxruntime(with_pooled_means(model), images)

    assert list(after) == list(before)
    assert worst_cosine(before, after) > 1 - 1e-6
    left = Counter(node.op_type for node in model.graph.node)["ReduceMean"]
    # Two for each stage; what weighs channels (squeeze and excite) keeps its axes, and stays.
    assert means - left == len(network.files.taps) - 1


@pytest.mark.parametrize(
    ("shape", "axes", "keep", "pooled"),
    [
        ((2, 3, 4, 5), (2, 3), False, True),
        ((2, 3, 4, 5), (2, 3), True, False),
        ((2, 3, 4, 5), (1, 2), False, False),
        ((2, 3, 4, 5), (3,), False, False),
        ((2, 3, 4, 5, 6), (2, 3), False, False),
    ],
)
def test_pooled_means__only_of_height_and_width(
    shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, pooled: bool
) -> None:
    model = averaging(shape, axes, keep=keep)
    given = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    changed = with_pooled_means(model)

    assert ("GlobalAveragePool" in {node.op_type for node in changed.graph.node}) == pooled
    expected = np.maximum(given, 0).mean(axis=axes, keepdims=keep)
    assert np.allclose(run_by_onnxruntime(changed, {"x": given})["mean"], expected, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, BATCH])
@pytest.mark.parametrize("part", [1, 4])
def test_mnn__as_many_answers_as_images(resnet: Prepared, monkeypatch: pytest.MonkeyPatch, part: int, n: int) -> None:
    convert = mnn_graph._convert
    monkeypatch.setattr(mnn_graph, "_convert", lambda *given: (convert(*given), part)[1])
    taps = tuple(tap.name for tap in resnet.files.taps)
    images = pixels(BATCH)
    graph = MnnGraph(resnet.files.graph, SIDE, taps, 2)

    found, all_of_them = graph.run(images[:n]), graph.run(images)

    assert graph.part == part
    assert {name: output.shape for name, output in found.items()} == {
        tap.name: (n, tap.dim) for tap in resnet.files.taps
    }
    assert worst_cosine(found, {name: output[:n] for name, output in all_of_them.items()}) > 1 - 1e-6


class Blocks:
    """An interpreter that gives means, and computes the image at `odd` (and, if `crowd`, any beside a bright one) by
    other instructions."""

    def __init__(self, odd: int | None, crowd: bool) -> None:
        self.odd, self.crowd = odd, crowd

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        means = images.mean(axis=(1, 2, 3), dtype=np.float64)[:, None].astype(np.float32)
        if self.odd is not None and len(means) > self.odd:
            means[self.odd] *= np.float32(1 + 2e-7)
        return {"last": means * np.float32(1 + 2e-7 * (images[:, 0, 0, 0].sum() % 2)) if self.crowd else means}


@pytest.mark.parametrize(
    ("odd", "crowd", "part"), [(None, False, PART), (0, False, 1), (PART - 1, False, 1), (None, True, 1)]
)
def test_widest__one_at_a_time_where_place_or_company_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, odd: int | None, crowd: bool, part: int
) -> None:
    monkeypatch.setattr(mnn_conversion, "Interpreter", lambda *given: Blocks(odd, crowd))

    assert mnn_conversion.widest(Path("graph.mnn"), 8) == part


@pytest.mark.slow
def test_widest__a_resnet_of_usual_size_goes_by_fours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = BackboneSession(
        tmp_path, TrunkRequest("resnet18", "none:0", 224, None, None), WeightsChoice("none", "none:0"), 0, 1
    )
    trunk = session.trunk()
    images = pixels(BATCH, side=224)

    graph = MnnGraph(trunk.graph, 224, ("last", "stage1_std"), 2)
    found, turned = graph.run(images), graph.run(images[::-1])

    assert all(np.array_equal(found[name], turned[name][::-1]) for name in found)
    exact, fast = (session.open(trunk, name).run(images) for name in ("onnxruntime", "mnn"))
    assert worst_cosine(exact, fast) > AGREEMENT


def test_mnn__says_nothing_on_standard_output(resnet: Prepared) -> None:
    code = (
        "import sys; from pathlib import Path; from headway.backbones.mnn_graph import MnnGraph; "
        "MnnGraph(Path(sys.argv[1]), int(sys.argv[2]), ('last',), 1); print('all')"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(resnet.files.graph), str(SIDE)], capture_output=True, text=True, check=True
    )

    assert (done.stdout, done.stderr) == ("all\n", "")


def test_conversion__without_the_part_of_mnn_that_reports_home(resnet: Prepared, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from headway.backbones.mnn_conversion import main; "
        "main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])); "
        "print([name for name in sys.modules if name.startswith(('MNN.tools', 'aliyun'))], 'MNN' in sys.modules)"
    )
    words = [str(resnet.files.graph), str(tmp_path / "graph.mnn"), str(SIDE)]

    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[] True"
    assert (tmp_path / "graph.mnn").stat().st_size > 10_000


def test_mnn__a_graph_that_it_cannot_convert(resnet: Prepared, tmp_path: Path) -> None:
    unknown = averaging((1, SIDE, SIDE, 3), (1, 2), keep=False)
    unknown.graph.node[0].op_type = "NoSuchOperation"
    onnx.save(unknown, str(tmp_path / "graph.onnx"))

    with pytest.raises(RuntimeError) as caught:
        MnnGraph(tmp_path / "graph.onnx", SIDE, ("mean",), 1)

    assert "\n" not in str(caught.value)
    assert str(caught.value)


def cannot(*given: object, **options: object) -> None:
    raise RuntimeError("no such operation")


def cannot_say_why(*given: object, **options: object) -> None:
    raise RuntimeError


def test_choose__an_engine_that_cannot_run_the_network_is_left_out(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.backbones.engines.MnnGraph", cannot)
    monkeypatch.setattr("headway.backbones.engines.OpenVinoGraph", cannot_say_why)

    choice, _ = own_resnet.session().choose(own_resnet.files, "auto", None, lambda: pixels(8))

    assert choice.agreeing == ("onnxruntime", "native", "torch")
    assert choice.why == (
        "fastest of 3 that agree with torch; openvino cannot run this network (RuntimeError); "
        "mnn cannot run this network (no such operation)"
    )
    with pytest.raises(HeadwayError) as caught:
        own_resnet.session().choose(own_resnet.files, "mnn", None, lambda: pixels(8))
    told = "--engine mnn cannot be used: mnn cannot run this network (no such operation). Try --engine auto."
    assert str(caught.value) == told
    with pytest.raises(CannotRun):
        own_resnet.session().open(own_resnet.files, "mnn")


@pytest.mark.parametrize(("engine", "name", "extra"), [("openvino", "OpenVINO", "int8"), ("mnn", "MNN", "mnn")])
def test_choose__one_that_is_not_installed(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch, engine: str, name: str, extra: str
) -> None:
    there = is_here
    monkeypatch.setattr(opening, "is_here", lambda package: package != engine and there(package))

    with pytest.raises(HeadwayError) as caught:
        own_resnet.session().choose(own_resnet.files, engine, None, lambda: pixels(8))

    told = f"--engine {engine} needs {name}, which is not installed. Try: pip install 'headway[{extra}]'"
    assert str(caught.value) == told


@pytest.mark.parametrize("gone", ["os.close(1)", "sys.stdout = None"])
def test_unheard__without_a_standard_output(gone: str) -> None:
    code = f"import os, sys; {gone}; from headway.backbones import mnn_graph as m\nwith m._unheard(): pass"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert mnn_graph.EXTRA == "pip install 'headway[mnn]'"
