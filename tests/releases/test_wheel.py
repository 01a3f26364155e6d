"""The wheel: what it holds, and that it works where its requirements are and nothing else of this machine.

It is built as `pip wheel .` builds it, by the backend that pyproject.toml names (the package hatchling).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import headway
from tests import fresh, make
from tests.conftest import require
from tests.serving.promising import promising_bundle

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOY = ("--backbone", "test_resnet", "--weights", "none", "--image", "64", "--engine", "onnxruntime", "--threads", "1")
# Of extras that bring one package to the side: what they bring, and the line that says so where they are missing.
BRINGS = {
    "int8": "openvino",
    "map": "umap",
    "tune": "optuna",
    "track": "mlflow",
    "hub": "huggingface_hub",
    "notebook": "ipykernel",
    "cloud": "fsspec",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("wheel", find_spec("hatchling") is not None, "hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(folder),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def installed(wheel: Path, folder: Path, extra: str | None) -> Path:
    """The Python of an environment of the wheel's own: what it and `extra` require, linked, and the wheel unpacked."""
    wanted = [*PROJECT["dependencies"], *(EXTRAS[extra] if extra else [])]
    python, target = fresh.environment(folder, fresh.needed(wanted))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return python


def run(python: Path, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = [str(python), "-I", *map(str, words)]
    return subprocess.run(said, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_wheel__holds_the_house_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    house = ROOT / "src"
    kinds = {path.suffix for path in house.rglob("*") if path.is_file()} - {".pyc"}
    expected = {path.relative_to(house).as_posix() for kind in kinds for path in house.rglob(f"*{kind}")}

    assert held == {name for name in expected if "__pycache__" not in name}
    assert {
        "headway/py.typed",
        "headway/recipes/best.yaml",
        "headway/reporting/templates/report.html",
        "headway/serving/static/page.js",
        "headway/viewer/templates/table.html",
    } <= held
    assert wheel.name == f"headway-{headway.__version__}-py3-none-any.whl"


def test_wheel__tells_its_extras_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        told = {
            name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist() if "dist-info" in name
        }

    assert {f"Provides-Extra: {extra}" for extra in EXTRAS} <= set(told["METADATA"].splitlines())
    assert f"Version: {headway.__version__}\n" in told["METADATA"]
    assert "headway = headway.cli:program" in told["entry_points.txt"]
    assert "LICENSE" in told


def test_wheel__alone_predicts_and_says_what_training_needs(wheel: Path, tmp_path: Path) -> None:
    bundle, python = promising_bundle(tmp_path), installed(wheel, tmp_path / "environment", None)
    image = make.write(tmp_path / "new.png", make.png())

    told = run(python, "-m", "headway", "predict", bundle, image, cwd=tmp_path)
    trained = run(python, "-m", "headway", "fit", tmp_path, cwd=tmp_path)
    served = run(python, "-m", "headway", "serve", bundle, cwd=tmp_path)

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"{image}  ")
    assert (trained.returncode, served.returncode) == (1, 2)
    assert "pip install 'headway[train]'" in trained.stderr
    assert "pip install 'headway[serve]'" in served.stderr


def test_wheel__with_train_trains(wheel: Path, tmp_path: Path) -> None:
    python = installed(wheel, tmp_path / "environment", "train")
    make.class_folders(tmp_path / "photos", {"cats": 24, "dogs": 24})

    done = run(python, "-m", "headway", "fit", "photos", *TOY, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/photos-1/report.html").is_file()


def test_wheel__with_serve_opens_its_application(wheel: Path, tmp_path: Path) -> None:
    bundle, python = promising_bundle(tmp_path), installed(wheel, tmp_path / "environment", "serve")
    opened = f"make_app(headway.load_bundle({str(bundle)!r})).close()"
    code = f"import headway; from headway.serving.app import make_app; {opened}"

    done = run(python, "-c", code, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


def test_extras__each_is_looked_at() -> None:
    assert set(EXTRAS) == {"train", "serve", *BRINGS, "docs", "bench", "all", "dev"}


@pytest.mark.parametrize("extra", BRINGS)
def test_wheel__with_an_extra_has_what_it_is_for(extra: str, wheel: Path, tmp_path: Path) -> None:
    python = installed(wheel, tmp_path / "environment", extra)
    code = (
        "import importlib.util as u, sys, headway.cli; print(u.find_spec(sys.argv[1]) is not None, u.find_spec('timm'))"
    )

    done = run(python, "-c", code, BRINGS[extra], cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "True None\n", "")
