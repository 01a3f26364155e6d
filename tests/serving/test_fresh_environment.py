"""`headway[serve]` alone serves: an environment that holds what its requirements name, what those name, and no more."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import fresh, make
from tests.serving.promising import promising_bundle
from tests.serving.running import running

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with `headway[serve]`; packages are links to those that run this test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = fresh.needed([*project["dependencies"], *project["optional-dependencies"]["serve"]])
    assert {"uvicorn", "python-multipart", "onnxruntime"} <= set(packages)
    assert not {"torch", "timm", "onnx", "scikit-learn"} & set(packages)
    python, target = fresh.environment(tmp_path_factory.mktemp("fresh") / "environment", packages)
    (target / "headway").symlink_to(ROOT / "src" / "headway")
    return python


def test_serve__answers_where_only_its_extra_is_installed(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = promising_bundle(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)

    with running(bundle, tmp_path / "log", command=(str(environment), "-I", "-m", "headway", "serve")) as server:
        status, told = server.ask("/predict", make.png())
        assert (status, len(told["predictions"])) == (200, 1)
        assert set(told["predictions"][0]) >= {"label", "probability", "top", "digest", "set", "unknown"}
        assert server.ask("/model")[0] == 200
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "libtorch" not in maps


def test_environment__lacks_what_trains(environment: Path) -> None:
    done = subprocess.run([environment, "-I", "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr, sys.version
