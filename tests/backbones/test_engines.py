"""Engines: agreement with torch, features of an image that are its own, and the choice of the fastest."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway import files
from headway.backbones import opening
from headway.backbones.engines import (
    AGREEMENT,
    BATCH,
    DEVICE_BATCH,
    ENGINES,
    KINDS,
    CannotRun,
    Engine,
    EngineChoice,
    OnnxEngine,
    Overlapping,
    batch_of,
    choose_engine,
    engine_facts,
    is_here,
    worst_cosine,
)
from headway.backbones.native.compiling import Source
from headway.backbones.native.layers import NotNative
from headway.backbones.opening import BackboneSession, shape_preprocess
from headway.backbones.preprocess import Preprocess
from headway.backbones.trunk import TrunkFiles, TrunkRequest
from headway.backbones.weights import WeightsChoice
from headway.errors import HeadwayError
from tests.backbones.networks import SIDE, Prepared, prepared_once
from tests.backbones.test_network import pixels

Outputs = Mapping[str, NDArray[np.float32]]


class Toy:
    """An engine whose outputs are channel means, `off` added to one image's; it counts its runs."""

    def __init__(self, off: float = 0.0, value: float | None = None) -> None:
        self.off, self.value, self.runs = off, value, 0

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.runs += 1
        means = images.mean(axis=(1, 2), dtype=np.float32)  # (B, 3)
        means[5, 0] += self.off
        if self.value is not None:
            means[7, 1] = self.value
        return {"last": means}


def clock(*seconds: float) -> Callable[[], float]:
    """A clock for one measurement after another, each of them taking so long."""

    def ticks() -> Iterator[float]:
        now = 0.0
        for one in seconds:
            yield now
            now += one
            yield now

    return ticks().__next__


# Real engines ---------------------------------------------------------------------------------------------------


HERE = [name for name in ENGINES if is_here(name)]
GRAPH_ENGINES = [name for name in HERE if name != "torch"]


LEFT_TO_OTHERS = {("native", "test_efficientnet"), ("native", "test_vit")}  # functions that it does not know


def engine_of(network: Prepared, name: str, threads: int = 1) -> Engine:
    """The engine; skipped where it is known not to run the network, and says so."""
    if (name, network.request.name) in LEFT_TO_OTHERS:
        with pytest.raises(CannotRun) as caught:
            network.session(threads).open(network.files, name)
        pytest.skip(str(caught.value))
    return network.session(threads).open(network.files, name)


@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_engines__agree_with_torch(network: Prepared, name: str) -> None:
    session = network.session()
    images = pixels(BATCH)

    reference = session.open(network.files, "torch").run(images)
    seen = engine_of(network, name).run(images)

    assert worst_cosine(reference, seen) >= AGREEMENT


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_engines__features_of_an_image_are_its_own(network: Prepared, name: str, threads: int) -> None:
    images, others = pixels(BATCH), pixels(BATCH, 1)
    reference = engine_of(network, name).run(images)
    engine = engine_of(network, name, threads)

    order = np.random.default_rng(0).permutation(BATCH)
    shuffled = engine.run(images[order])
    mixed = others.copy()
    mixed[9] = images[3]
    elsewhere = engine.run(mixed)
    padded = np.zeros_like(images)
    padded[0] = images[3]
    alone = engine.run(padded)

    for tap, expected in reference.items():
        assert np.array_equal(shuffled[tap], expected[order])
        assert np.array_equal(elsewhere[tap][9], expected[3])
        assert np.array_equal(alone[tap][0], expected[3])


@pytest.mark.parametrize("name", HERE)
def test_engines__the_same_bits_again(resnet: Prepared, name: str) -> None:
    images = pixels(BATCH)

    first, again = (resnet.session().open(resnet.files, name).run(images) for _ in range(2))

    assert all(np.array_equal(first[tap], again[tap]) for tap in first)
    assert list(first) == [tap.name for tap in resnet.files.taps]
    assert {output.dtype for output in first.values()} == {np.dtype(np.float32)}


CTRL_C = """
import signal, sys, threading
from pathlib import Path
from headway.backbones.openvino_graph import OpenVinoGraph
model = Path(sys.argv[1]).read_bytes()
two = [OpenVinoGraph(model, 1), OpenVinoGraph(model, 1)]
"""


THREAD = "other = threading.Thread(target=two.clear); other.start(); other.join()"


@pytest.mark.parametrize("leave", ["del two[0]; del two[0]", THREAD], ids=["in turn", "in another thread"])
@pytest.mark.parametrize("faults", [(), ("-X", "faulthandler")], ids=["plain", "faulthandler"])
def test_openvino__ctrl_c_is_heard_after_two_of_them_went(
    resnet: Prepared, faults: tuple[str, ...], leave: str
) -> None:
    code = f"{CTRL_C}\n{leave}\ntry: signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt: print('heard')"
    words = [sys.executable, *faults, "-c", code, str(resnet.files.graph)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\n", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_compiled__agrees_and_gives_the_same_bits_again(
    resnet: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    images = pixels(BATCH)

    engine = resnet.session().open(resnet.files, "compiled")
    first, again = engine.run(images), engine.run(images)

    assert worst_cosine(resnet.session().open(resnet.files, "torch").run(images), first) >= AGREEMENT
    assert all(np.array_equal(first[tap], again[tap]) for tap in first)
    assert any(tmp_path.iterdir())  # it was compiled


def test_compiled__no_compiler(resnet: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*arguments: object, **options: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", refuses)

    with pytest.raises(HeadwayError) as caught:
        resnet.session().open(resnet.files, "compiled")

    told = "torch cannot compile the network here: No working C++ compiler found. Try another --engine."
    assert str(caught.value) == told


def test_bf16__is_near_and_is_fp32_outside(resnet: Prepared) -> None:
    images = pixels(BATCH)

    exact, half = (resnet.session().open(resnet.files, name).run(images) for name in ("torch", "torch+bf16"))

    assert {output.dtype for output in half.values()} == {np.dtype(np.float32)}
    assert 0.99 < worst_cosine(exact, half) < 1.0


@pytest.mark.parametrize("name", ENGINES)
def test_overlapping__an_answer_may_be_asked_for_after_the_next_images_were_begun(resnet: Prepared, name: str) -> None:
    engine = resnet.session().open(resnet.files, name)
    one, two = pixels(BATCH), pixels(BATCH, 1)

    assert isinstance(engine, Overlapping)
    answer = engine.start(one)
    engine.start(two)()

    assert all(np.array_equal(output, answer()[tap]) for tap, output in engine.run(one).items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("kind", KINDS)
def test_gpu__overlapped_answers_are_those_of_one_by_one(resnet: Prepared, kind: str) -> None:
    name = f"{kind}:cuda"
    engine, batches = resnet.session().open(resnet.files, name), [pixels(batch_of(name), seed) for seed in range(5)]
    assert isinstance(engine, Overlapping)
    alone = [engine.run(images) for images in batches]

    found: list[Outputs] = []
    answers = [engine.start(batches[0])]
    for images in batches[1:]:
        answers.append(engine.start(images))
        found.append({tap: output.copy() for tap, output in answers[-2]().items()})
    found.append(answers[-1]())

    assert all(np.array_equal(a[tap], b[tap]) for a, b in zip(alone, found, strict=True) for tap in a)
    reference = resnet.session().open(resnet.files, "torch").run(batches[0])
    assert worst_cosine(reference, alone[0]) > (0.99 if "bf16" in kind else AGREEMENT)


def test_torch__uses_the_threads_of_the_session(resnet: Prepared) -> None:
    resnet.session(2).open(resnet.files, "torch")

    assert torch.get_num_threads() == 2


def test_open__an_unknown_engine(resnet: Prepared) -> None:
    with pytest.raises(HeadwayError) as caught:
        resnet.session().open(resnet.files, "abacus")

    assert str(caught.value) == "no engine 'abacus'; there are onnxruntime, openvino, native, torch, compiled"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_open__a_device_that_is_not_there(resnet: Prepared) -> None:
    with pytest.raises(HeadwayError) as caught:
        resnet.session().open(resnet.files, "torch:cuda")

    assert str(caught.value) == ("torch cannot use the device 'cuda' here. Try --device cpu, or leave --device out.")


# Agreement ------------------------------------------------------------------------------------------------------


def naive_cosine(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    rows = zip(x.astype(float), y.astype(float), strict=True)
    return min(float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))) for a, b in rows)


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_cosine__is_the_least_of_all(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    a = {"x": rng.normal(size=(4, dim)).astype(np.float32), "y": rng.normal(size=(4, dim)).astype(np.float32)}
    b = {tap: (value + rng.normal(0, 0.3, value.shape)).astype(np.float32) for tap, value in a.items()}

    expected = min(naive_cosine(a[tap], b[tap]) for tap in a)
    assert worst_cosine(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_cosine__not_finite_is_no_agreement(bad: float) -> None:
    fine = {"x": np.ones((2, 3), np.float32)}
    wrong = {"x": np.array([[1, 1, 1], [1, bad, 1]], np.float32)}

    assert worst_cosine(fine, wrong) == worst_cosine(wrong, fine) == -1.0


def test_cosine__zero_on_both_sides_agrees_and_on_one_does_not() -> None:
    zero, some = {"x": np.zeros((1, 3), np.float32)}, {"x": np.ones((1, 3), np.float32)}

    assert worst_cosine(zero, zero) == 1.0
    assert worst_cosine(zero, some) == worst_cosine(some, zero) == 0.0


# The choice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("torch_seconds", "other_seconds", "best"), [(2, 1, "other"), (1, 2, "torch")])
def test_choice__the_fastest_that_agrees(torch_seconds: float, other_seconds: float, best: str) -> None:
    engines = {"other": Toy(), "torch": Toy()}

    choice, engine = choose_engine(
        {name: lambda name=name: engines[name] for name in engines},  # type: ignore[misc]
        pixels(BATCH),
        clock(torch_seconds, *(other_seconds + late for late in (1, 0, 2))),  # its best round counts
    )

    assert engine is engines[best]
    rates = {"torch": BATCH / torch_seconds, "other": BATCH / other_seconds}
    assert choice == EngineChoice(best, "fastest of 2 that agree with torch", rates, 1.0, ("other", "torch"))


@pytest.mark.parametrize("wrong", [Toy(off=-60.0), Toy(value=float("nan"))], ids=["one image off", "not a number"])
def test_choice__one_that_disagrees_is_left_out_however_fast(wrong: Toy) -> None:
    right = Toy()
    engines: dict[str, Callable[[], Engine]] = {"fast": lambda: wrong, "torch": lambda: right}

    choice, engine = choose_engine(engines, pixels(BATCH), clock(10, 0.1, 0.1, 0.1))

    assert engine is right
    assert (choice.name, choice.agreeing, choice.cosine) == ("torch", ("torch",), 1.0)
    cosine = worst_cosine(right.run(pixels(BATCH)), wrong.run(pixels(BATCH)))
    assert choice.why == f"fastest of 1 that agree with torch; fast disagrees with torch (cosine {cosine:.5f})"
    assert choice.rates["fast"] == 320


class Rigged(BackboneSession):
    """A session whose engines are toys; it notes which were opened."""

    def open(self, trunk: TrunkFiles, name: str, part: int = 1) -> Engine:
        self.opened.append(name)
        return Toy(off=-60.0 if name in self.wrong else 0.0)

    opened: list[str]
    wrong: tuple[str, ...]


def rigged(prepared: Prepared, wrong: tuple[str, ...] = (), threads: int = 1) -> Rigged:
    session = Rigged(prepared.cache, prepared.request, WeightsChoice("none", "none:0"), 0, threads)
    session.opened, session.wrong = [], wrong
    return session


def images() -> NDArray[np.uint8]:
    return pixels(BATCH)


def unwanted() -> NDArray[np.uint8]:
    raise AssertionError("measured again")


def test_choose__is_remembered(own_resnet: Prepared) -> None:
    first, engine = rigged(own_resnet).choose(own_resnet.files, "auto", None, images)

    session = rigged(own_resnet)
    again, none = session.choose(own_resnet.files, "auto", None, unwanted)

    assert again == first
    assert isinstance(engine, Toy)
    assert (none, session.opened) == (None, [])


@pytest.mark.parametrize("change", ["threads", "device", "graph", "versions"])
def test_choose__is_remembered_for_the_same_conditions_only(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    rigged(own_resnet).choose(own_resnet.files, "auto", None, images)
    session, trunk = rigged(own_resnet), own_resnet.files
    if change == "threads":
        session.threads = 2
    elif change == "device":
        session.device = "cuda"
    elif change == "graph":
        trunk = replace(trunk, facts={**trunk.facts, "graph_digest": "0" * 64})
    else:
        monkeypatch.setattr(opening, "versions", lambda: {"onnxruntime": "99"})

    session.choose(trunk, "auto", None, images)

    assert set(session.opened) >= set(ENGINES)
    on_the_gpu = {name for name in session.opened if name.endswith(":cuda")}
    assert on_the_gpu == ({f"{kind}:cuda" for kind in KINDS} if change == "device" else set())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"name": "torch"}'])
def test_choose__a_damaged_memory_is_measured_anew(own_resnet: Prepared, content: bytes) -> None:
    rigged(own_resnet).choose(own_resnet.files, "auto", None, images)
    (memory,) = (own_resnet.cache / "engines").iterdir()
    memory.write_bytes(content)

    session = rigged(own_resnet)
    session.choose(own_resnet.files, "auto", None, images)

    assert session.opened == list(ENGINES)
    assert files.read_json(memory)["agreeing"] == list(ENGINES)


def test_choose__compiled_is_measured_when_asked_for(own_resnet: Prepared) -> None:
    rigged(own_resnet).choose(own_resnet.files, "auto", None, images)
    for measured in (True, False):  # remembered from then on
        session = rigged(own_resnet)
        choice, _ = session.choose(own_resnet.files, "compiled", None, images if measured else unwanted)

        assert (choice.name, choice.why) == ("compiled", "asked for")
        assert ("compiled" in session.opened) == measured


@pytest.mark.parametrize("asked", KINDS)
def test_choose__torch_is_that_of_the_device(own_resnet: Prepared, asked: str) -> None:
    session = rigged(own_resnet)
    session.device = "cuda:1"

    choice, _ = session.choose(own_resnet.files, asked, None, images)

    assert choice.name == f"{asked}:cuda:1"


@pytest.mark.parametrize(("name", "shown"), [("other", 8), ("torch+bf16", 8), ("compiled", 32), ("compiled:cuda", 128)])
def test_choice__an_engine_of_a_fixed_shape_sees_whole_batches(name: str, shown: int) -> None:
    class Sized(Toy):
        def run(self, images: NDArray[np.uint8]) -> Outputs:
            assert len(images) == shown
            assert np.array_equal(images[:8], pixels(8))
            return super().run(images)

    engines: dict[str, Callable[[], Engine]] = {name: Sized, "torch": Toy}

    choice, _ = choose_engine(engines, pixels(8), clock(8, 1, 1, 1))

    assert choice.rates == {"torch": 1.0, name: shown}
    assert choice.cosine == 1.0


@pytest.mark.parametrize("asked", ENGINES)
def test_choose__the_one_asked_for(own_resnet: Prepared, asked: str) -> None:
    for _ in range(2):  # measured, then remembered
        session = rigged(own_resnet)
        choice, engine = session.choose(own_resnet.files, asked, None, images)

        assert (choice.name, choice.why) == (asked, "asked for")
        assert set(session.opened) <= {"torch", asked}  # the others cost seconds and nobody asked for them
        assert (engine is None) == (not session.opened or choice.name != fastest(choice))
    session = rigged(own_resnet)
    session.choose(own_resnet.files, "auto", None, images)
    assert session.opened == list(ENGINES)  # what is known of one is no choice among all
    session.choose(own_resnet.files, asked, None, unwanted)
    assert session.opened == list(ENGINES)


def fastest(choice: EngineChoice) -> str:
    return max(choice.agreeing, key=lambda name: choice.rates[name])


@pytest.mark.parametrize("raced", [False, True])
def test_choose__one_asked_for_that_disagrees_is_refused(own_resnet: Prepared, raced: bool) -> None:
    if raced:
        rigged(own_resnet, ("onnxruntime", "openvino")).choose(own_resnet.files, "auto", None, images)
    wrong = Toy(off=-60.0).run(pixels(BATCH)[:8])
    cosine = worst_cosine(Toy().run(pixels(BATCH)[:8]), wrong)
    for _ in range(2):
        with pytest.raises(HeadwayError) as caught:
            rigged(own_resnet, ("onnxruntime",)).choose(own_resnet.files, "onnxruntime", None, images)

        assert str(caught.value) == (
            f"--engine onnxruntime cannot be used: onnxruntime disagrees with torch (cosine {cosine:.5f}). "
            "Try --engine auto."
        )


@pytest.mark.parametrize("settled", ENGINES)
def test_choose__a_run_goes_on_with_the_engine_it_began_with(own_resnet: Prepared, settled: str) -> None:
    first, _ = rigged(own_resnet).choose(own_resnet.files, "auto", settled, images)
    again, _ = rigged(own_resnet).choose(own_resnet.files, "auto", settled, unwanted)

    assert (first.name, again.name) == (settled, settled)


def test_choose__a_few_real_images_are_enough(own_resnet: Prepared) -> None:
    choice, _ = rigged(own_resnet).choose(own_resnet.files, "auto", None, lambda: pixels(2))

    assert choice.agreeing == ENGINES


# What decides bits ----------------------------------------------------------------------------------------------


def test_facts__threads_count_for_torch_alone(resnet: Prepared) -> None:
    def facts(name: str, threads: int) -> dict[str, object]:
        return engine_facts(resnet.files, name, threads).to_json()

    assert facts("torch", 1) != facts("torch", 2)
    assert facts("onnxruntime", 1) == facts("onnxruntime", 2)
    assert facts("torch", 1)["batch"] == BATCH
    assert (facts("torch:cuda", 1)["device"], facts("torch:cuda", 1)["batch"]) == ("cuda", DEVICE_BATCH)
    kinds = [facts(kind, 1) for kind in KINDS]
    assert all(one != other for one, other in itertools.combinations(kinds, 2))


@pytest.mark.parametrize("name", ENGINES)
def test_facts__weights_and_versions_count(resnet: Prepared, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    facts = resnet.files.facts
    other = replace(
        resnet.files, facts={**facts, "graph_digest": "0" * 64, "weights": {**facts["weights"], "digest": "1" * 64}}
    )
    before = engine_facts(resnet.files, name, 1)

    assert engine_facts(other, name, 1) != before
    if name == "native":  # its version is its source
        monkeypatch.setattr("headway.backbones.engines.NETWORK", Source("headway.backbones.native", ("plan.h",)))
        assert engine_facts(resnet.files, name, 1) != before
        return
    for package in ("torch", "timm") if name == "torch" else (name,):
        with monkeypatch.context() as patch:
            patch.setattr("headway.backbones.engines.version", lambda wanted, p=package: "9" if wanted == p else "1")
            changed = engine_facts(resnet.files, name, 1)
            patch.setattr("headway.backbones.engines.version", lambda wanted: "1")
            assert changed != engine_facts(resnet.files, name, 1)


def cannot(*given: object, **options: object) -> None:
    raise NotNative("it has a Sigmoid")


def cannot_say_why(*given: object, **options: object) -> None:
    raise RuntimeError


def test_choose__an_engine_that_cannot_run_the_network_is_left_out(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.backbones.engines.NativeGraph", cannot)
    monkeypatch.setattr("headway.backbones.engines.OpenVinoGraph", cannot_say_why)

    choice, _ = own_resnet.session().choose(own_resnet.files, "auto", None, lambda: pixels(8))

    assert choice.agreeing == ("onnxruntime", "torch")
    assert choice.why == (
        "fastest of 2 that agree with torch; openvino cannot run this network (RuntimeError); "
        "native cannot run this network (it has a Sigmoid)"
    )
    with pytest.raises(HeadwayError) as caught:
        own_resnet.session().choose(own_resnet.files, "native", None, lambda: pixels(8))
    told = "--engine native cannot be used: native cannot run this network (it has a Sigmoid). Try --engine auto."
    assert str(caught.value) == told
    with pytest.raises(CannotRun):
        own_resnet.session().open(own_resnet.files, "native")


@pytest.mark.parametrize(("engine", "name", "extra"), [("openvino", "OpenVINO", "int8")])
def test_choose__one_that_is_not_installed(
    own_resnet: Prepared, monkeypatch: pytest.MonkeyPatch, engine: str, name: str, extra: str
) -> None:
    there = is_here
    monkeypatch.setattr(opening, "is_here", lambda package: package != engine and there(package))

    with pytest.raises(HeadwayError) as caught:
        own_resnet.session().choose(own_resnet.files, engine, None, lambda: pixels(8))

    told = f"--engine {engine} needs {name}, which is not installed. Try: pip install 'headway[{extra}]'"
    assert str(caught.value) == told


# Preprocessing, early and as asked ------------------------------------------------------------------------------


def early_preprocess(cache: Path, request: TrunkRequest) -> Preprocess | None:
    return BackboneSession(cache, request, WeightsChoice("none", "none:0"), 0, 1).early_preprocess()


HALF = (0.5, 0.5, 0.5)
OWN = Preprocess(64, 72, "crop", "bicubic", HALF, HALF)


@pytest.mark.parametrize("image", [None, 96, 128, 200, 224, 240, 260, 300])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_early__is_what_the_network_will_say(tmp_path: Path, size: int, image: int | None) -> None:
    import timm

    from headway.backbones.network import own_preprocess

    name = f"tf_efficientnet_lite{size}"
    request = TrunkRequest(name, "packaged:x", image, None, None)
    network = torch.nn.Identity()
    network.pretrained_cfg = timm.get_pretrained_cfg(name).to_dict()  # type: ignore[union-attr]

    assert early_preprocess(tmp_path, request) == own_preprocess(name, network, request)


def test_early__from_the_cache_or_not_at_all(resnet: Prepared, tmp_path: Path) -> None:
    assert early_preprocess(resnet.cache, resnet.request) == resnet.files.preprocess
    assert early_preprocess(tmp_path, resnet.request) is None
    assert early_preprocess(tmp_path, TrunkRequest("tf_efficientnet_lite0", "none:0", 64, None, None)) is None


@pytest.mark.parametrize(
    ("fit", "resize", "small", "expected"),
    [
        (None, None, False, ("crop", 72)),
        (None, None, True, ("squash", None)),
        ("crop", None, True, ("crop", 72)),
        ("pad", None, True, ("pad", None)),
        ("squash", None, False, ("squash", None)),
        (None, 80, True, ("crop", 80)),
        (None, "none", True, ("crop", None)),
        (None, "90", False, ("crop", 90)),
    ],
)
def test_shape__what_was_asked_and_small_images(
    fit: str | None, resize: int | str | None, small: bool, expected: tuple[str, int | None]
) -> None:
    shaped = shape_preprocess(OWN, fit, resize, small)

    assert (shaped.fit, shaped.resize) == expected
    assert replace(shaped, fit="crop", resize=72) == OWN


@pytest.mark.slow
def test_default_network__features_of_an_image_are_its_own(tmp_path: Path, shared_networks: Path) -> None:
    from headway.backbones.weights import choose_weights

    weights = choose_weights("tf_efficientnet_lite0", None, seed=0, offline=True)
    session = BackboneSession(
        tmp_path, TrunkRequest("tf_efficientnet_lite0", weights.identity, 224, None, None), weights, 0, 2
    )
    trunk = session.trunk()
    images = pixels(BATCH, side=224)
    order = np.random.default_rng(0).permutation(BATCH)

    one, two = OnnxEngine(trunk, 1).run(images), OnnxEngine(trunk, 2).run(images[order])
    reference = session.open(trunk, "torch").run(images)

    assert all(np.array_equal(one[tap][order], two[tap]) for tap in one)
    assert worst_cosine(reference, one) >= AGREEMENT
    assert prepared_once(shared_networks, "test_resnet").files.preprocess.size == SIDE
