"""Loading a bundle: every damage is refused with a whole message, and the numbers are those it was made with."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from headway import files
from headway.data.images import BadImage
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.runtime import BATCH
from headway.errors import HeadwayError, Refused
from tests import make
from tests.deployment import toys


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.bundle(tmp_path_factory.mktemp("toy"), ("stage1_mean", "last"), (5,))


def _copy(good: Path, folder: Path) -> Path:
    return Path(shutil.copytree(good, folder / "b"))


def _refusal(path: Path) -> str:
    with pytest.raises(Refused) as caught:
        load_bundle(path, threads=1)
    assert caught.value.exit_code == 2
    return str(caught.value)


def _resign(bundle: Path, **changes: object) -> None:
    """Make the digests right again, as one would who wants to do harm."""
    value = files.read_json(bundle / "manifest.json")
    value["model_digest"] = files.digest_file(bundle / "model.onnx")
    value["probe"] = {item.name: files.digest_file(item) for item in (bundle / "probe").iterdir()}
    value |= changes
    value.pop("digest")
    files.write_json(bundle / "manifest.json", {**value, "digest": files.digest_json(value)})


def test_load_bundle__tells_what_it_is(good: Path) -> None:
    bundle = load_bundle(str(good))
    assert isinstance(bundle, Bundle)
    assert (bundle.path, bundle.classes, bundle.temperature) == (good, toys.CLASSES, 1.3)
    assert bundle.preprocess == toys.preprocess()
    assert bundle.max_pixels == 200_000_000
    assert bundle.digest == files.read_json(good / "manifest.json")["digest"]


def test_load_bundle__works_where_it_was_moved_to(good: Path, tmp_path: Path) -> None:
    moved = _copy(good, tmp_path)
    pixels = toys.images(3)
    np.testing.assert_array_equal(load_bundle(moved).logits(pixels), load_bundle(good).logits(pixels))


def test_load_bundle__a_path_that_is_no_bundle(good: Path, tmp_path: Path) -> None:
    run = tmp_path / "photos-1"
    shutil.copytree(good, run / "bundle")
    (run / "settings.yaml").write_text("")
    assert _refusal(run) == f"{run} is the folder of a run. Its bundle is inside: {run}/bundle"
    assert _refusal(run / "bundle" / "model.onnx") == (
        f"{run}/bundle/model.onnx is a file; a bundle is a folder with a manifest.json. Use the folder: {run}/bundle"
    )
    assert (
        _refusal(run / "settings.yaml") == f"{run}/settings.yaml is a file; a bundle is a folder with a manifest.json."
    )
    assert _refusal(tmp_path / "photo-1") == f"{tmp_path}/photo-1 does not exist. Did you mean {run} ?"
    assert _refusal(tmp_path / "else") == f"{tmp_path}/else does not exist."
    shutil.rmtree(run / "bundle")
    assert _refusal(run) == f"{run} is the folder of a run that has no bundle yet. Let the run finish: headway fit"
    assert _refusal(tmp_path) == (
        f"{tmp_path} is not a bundle: it has no manifest.json. A bundle is the folder bundle/ of a run."
    )


def test_load_bundle__missing_files_are_all_named(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    (bundle / "model.onnx").unlink()
    (bundle / "probe" / "logits.npy").unlink()
    assert _refusal(bundle) == f"{bundle} is incomplete: no model.onnx, probe/logits.npy. Copy the bundle again, whole."


def test_load_bundle__needs_neither_tensors_nor_card(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    (bundle / "model.safetensors").unlink()
    (bundle / "README.md").unlink()
    assert load_bundle(bundle).classes == toys.CLASSES


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["model.onnx", "probe/inputs.npy", "probe/logits.npy", "probe/features.npy"]),
    place=st.integers(0, 1 << 20),
    bit=st.integers(0, 7),
    cut=st.booleans(),
)
def test_load_bundle__any_flipped_bit_or_cut_is_noticed(
    good: Path, tmp_path_factory: pytest.TempPathFactory, name: str, place: int, bit: int, cut: bool
) -> None:
    bundle = _copy(good, tmp_path_factory.mktemp("flip"))
    content = bytearray((bundle / name).read_bytes())
    place %= len(content)
    content[place] ^= 1 << bit
    (bundle / name).write_bytes(bytes(content[:place] if cut else content))
    assert _refusal(bundle) == (
        f"{bundle / name} is damaged: its sha256 is not the one in manifest.json. Copy the bundle again."
    )


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 1 << 20), change=st.integers(1, 255))
def test_load_bundle__a_changed_model_with_right_digests_gives_the_same_numbers_or_is_refused(
    good: Path, tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    bundle = _copy(good, tmp_path_factory.mktemp("flip"))
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[place % len(content)] ^= change
    (bundle / "model.onnx").write_bytes(bytes(content))
    _resign(bundle)
    try:
        loaded = load_bundle(bundle, threads=1)
    except Refused:
        return
    golden = np.load(bundle / "probe" / "logits.npy"), np.load(bundle / "probe" / "inputs.npy")
    np.testing.assert_allclose(loaded.logits(golden[1]), golden[0], rtol=2e-4, atol=1e-3)


def test_load_bundle__an_operator_that_is_no_text_prints_nothing(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = _copy(good, tmp_path)
    content = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(content.replace(b"Gemm", b"\xc1emm"))
    _resign(bundle)
    assert _refusal(bundle).startswith(f"{bundle}/model.onnx ")
    assert capfd.readouterr() == ("", "")


def test_load_bundle__a_model_that_opens_but_does_not_run(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    model = onnx.load_model(bundle / "model.onnx")
    axes = next(item for item in model.graph.initializer if item.name == "axes")
    axes.CopyFrom(onnx.numpy_helper.from_array(np.array([2, 7], np.int64), "axes"))
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    _resign(bundle)
    said = _refusal(bundle)
    assert said.startswith(f"{bundle}/model.onnx ")
    assert "\n" not in said


def test_load_bundle__other_numbers_than_where_it_was_made(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    logits = np.load(bundle / "probe" / "logits.npy")
    logits[1, 2] += 0.01 * np.abs(logits).max()
    np.save(bundle / "probe" / "logits.npy", logits)
    _resign(bundle)
    said = _refusal(bundle)
    assert said.startswith(
        f"{bundle} computes other numbers here than where it was made: golden images differ by 1.0e-02 of the largest "
        "value (allowed 1e-04). Made with onnxruntime "
    )
    assert said.endswith("; try that version, or make the bundle again on this machine.")
    logits[1, 2] = np.nan
    np.save(bundle / "probe" / "logits.npy", logits)
    _resign(bundle)
    assert "computes other numbers" in _refusal(bundle)


@pytest.mark.parametrize("place", ["weights.bin", "../../../etc/passwd", "/etc/hostname"])
def test_load_bundle__data_outside_the_model_is_refused_before_it_is_opened(
    good: Path, tmp_path: Path, place: str
) -> None:
    bundle = _copy(good, tmp_path)
    model = onnx.load_model(bundle / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    _resign(bundle)
    opened: list[str] = []
    with _audit(opened):
        said = _refusal(bundle)
    assert said == (
        f"{bundle}/model.onnx refers to data in other files. A bundle's model is one file; make the bundle again."
    )
    assert [path for path in opened if not path.startswith(str(bundle)) and path.endswith((place, "onnx"))] == []


def test_load_bundle__a_model_that_is_none(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    (bundle / "model.onnx").write_bytes(b"\x07\x07\x07")
    _resign(bundle)
    assert _refusal(bundle) == f"{bundle}/model.onnx is damaged: it is not an ONNX model (wire type 7)."
    (bundle / "model.onnx").write_bytes(b"")
    _resign(bundle)
    assert _refusal(bundle).startswith(f"{bundle}/model.onnx cannot be opened by onnxruntime ")


def test_load_bundle__a_model_that_takes_or_gives_something_else(good: Path, tmp_path: Path) -> None:
    bundle = _copy(good, tmp_path)
    model = onnx.load_model(bundle / "model.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[1].Clear()
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    value = files.read_json(bundle / "manifest.json")
    _resign(bundle, classes=["a", "b"], outputs={**value["outputs"], "logits": 2})
    assert "expected float32 'logits' (B, 2)." in _refusal(bundle)
    shutil.rmtree(bundle)
    _copy(good, tmp_path)
    value["preprocess"]["size"] = 8
    _resign(bundle, preprocess=value["preprocess"], input={**value["input"], "shape": ["B", 8, 8, 3]})
    assert _refusal(bundle) == (
        f"{bundle}/model.onnx takes image uint8 (B, 16, 16, 3); expected uint8 images (B, 8, 8, 3) named 'image'."
    )


class _Harm:
    def __reduce__(self) -> Any:
        return (print, ("harm",))


def test_load_bundle__a_pickle_in_the_golden_arrays_is_never_read(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = _copy(good, tmp_path)
    stream = io.BytesIO()
    np.save(stream, np.array([_Harm()], dtype=object), allow_pickle=True)
    (bundle / "probe" / "inputs.npy").write_bytes(stream.getvalue())
    _resign(bundle)
    assert _refusal(bundle) == f"{bundle}/probe/inputs.npy is not a plain numpy array."
    assert capsys.readouterr().out == ""


def test_load_bundle__golden_arrays_of_another_shape(good: Path, tmp_path: Path) -> None:
    for array in (np.zeros((0, 16, 16, 3), np.uint8), np.zeros((4, 16, 16, 3), np.float32), np.array(1)):
        bundle = _copy(good, tmp_path)
        np.save(bundle / "probe" / "inputs.npy", array)
        _resign(bundle)
        assert _refusal(bundle).startswith(f"{bundle}/probe does not fit manifest.json: images {array.shape}, ")
        shutil.rmtree(bundle)


def test_bundle__an_image_gives_the_same_bits_in_any_company(good: Path) -> None:
    bundle, pixels = load_bundle(good), toys.images(2 * BATCH + 3)
    together = bundle.logits(pixels)
    alone = np.concatenate([bundle.logits(pixels[i : i + 1]) for i in range(len(pixels))])
    turned = bundle.logits(pixels[::-1])[::-1]
    assert together.shape == (2 * BATCH + 3, 3)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, turned)
    assert bundle.logits(pixels[:0]).shape == (0, 3)
    assert bundle.features(pixels[:0]).shape == (0, 24)


def test_bundle__images_that_were_not_prepared(good: Path) -> None:
    bundle = load_bundle(good)
    for wrong in (
        np.zeros((1, 16, 16, 3), np.float32),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ):
        with pytest.raises(HeadwayError) as caught:
            bundle.logits(wrong)  # type: ignore[arg-type]
        assert str(caught.value) == f"expected uint8 images (B, 16, 16, 3), got {wrong.dtype} {wrong.shape}"


def test_bundle_predict__one_image(good: Path, tmp_path: Path) -> None:
    bundle, path = load_bundle(good), make.write(tmp_path / "new.png", make.png())
    found = bundle.predict(str(path))
    assert found.name == str(path)
    assert found.label in toys.CLASSES
    assert len(found.top) == 3
    assert str(found) == f"{found.label} {found.probability:.2f}"
    assert bundle.predict(path.read_bytes(), top=1).top == found.top[:1]
    with pytest.raises(BadImage) as caught:
        bundle.predict(tmp_path / "no.jpg")
    assert str(caught.value) == f"{tmp_path}/no.jpg: does not exist"


class _audit:
    """Collects the files that Python opens; hooks cannot be removed, so this one falls silent."""

    def __init__(self, opened: list[str]) -> None:
        self.opened, self.on = opened, False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "open":
            self.opened.append(str(arguments[0]))

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *_: object) -> None:
        self.on = False
