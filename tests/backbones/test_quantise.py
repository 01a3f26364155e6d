"""Networks in int8: what is quantised, by which images, and whether the features stay what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from headway.backbones import opening, quantise
from headway.backbones.engines import BATCH, Engine, no_bit_differs, wider, worst_cosine
from headway.backbones.opening import BackboneSession
from headway.backbones.quantise import AGREEMENT, IMAGES, NotQuantised, quantised_trunk
from headway.backbones.trunk import TrunkFiles, check_trunk
from tests.backbones.networks import NETWORKS, Prepared, copied, prepared_once
from tests.backbones.test_network import pixels


@pytest.fixture(params=NETWORKS)
def own(request: pytest.FixtureRequest, shared_networks: Path, tmp_path: Path) -> Prepared:
    """Each of the tiny networks, in a cache of the test's own."""
    return copied(prepared_once(shared_networks, request.param), tmp_path / "cache")


def quantised(prepared: Prepared, images: NDArray[np.uint8] | None = None) -> TrunkFiles:
    return quantised_trunk(prepared.cache, prepared.files, pixels(IMAGES) if images is None else images)


def layers(trunk: TrunkFiles) -> dict[str, bool]:
    """Each convolution or product with weights of the graph: whether its weights are int8."""
    graph = onnx.load(trunk.graph).graph
    by_output = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}

    def stored(name: str) -> bool:
        return name in by_output and by_output[name].op_type == "DequantizeLinear"

    found = {}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and (stored(node.input[1]) or node.input[1] in constants):
            found[node.name] = stored(node.input[1])
    return found


def test_quantised__features_stay_near_those_of_fp32(own: Prepared) -> None:
    made, images = quantised(own), pixels(8, 1)
    session = own.session()

    fine = session.open(own.files, "openvino").run(images)
    coarse = session.open(made, "openvino").run(images)

    assert worst_cosine(fine, coarse) >= AGREEMENT
    assert any(not np.array_equal(fine[tap], coarse[tap]) for tap in fine)  # so int8 did run
    assert sum(layers(made).values()) >= len(layers(made)) / 3


def test_quantised__the_first_and_depthwise_convolutions_stay_in_fp32(shared_networks: Path, tmp_path: Path) -> None:
    own = copied(prepared_once(shared_networks, "test_efficientnet"), tmp_path / "cache")
    made = quantised(own)
    graph = onnx.load(made.graph).graph
    groups = {
        node.name: next((a.i for a in node.attribute if a.name == "group"), 1)
        for node in graph.node
        if node.op_type == "Conv"
    }
    first = next(iter(groups))

    assert max(groups.values()) > 1
    assert {name for name, done in layers(made).items() if not done} == {first} | {n for n in groups if groups[n] > 1}


@pytest.mark.parametrize(("side", "spared"), [(3, True), (4, True), (5, False), (7, False)])
def test_layers__a_first_convolution_of_many_inputs_is_quantised(side: int, spared: bool) -> None:
    weights = [
        onnx.numpy_helper.from_array(np.zeros((8, 3, side, side), np.float32), "first"),
        onnx.numpy_helper.from_array(np.zeros((8, 8, 1, 1), np.float32), "second"),
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["image", "first"], ["middle"], name="one"),
        onnx.helper.make_node("Conv", ["middle", "second"], ["end"], name="two"),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "two layers", [], [], weights))

    assert quantise._layers(model) == (["Conv", "Add", "Relu", "Clip", "MaxPool"], ["one"] if spared else [])


def test_quantised__activations_and_pooling_pass_bytes_on(own_resnet: Prepared) -> None:
    """No range is that before an activation, and the pooling after the first one gets what is in int8."""
    nodes = onnx.load(quantised(own_resnet).graph).graph.node
    by_output = {name: node.op_type for node in nodes for name in node.output}
    before = {kind: [by_output[n.input[0]] for n in nodes if n.op_type == kind] for kind in ("Relu", "MaxPool")}

    assert "DequantizeLinear" not in before["Relu"]
    assert before["MaxPool"] == ["DequantizeLinear"]


def test_quantised__the_last_tap_alone_has_the_same_bits(own_resnet: Prepared) -> None:
    images, session = pixels(8, 1), own_resnet.session()
    whole = quantised(own_resnet)
    narrow = quantised_trunk(own_resnet.cache, own_resnet.files, pixels(IMAGES), only_last=True)

    found = session.open(narrow, "openvino").run(images)

    assert [tap.name for tap in narrow.taps] == list(found) == ["last"]
    assert [output.name for output in onnx.load(narrow.graph).graph.output] == ["last"]
    assert np.array_equal(found["last"], session.open(whole, "openvino").run(images)["last"])


def test_quantised__weights_have_a_scale_per_channel(own_resnet: Prepared) -> None:
    graph = onnx.load(quantised(own_resnet).graph).graph
    scales = {tensor.name: list(tensor.dims) for tensor in graph.initializer if tensor.name.endswith("_scale")}
    stored = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}

    assert stored
    wide = {tuple(dims) for dims in scales.values()}
    assert {(channels,) for channels in stored.values() if channels > 1} <= wide


def test_quantised__is_kept_and_whole(own_resnet: Prepared) -> None:
    first = quantised(own_resnet)
    changed = first.graph.stat().st_mtime_ns
    again = quantised(own_resnet)

    assert again == first
    assert again.graph.stat().st_mtime_ns == changed
    assert check_trunk(first.graph.parent) == first
    assert first.facts["precision"] == "int8"
    assert first.facts["calibration"]["images"] == IMAGES
    assert first.facts["float_graph_digest"] == own_resnet.files.facts["graph_digest"]
    assert first.tensors.read_bytes() == own_resnet.files.tensors.read_bytes()


def test_quantised__what_another_process_has_written_meanwhile_stays(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = quantised(own_resnet).graph
    kept = first.parent.rename(first.parents[2] / "kept")
    copy = shutil.copyfile

    def slow(source: Path, target: Path) -> None:
        copy(source, target)
        shutil.copytree(kept, first.parent, copy_function=copy)
        (first.parent / "read_at_this_moment").touch()

    monkeypatch.setattr(shutil, "copyfile", slow)

    again = quantised(own_resnet)

    assert again.graph == first
    assert (first.parent / "read_at_this_moment").exists()


def test_quantised__is_another_for_other_images(own_resnet: Prepared) -> None:
    assert quantised(own_resnet).graph != quantised(own_resnet, pixels(IMAGES, 5)).graph


def test_quantised__without_images(own_resnet: Prepared) -> None:
    with pytest.raises(NotQuantised, match=r"^there is no training image that shows the range of its values$"):
        quantised(own_resnet, pixels(8)[:0])


@pytest.mark.parametrize(
    ("kind", "message"),
    [("Conv", "it has no layer that int8 makes faster"), ("Relu", "onnxruntime cannot quantise it (Fail)")],
)
def test_quantised__a_network_of_strange_layers(own_resnet: Prepared, kind: str, message: str) -> None:
    model = onnx.load(own_resnet.files.graph)
    for node in model.graph.node:
        if node.op_type == kind:
            node.op_type, node.domain = "Strange", "nowhere"
    model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(model, own_resnet.files.graph)

    with pytest.raises(NotQuantised) as caught:
        quantised(own_resnet)

    assert str(caught.value) == message
    assert not [path for path in (own_resnet.cache / "trunks").iterdir() if check_trunk(path) is not None]


def test_choose_quantised__is_measured_once_against_fp32(own_resnet: Prepared) -> None:
    made, choice, engine = own_resnet.session().choose_quantised(own_resnet.files, pixels(IMAGES), lambda: pixels(8, 1))

    def unwanted() -> NDArray[np.uint8]:
        raise AssertionError("measured again")

    again = own_resnet.session().choose_quantised(own_resnet.files, pixels(IMAGES), unwanted)

    assert again == (made, choice, None)
    assert engine is not None
    assert worst_cosine(engine.run(pixels(8, 1)), own_resnet.session().open(made, "openvino").run(pixels(8, 1))) == 1
    assert choice.name == "openvino"
    assert sorted(name.partition(" ")[2] for name in choice.rates) == ["", "fp32"]
    assert AGREEMENT <= choice.cosine < 1


def test_choose_quantised__opens_what_is_at_hand_where_fp32_is_not_a_choice(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, really = [], BackboneSession.open

    def noting(session: BackboneSession, trunk: TrunkFiles, name: str, part: int = 1) -> Engine:
        precision = trunk.facts.get("precision", "fp32")
        opened.append(f"{name} {precision}")
        return really(session, trunk, name, part)

    monkeypatch.setattr(BackboneSession, "open", noting)
    known, images = own_resnet.session(), pixels(IMAGES)

    first = known.choose_quantised(own_resnet.files, images, lambda: pixels(8, 1), fastest=False)[1]

    assert set(opened) == {"torch fp32", "openvino int8"}
    assert set(first.rates) == {"torch fp32", "openvino"}
    assert AGREEMENT <= first.cosine < 1
    race = known.choose_quantised(own_resnet.files, images, lambda: pixels(8, 1))[1]
    fastest = known.choose(own_resnet.files, "auto", None, lambda: pixels(8, 1))[0].name
    assert set(race.rates) == {f"{fastest} fp32", "openvino"}
    opened.clear()
    known.choose_quantised(own_resnet.files, pixels(IMAGES, 5), lambda: pixels(8, 1), fastest=False)
    assert set(opened) == {"openvino fp32", "openvino int8"}


@pytest.mark.parametrize("part", [2, 5, 8])  # 5 leaves an incomplete part
def test_openvino__several_images_a_core_are_those_that_were_given(own_resnet: Prepared, part: int) -> None:
    images, session = pixels(BATCH, 1), own_resnet.session()
    made = quantised(own_resnet)
    expected = session.open(made, "openvino").run(images)

    found = session.open(made, "openvino", part).run(images)

    assert all(np.allclose(found[tap], rows, rtol=1e-3, atol=1e-5) for tap, rows in expected.items())


@pytest.mark.parametrize(("same", "faster"), [(True, True), (True, False), (False, True)])
def test_choose_quantised__by_several_where_that_is_faster_and_no_bit_differs(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch, same: bool, faster: bool
) -> None:
    session, images = own_resnet.session(), pixels(8, 1)
    many = wider(session.threads)
    rates = {"1": 10.0, str(many): 11.0 if faster else 9.0}
    monkeypatch.setattr(opening, "measure", lambda engines, *_: {name: rates.get(name, 5.0) for name in engines})
    monkeypatch.setattr(opening, "no_bit_differs", lambda *_: same)

    choice = session.choose_quantised(own_resnet.files, pixels(IMAGES), lambda: images)[1]

    expected = many if same and faster else 1
    assert (choice.part, choice.rates["openvino"]) == (expected, rates[str(expected)])


class ByPlace:
    """An engine whose second image of each part comes out differently."""

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        rows = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)[:, None]
        rows[1] = np.nextafter(rows[1], np.float32(np.inf))
        return {"last": rows}


def test_no_bit_differs__sees_one_bit() -> None:
    class Right(ByPlace):
        def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            return {"last": images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)[:, None]}

    assert no_bit_differs(Right(), Right(), pixels(8))
    assert not no_bit_differs(Right(), ByPlace(), pixels(8))


@pytest.mark.parametrize(("threads", "part"), [(1, 8), (2, 8), (4, 8), (5, 4), (8, 4), (16, 2), (17, 1), (64, 1)])
def test_wider__leaves_no_core_without_a_part(threads: int, part: int) -> None:
    assert wider(threads) == part


def test_choose_quantised__features_that_fell_apart(own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "worst_cosine", lambda a, b: 0.634)

    for _ in range(2):  # measured, then remembered
        with pytest.raises(NotQuantised) as caught:
            own_resnet.session().choose_quantised(own_resnet.files, pixels(IMAGES), lambda: pixels(8, 1))
        assert str(caught.value) == "its features there are not those of fp32 (cosine 0.634)"
