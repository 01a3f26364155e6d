"""`headway export`: each format is read back by its own runtime, and only the bundle's numbers are let through."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import pytest
import torch
import typer

from headway.backbones.preprocess import Fit
from headway.cli import app
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.runtime import open_runtime
from headway.errors import HeadwayError
from headway.exports import measure_parity
from headway.formats import writing
from headway.formats.format import Format, Request
from headway.formats.torch_files import PROGRAM
from headway.terminal import outcome
from tests import make
from tests.deployment import toys

if TYPE_CHECKING:
    from numpy.typing import NDArray


def headway(*words: str | Path) -> int:
    return outcome.run(typer.main.get_command(app), [str(word) for word in words])


def exported(bundle: Path, kind: str, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert headway("export", bundle, "--to", kind, "--out", out, "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def fresh(bundle: Bundle, n: int) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 that no gate has seen."""
    size = bundle.preprocess.size
    return np.random.default_rng(8).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def by_openvino(folder: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    found = openvino.compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
    return [found["logits"], found["features"]]


def by_program(folder: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    return [
        part.detach().numpy() for part in torch.export.load(folder / "model.pt2").module()(torch.from_numpy(images))
    ]


def by_script(folder: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    model = torch.jit.load(str(folder / "model.pt"))  # type: ignore[no-untyped-call]
    return [part.numpy() for part in model(torch.from_numpy(images))]


def by_onnx(folder: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    name = folder / "model.onnx"
    found = open_runtime(name.read_bytes(), name, "onnxruntime", 1).run(images, ("logits", "features"))
    return [found["logits"], found["features"]]


RUNTIMES = {"onnx": by_onnx, "openvino": by_openvino, "torch": by_program, "torchscript": by_script}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("which", ["linear", "deep"])
def test_export__its_own_runtime_gives_the_bundles_numbers(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, which: str
) -> None:
    path: Path = request.getfixturevalue(which)
    told = exported(path, kind, tmp_path / "out", capsys)
    bundle = load_bundle(path, threads=1)
    assert (told["to"], told["parity"]["n"], told["parity"]["same_top1"]) == (kind, 4, 4)
    assert told["bytes"] == sum(item.stat().st_size for item in (tmp_path / "out").iterdir())
    for n in (1, 3, 5):
        images = fresh(bundle, n)
        for found, wanted in zip(RUNTIMES[kind](tmp_path / "out", images), bundle.both(images), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNTIMES)
def test_export__the_snippet_of_its_readme_answers_as_the_bundle_does(
    linear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    exported(linear, kind, tmp_path / "out", capsys)
    image = make.write(tmp_path / "new.png", make.png(1, 3, (130, 90)))
    wanted = load_bundle(linear, threads=1).predict(image).top
    assert agrees(ran(tmp_path / "out", image), wanted, 2e-3)


def agrees(told: list[tuple[float, str]], wanted: tuple[tuple[str, float], ...], within: float) -> bool:
    near = [share for share, _ in told] == pytest.approx([share for _, share in wanted], abs=within)
    return [name for _, name in told] == [name for name, _ in wanted] and bool(near)


def ran(folder: Path, *words: str | Path) -> list[tuple[float, str]]:
    """What the program in README.md prints, run where it lies and without headway."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "headway" not in code
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    parts = re.findall(r"^(\d\.\d{4}) (.*(?:\n(?!\d\.\d{4} ).*)*)\n", done.stdout + "", re.MULTILINE)
    return [(float(share), name) for share, name in parts]


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_snippet__prepares_an_image_as_the_bundle_does(tmp_path: Path, fit: Fit) -> None:
    made = replace(toys.classifier(tmp_path / "trunk"), preprocess=replace(toys.preprocess(), fit=fit))
    writing_bundle(made, tmp_path / "b")
    assert headway("export", tmp_path / "b", "--to", "onnx") == 0
    for seed, size in enumerate([(90, 41), (33, 70), (16, 16)]):
        image = make.write(tmp_path / f"{seed}.png", make.png(seed, seed, size))
        wanted = load_bundle(tmp_path / "b", threads=1).predict(image).top
        assert agrees(ran(tmp_path / "b-onnx", image), wanted, 5e-3)


def writing_bundle(made: Any, path: Path) -> None:
    from headway.exports import write_bundle

    write_bundle(made, path, samples=toys.samples(made), card={}, threads=1)


def test_export__says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toys.bundle(tmp_path)
    assert headway("export", path, "--to", "onnx") == 0
    out = tmp_path / "bundle-onnx"
    size = sum(item.stat().st_size for item in out.iterdir()) / 1e6
    assert capsys.readouterr().out == (
        "parity   4 of 4 golden images get the same class, the same bits\n"
        f"written  {out}/   {size:.1f} MB; how to use it: README.md\n"
    )
    assert sorted(item.name for item in out.iterdir()) == ["MODEL_CARD.md", "README.md", "classes.json", "model.onnx"]
    assert (out / "MODEL_CARD.md").read_bytes() == (path / "README.md").read_bytes()
    assert json.loads((out / "classes.json").read_text()) == {"classes": ["cat", "dog", "owl"], "temperature": 1.3}


def test_export__never_replaces_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = toys.bundle(tmp_path), tmp_path / "mine"
    make.write(out / "notes.txt", b"mine")
    assert headway("export", path, "--to", "onnx", "--out", out) == 2
    assert capsys.readouterr().err == (
        f"headway: {out} is there already, and an export never replaces anything. Name another: --out DIR\n"
    )
    assert headway("export", path, "--to", "onnx", "--out", tmp_path / "no" / "where") == 2
    assert capsys.readouterr().err == (
        f"headway: {tmp_path / 'no'} does not exist; the export would be written into it.\n"
    )
    assert (out / "notes.txt").read_bytes() == b"mine"


def test_export__a_network_that_torch_does_not_know_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = toys.bundle(tmp_path)
    assert headway("export", path, "--to", "torch") == 2
    assert capsys.readouterr().err.startswith("headway: no backbone 'toy'.")
    assert not (tmp_path / "bundle-torch").exists()


def test_export__int8_belongs_to_openvino(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toys.bundle(tmp_path)
    bundle = load_bundle(path, threads=1)
    engine = {"name": "openvino", "precision": "int8", "made_with": "openvino"}
    manifest = replace(bundle.manifest, engine=engine)
    (path / "manifest.json").write_text(json.dumps(manifest.to_json()))
    for kind in ("onnx", "torch", "torchscript", "triton", "browser"):
        assert headway("export", path, "--to", kind) == 2
        assert capsys.readouterr().err == (
            f"headway: {path} computes in int8, whose numbers hold in OpenVINO alone: --to openvino or mlflow.\n"
        )
    shutil.copytree(path, path / "portable")
    assert headway("export", path, "--to", "triton") == 2
    assert capsys.readouterr().err.endswith(f"Export its fp32 twin: headway export {path / 'portable'} --to triton\n")
    assert exported(path, "openvino", tmp_path / "ir", capsys)["parity"]["same_top1"] == 4


@pytest.mark.slow
def test_export__a_model_of_mlflow_answers_as_the_bundle_does(
    linear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import pyfunc
    from pandas import DataFrame

    told = exported(linear, "mlflow", tmp_path / "out", capsys)
    content = make.png(1, 2)
    answer = load_bundle(linear, threads=1).predict(content)

    found = pyfunc.load_model(str(tmp_path / "out" / "model")).predict(DataFrame({"image": [content]}))

    assert told["parity"] is None
    assert found["label"].tolist() == [answer.label]
    assert found["probability"].tolist() == pytest.approx([answer.probability], abs=1e-6)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "The model holds the bundle itself, every digest of it right." in readme


@pytest.mark.parametrize("shift", [0.05, float("nan")])
def test_gate__other_numbers_are_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """A runtime that computes a little off is had by putting one in its place."""
    bundle, off = load_bundle(toys.bundle(tmp_path), threads=1), np.array([shift, 0, 0], np.float32)
    format_ = Format("A runtime", (), lambda _, __: None, lambda _, images: bundle.logits(images) + off, lambda _: "")
    monkeypatch.setattr(writing, "_format", lambda _: format_)
    with pytest.raises(HeadwayError) as refused:
        writing.export_bundle(Request(bundle), "onnx", tmp_path / "out")
    images = np.load(bundle.path / "probe" / "inputs.npy")[:1]
    parity = measure_parity(bundle.logits(images) + off, bundle.logits(images), bundle.temperature)
    assert str(refused.value) == (
        f"A runtime does not give the bundle's numbers: of 1 golden images {parity.told()}. Nothing was written."
    )
    assert sorted(item.name for item in tmp_path.iterdir()) == ["bundle", "trunk"]


def test_gate__takes_several_batch_sizes(tmp_path: Path) -> None:
    bundle, seen = load_bundle(toys.bundle(tmp_path), threads=1), []

    def logits(_: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(images))
        return bundle.logits(images)

    writing._gate(replace(PROGRAM, logits=logits), Request(bundle), tmp_path)
    assert seen == [1, 4]
