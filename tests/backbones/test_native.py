"""The native engine: every kind of step against ONNX Runtime, whatever its shape; what it declines; its compiler."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from headway.backbones.engines import AGREEMENT, BATCH, CannotRun, worst_cosine
from headway.backbones.native import compiling, memory
from headway.backbones.native.compiling import NETWORK, Source, compiled
from headway.backbones.native.graph import NativeGraph
from headway.backbones.native.layers import Kind, Network, NotNative
from headway.backbones.native.memory import memory_of
from headway.backbones.native.packing import Lanes, pack, with_ways
from headway.backbones.native.plan import Core
from headway.backbones.native.reading import read_network
from headway.errors import HeadwayError
from headway.features.scaling import SCALE
from headway.training.winograd import CONVOLVE
from tests.backbones.networks import Prepared
from tests.backbones.test_network import pixels
from tests.conftest import require

LANES = (4, 8, 16)
PART = 16  # images a call


@pytest.fixture(autouse=True, scope="module")
def _compiler() -> None:
    require("compiler", compiling.compiler() is not None, "there is no C compiler")


@dataclass
class Drawn:
    """An ONNX graph as it is drawn up: nodes, constants and the channels of the newest map."""

    side: int
    seed: int = 0
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    last: str = "image"
    channels: int = 3

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.add("Transpose", perm=[0, 3, 1, 2])
        self.add("Cast", to=TensorProto.FLOAT)
        self.add("Sub", self.constant(self.random.uniform(100, 130, (3, 1, 1))))
        self.add("Div", self.constant(self.random.uniform(50, 70, (3, 1, 1))))

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def add(self, what: str, *more: str, **attributes: Any) -> str:
        name = f"{what}{len(self.nodes)}"
        self.nodes.append(helper.make_node(what, [self.last, *more], [name], **attributes))
        self.last = name
        return name

    def conv(
        self, out: int, size: int = 3, stride: int = 1, pads: tuple[int, ...] = (1, 1, 1, 1), groups: int = 1
    ) -> str:
        fan = self.channels // groups * size * size
        weights = self.random.normal(size=(out, self.channels // groups, size, size)) * (2 / fan) ** 0.5
        self.channels = out
        given = (self.constant(weights), self.constant(self.random.normal(size=out) * 0.1))
        return self.add("Conv", *given, kernel_shape=[size, size], strides=[stride] * 2, pads=list(pads), group=groups)

    def relu6(self) -> str:
        return self.add("Clip", self.constant(0.0), self.constant(6.0))

    def statistics(self) -> list[str]:
        """Mean and deviation of the newest map, as every stage has them."""
        kept, axes = self.last, self.constant([2, 3], np.int64)
        mean = self.add("ReduceMean", axes, keepdims=0)
        self.add("Unsqueeze", self.constant([2], np.int64))
        wide = self.add("Unsqueeze", self.constant([3], np.int64))
        self.last = kept
        centred = self.add("Sub", wide)
        self.add("Mul", centred)
        self.add("ReduceMean", axes, keepdims=0)
        deviation = self.add("Sqrt")
        self.last = kept
        return [mean, deviation]

    def written(self, folder: Path, outputs: list[str]) -> Path:
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", self.side, self.side, 3])
        found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "drawn", [image], found, self.constants)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "g.onnx"
        )
        return folder / "g.onnx"


def by_onnxruntime(graph: Path, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def network_of(graph: Path) -> Network:
    return with_ways(read_network(graph))


def core(network: Network, code: Any) -> Core:
    lanes = Lanes(code.headway_lanes())
    return Core(code, network, pack(network, lanes), lanes, PART)


def seen(side: int, n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def agrees(drawn: Drawn, outputs: list[str], code: Any, n: int = 3) -> list[Kind]:
    """The drawn network gives what ONNX Runtime gives, for images together and alone; the kinds of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        graph = drawn.written(Path(folder), outputs)
        images = seen(drawn.side, n, drawn.seed)
        expected, network = by_onnxruntime(graph, images), network_of(graph)
    one = core(network, code)
    found = one.run(images)
    for name, wanted in expected.items():
        scale = max(float(np.abs(wanted).max()), 1e-3)
        np.testing.assert_allclose(found[name], wanted, atol=3e-5 * scale, rtol=0, err_msg=name)
        for at in range(n):
            assert np.array_equal(one.run(images[at : at + 1])[name][0], found[name][at])
    return [step.kind for step in network.steps]


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for compiled code that is empty."""
    monkeypatch.setenv("HEADWAY_CODE_DIR", str(tmp_path / "code"))
    return tmp_path / "code"


@pytest.fixture(scope="module")
def code() -> Any:
    return compiled(NETWORK)


CHANNELS = st.sampled_from([1, 3, 8, 16, 24, 32, 33, 48, 80])


@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(5, 23),
    between=CHANNELS,
    out=CHANNELS,
    size=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    seed=st.integers(0, 99),
)
def test_steps__a_convolution_of_any_shape(
    code: Any, side: int, between: int, out: int, size: int, stride: int, pads: tuple[int, ...], seed: int
) -> None:
    drawn = Drawn(side, seed)
    drawn.conv(between)
    drawn.add("Relu")
    drawn.conv(out, size, stride, pads)
    kinds = agrees(drawn, drawn.statistics(), code)

    assert kinds[:2] == [Kind.PIXELS, Kind.DENSE]


@settings(max_examples=40, deadline=None)
@given(side=st.integers(1, 30), channels=st.integers(32, 70), out=st.integers(32, 70), n=st.integers(1, 9))
@example(side=1, channels=32, out=35, n=2)  # a sum that stands alone: GCC on Zen rounded its products by themselves
def test_steps__winograds_way_at_every_edge(code: Any, side: int, channels: int, out: int, n: int) -> None:
    drawn = Drawn(side, side)
    drawn.conv(channels)
    drawn.add("Relu")
    drawn.conv(out)
    drawn.relu6()

    assert Kind.WINOGRAD in agrees(drawn, drawn.statistics(), code, n)


BANDS = st.sampled_from([1, 1 << 10, 1 << 14])


@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(5, 40),
    channels=st.sampled_from([16, 24, 40]),
    wide=st.sampled_from([24, 32, 48, 100, 144]),
    dense=st.sampled_from([1, 3]),
    size=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    band=BANDS,
    projected=st.booleans(),
)
def test_steps__a_convolution_and_the_depthwise_one_after_it(
    code: Any,
    side: int,
    channels: int,
    wide: int,
    dense: int,
    size: int,
    stride: int,
    pads: tuple[int, ...],
    band: int,
    projected: bool,
) -> None:
    drawn = Drawn(side, side)
    drawn.conv(channels)
    drawn.conv(wide, dense, dense // 2 + 1, (dense // 2,) * 4)
    drawn.relu6()
    drawn.conv(wide, size, stride, tuple(min(pad, size - 1) for pad in pads) if side > 9 else (2,) * 4, groups=wide)
    drawn.relu6()
    if projected:
        drawn.conv(channels, 1, 1, (0, 0, 0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_BAND", band)
        kinds = agrees(drawn, drawn.statistics(), code)

    assert kinds[2:4] == [Kind.BLOCK if projected else Kind.EXPAND, Kind.DEPTHWISE]


@settings(max_examples=30, deadline=None)
@given(
    side=st.integers(1, 40), channels=st.sampled_from([16, 24, 40]), wide=st.sampled_from([32, 100, 144]), band=BANDS
)
def test_steps__a_block_to_which_its_source_is_added(code: Any, side: int, channels: int, wide: int, band: int) -> None:
    drawn = Drawn(side, side)
    kept = drawn.conv(channels)
    outputs = drawn.statistics()
    for _ in range(2):
        drawn.conv(wide, 1, 1, (0, 0, 0, 0))
        drawn.relu6()
        drawn.conv(wide, groups=wide)
        drawn.relu6()
        drawn.conv(channels, 1, 1, (0, 0, 0, 0))
        kept = drawn.add("Add", kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_BAND", band)
        kinds = agrees(drawn, outputs + drawn.statistics(), code)

    block = [Kind.BLOCK, Kind.DEPTHWISE, Kind.DENSE]
    assert kinds == [Kind.PIXELS, Kind.DENSE, Kind.MEAN, Kind.DEVIATION, *block, *block, Kind.MEAN, Kind.DEVIATION]


def test_steps__depthwise_and_dense_ones_in_turn__each_is_done_once(code: Any) -> None:
    drawn = Drawn(40)
    drawn.conv(32, 3, 2)
    for stride, out in ((1, 48), (2, 64), (1, 24)):
        drawn.conv(drawn.channels, 3, stride, groups=drawn.channels)
        drawn.conv(out, 1, 1, (0, 0, 0, 0))
        drawn.add("Relu")

    block = [Kind.BLOCK, Kind.DEPTHWISE, Kind.DENSE]
    assert agrees(drawn, drawn.statistics(), code)[1:8] == [*block, Kind.DEPTHWISE, *block]


@pytest.mark.parametrize("rest", ["Relu", "none", "outside"])
@pytest.mark.parametrize("size", [1, 3])
def test_steps__what_is_added(code: Any, size: int, rest: str) -> None:
    drawn = Drawn(14)
    drawn.conv(40)
    kept = drawn.add("Relu")
    drawn.conv(40, size, 1, (size // 2,) * 4)
    drawn.add("Add", kept)
    if rest == "Relu":
        drawn.add("Relu")
    outputs = drawn.statistics()
    if rest == "outside":  # a sum that two look at is a step of its own no more than any other
        drawn.add("Relu")
        outputs += drawn.statistics()

    assert (Kind.SUM in agrees(drawn, outputs, code)) == (rest == "outside")


def test_steps__a_sum_whose_other_side_comes_later(code: Any) -> None:
    drawn = Drawn(12)
    drawn.conv(48)
    start = drawn.add("Relu")
    main = drawn.conv(48)
    drawn.last = start
    drawn.conv(48, 1, 1, (0, 0, 0, 0))
    drawn.nodes.append(helper.make_node("Add", [main, drawn.last], ["both"]))
    drawn.last = "both"
    drawn.add("Relu")

    assert Kind.SUM not in agrees(drawn, drawn.statistics(), code)


@pytest.mark.parametrize("both", [False, True])
def test_steps__a_sum_of_two_maps_that_others_see_too(code: Any, both: bool) -> None:
    drawn = Drawn(9)
    first = drawn.conv(32)
    outputs = drawn.statistics()
    second = first if both else drawn.conv(32)
    outputs += [] if both else drawn.statistics()
    drawn.nodes.append(helper.make_node("Add", [first, second], ["both"]))
    drawn.last = "both"
    drawn.relu6()

    assert Kind.SUM in agrees(drawn, [*outputs, *drawn.statistics()], code)


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("what", ["MaxPool", "AveragePool"])
def test_steps__a_window(code: Any, what: str, stride: int, pads: tuple[int, ...]) -> None:
    drawn = Drawn(11)
    drawn.conv(24)  # negative numbers too: what is over the edge is no zero
    drawn.add(what, kernel_shape=[3, 3], strides=[stride] * 2, pads=list(pads))

    kind = Kind.LARGEST if what == "MaxPool" else Kind.AVERAGE
    assert kind in agrees(drawn, drawn.statistics(), code)


def test_steps__rounded_up_where_nothing_is_left_over(code: Any) -> None:
    drawn = Drawn(12)
    drawn.conv(24)
    drawn.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=0)

    assert Kind.AVERAGE in agrees(drawn, drawn.statistics(), code)


def test_steps__pooling_to_a_vector(code: Any) -> None:
    drawn = Drawn(10)
    drawn.conv(40)
    drawn.add("GlobalAveragePool")
    drawn.conv(20, 1, 1, (0, 0, 0, 0))
    drawn.add("Flatten")

    assert agrees(drawn, [drawn.last], code) == [Kind.PIXELS, Kind.DENSE, Kind.MEAN, Kind.DENSE]


# In every set of instructions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("instructions", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_compiling__every_set_of_instructions(
    monkeypatch: pytest.MonkeyPatch, resnet: Prepared, instructions: str
) -> None:
    if (
        f"{instructions} (supported"
        not in subprocess.run(
            ["/lib64/ld-linux-x86-64.so.2", "--help"], capture_output=True, text=True, check=False
        ).stdout
        and instructions != "x86-64"
    ):
        pytest.skip(f"this processor does not know {instructions}")
    flags = [flag if not flag.startswith("-m") else f"-march={instructions}" for flag in compiling._flags()]
    monkeypatch.setattr(compiling, "_flags", lambda: flags)
    images = pixels(5)

    library = compiled(NETWORK)
    found = core(network_of(resnet.files.graph), library).run(images)

    assert library.headway_lanes() == {"x86-64": 4, "x86-64-v3": 8, "x86-64-v4": 16}[instructions]
    assert worst_cosine(by_onnxruntime(resnet.files.graph, images), found) >= AGREEMENT


@pytest.mark.parametrize("source", [NETWORK, SCALE, CONVOLVE], ids=lambda source: source.names[0])
def test_compiling__without_a_warning(tmp_path: Path, source: Source) -> None:
    program = compiling.compiler()
    assert program is not None
    flags = [*compiling._flags(), "-Wall", "-Wextra", "-Werror"]

    done = subprocess.run(
        [program, *flags, "-o", str(tmp_path / "x"), str(source.place / source.names[0])],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")


SANITISED = """
import sys
import numpy as np
from pathlib import Path
from headway.backbones.native import compiling
from headway.backbones.native.graph import NativeGraph
flags = [*compiling._flags(), "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
compiling._flags = lambda: flags
for graph in sys.argv[1:]:
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    NativeGraph(Path(graph), 2, 32).run(images)
print("whole")
"""


@pytest.mark.slow
def test_memory__nothing_is_read_or_written_outside(tmp_path: Path, resnet: Prepared) -> None:
    drawn = Drawn(64)
    drawn.conv(24)
    drawn.conv(100, 1, 1, (0, 0, 0, 0))
    drawn.conv(100, 5, 2, (1, 1, 2, 2), groups=100)
    drawn.conv(40)
    graph = drawn.written(tmp_path, drawn.statistics())
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0", "PATH": "/usr/bin:/bin"}
    environment["HEADWAY_CODE_DIR"] = str(tmp_path / "code")

    done = subprocess.run(
        [sys.executable, "-c", SANITISED, str(resnet.files.graph), str(graph)],
        env=environment,
        capture_output=True,
        text=True,
    )

    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr


def test_compiling__once(own_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(NETWORK)
    monkeypatch.setattr(compiling, "_compile", lambda *_: pytest.fail("compiled again"))

    assert compiled(NETWORK).headway_lanes() in LANES
    assert len(list(own_code.iterdir())) == 1


def test_compiling__a_damaged_library_is_made_again(own_code: Path) -> None:
    compiled(NETWORK)
    (library,) = own_code.rglob("code.so")
    library.parent.rename(own_code.with_name("other"))  # what is loaded stays as it is
    library.parent.mkdir()
    library.write_bytes(b"half of it")

    assert compiled(NETWORK).headway_lanes() in LANES


def script(folder: Path, text: str) -> str:
    """A program that stands where a compiler would."""
    folder.mkdir(exist_ok=True)
    program = folder / "cc"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_compiling__a_compiler_that_fails(own_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(own_code.with_name("bin"), "echo 'error: no space left on device' >&2; exit 1")
    monkeypatch.setenv("CC", program)

    with pytest.raises(NotNative) as caught:
        compiled(NETWORK)

    assert str(caught.value) == f"{program} cannot compile its code (error: no space left on device)"


def test_compiling__what_a_compiler_made_cannot_be_loaded(own_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(own_code.with_name("bin"), 'while [ "$1" != -o ]; do shift; done; echo no library > "$2"')
    monkeypatch.setenv("CC", program)

    with pytest.raises(NotNative) as caught:
        compiled(NETWORK)

    assert str(caught.value).startswith(f"what {program} made of its code cannot be loaded from {own_code}")


def test_compiling__nowhere_to_keep_it(own_code: Path) -> None:
    own_code.write_text("a file")

    with pytest.raises(NotNative) as caught:
        compiled(NETWORK)

    assert str(caught.value) == f"its code cannot be kept in {own_code} (File exists)"


def test_compiling__code_that_others_may_change_is_not_run(own_code: Path) -> None:
    compiled(NETWORK)
    (library,) = own_code.rglob("code.so")
    before = library.stat().st_ino
    library.chmod(0o775)

    compiled(NETWORK)

    assert library.stat().st_ino != before
    assert library.stat().st_mode & 0o777 == 0o755


def test_compiling__no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnet: Prepared) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    session = resnet.session()

    assert compiling.compiler() is None
    assert "native" not in session._names()
    with pytest.raises(HeadwayError) as caught:
        session.choose(resnet.files, "native", None, lambda: pixels(8))
    assert str(caught.value) == (
        "--engine native needs a C compiler, which is not installed. "
        "Try: apt-get install gcc, or what your system calls it; or --engine auto"
    )


# Networks -------------------------------------------------------------------------------------------------------


def declined(change: Callable[[Drawn], Any]) -> str:
    drawn = Drawn(16)
    drawn.conv(36)
    change(drawn)
    with tempfile.TemporaryDirectory() as folder:
        graph = drawn.written(Path(folder), [drawn.last])
        with pytest.raises(NotNative) as caught:
            network_of(graph)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda drawn: drawn.add("Sigmoid"), "it has a Sigmoid"),
        (lambda drawn: drawn.conv(36, groups=3), "it has a Conv in 3 groups"),
        (lambda drawn: drawn.add("Mul", drawn.last), "it has a Mul of two maps"),
        (lambda drawn: drawn.add("Sqrt"), "it has a Sqrt of a map"),
        (lambda drawn: drawn.add("Div", drawn.constant(2.0)), "it has a Div of a map"),
        (lambda drawn: drawn.add("Sub", drawn.constant(2.0)), "it has a Sub of something else than images"),
        (lambda drawn: drawn.add("Add", drawn.constant(2.0)), "it has a Add of something else than images"),
        (lambda drawn: drawn.add("Flatten"), "it has a Flatten of a map"),
        (lambda drawn: drawn.add("Transpose", perm=[0, 2, 3, 1]), "it has a Transpose of something else than images"),
        (
            lambda drawn: (drawn.add("Cast", to=TensorProto.FLOAT16), drawn.add("Cast", to=TensorProto.FLOAT)),
            "it has a Cast to other numbers than float32",
        ),
        (
            lambda drawn: drawn.add("ReduceMean", drawn.constant([1], np.int64), keepdims=0),
            "it has a ReduceMean of other axes",
        ),
        (
            lambda drawn: drawn.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            "it has a MaxPool that rounds up",
        ),
        (
            lambda drawn: drawn.add("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
            "it has a AveragePool of zeros over the edge",
        ),
        (
            lambda drawn: drawn.add("MaxPool", kernel_shape=[2, 2], strides=[2, 1]),
            "it has a MaxPool with dilation, or with two strides",
        ),
        (lambda drawn: drawn.add("Relu"), "its output Relu5 is no vector"),
    ],
)
def test_reading__what_it_declines(change: Callable[[Drawn], Any], why: str) -> None:
    assert declined(change) == why


def test_reading__statistics_of_the_images_are_declined(tmp_path: Path) -> None:
    drawn = Drawn(16)
    graph = drawn.written(tmp_path, drawn.statistics())

    with pytest.raises(NotNative, match=r"^it does something else with the images than a convolution$|^it has a "):
        network_of(graph)


def test_native__a_network_with_other_functions_is_left_to_the_others(network: Prepared) -> None:
    session = network.session()
    if network.request.name == "test_resnet":
        assert session.open(network.files, "native").run(pixels(1))
        return

    with pytest.raises(CannotRun, match=r"^native cannot run this network \(it has a [A-Z][a-zA-Z]+\b.*\)$"):
        session.open(network.files, "native")


def test_native__from_several_threads_and_of_any_number(resnet: Prepared) -> None:
    images = pixels(BATCH)
    graph = NativeGraph(resnet.files.graph, 3, BATCH)

    begun = [graph.start(images[:n]) for n in (1, 2, 5, 16, 17, 32)]
    whole = graph.run(images)

    for answer in begun:
        for name, rows in answer().items():
            assert np.array_equal(rows, whole[name][: len(rows)])


# Memory ---------------------------------------------------------------------------------------------------------


def test_memory__maps_of_few_images_where_many_would_take_too_much(
    monkeypatch: pytest.MonkeyPatch, resnet: Prepared, code: Any
) -> None:
    network, lanes, images = network_of(resnet.files.graph), Lanes(code.headway_lanes()), pixels(9)
    weights = pack(network, lanes)
    whole = core(network, code).run(images[:8])
    wide = memory_of(network, weights, lanes, PART)
    monkeypatch.setattr(memory, "_MOST", wide.bytes() // 3)

    narrow = core(network, code)

    assert narrow.part < wide.part
    parts = [narrow.run(images[at : at + narrow.part]) for at in range(0, 8, narrow.part)]
    for name, rows in whole.items():
        assert np.array_equal(np.concatenate([part[name] for part in parts])[:8], rows)


@pytest.mark.parametrize("lanes", [Lanes(4), Lanes(8), Lanes(16)], ids=str)
def test_memory__no_two_maps_that_are_needed_together_share_a_place(resnet: Prepared, lanes: Lanes) -> None:
    network = network_of(resnet.files.graph)
    laid = memory_of(network, pack(network, lanes), lanes, PART)

    holds: dict[int, int] = {}  # slot → the map whose values stand there
    for at, step in enumerate(network.steps):
        for number in step.sources():
            if step.kind != Kind.PIXELS:
                assert holds[laid.places[number].slot] == number, f"step {at} reads what was written over"
        holds[laid.places[step.target].slot] = step.target
    for number in network.outputs.values():
        assert holds[laid.places[number].slot] == number
    assert [span.start for span in laid.spans] == [0, *(span.stop for span in laid.spans[:-1])]
    assert laid.spans[-1].stop == len(network.steps)
