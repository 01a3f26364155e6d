"""`headway[serve]` alone serves: an environment that holds what its requirements name, what those name, and no more."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import make
from tests.serving.promising import promising_bundle
from tests.serving.running import running

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """name → every distribution that `requirements` lead to here, by the metadata of each."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in found and not requirement.extras:
            continue
        found[name] = distribution(requirement.name)
        for text in found[name].requires or []:
            waiting += [(Requirement(text), wanted) for wanted in ("", *requirement.extras)]
    return found


def link(package: Distribution, target: Path) -> None:
    """Put the top of every file of `package` into the folder `target`, as links."""
    tops = {Path(str(file)).parts[0] for file in package.files or []} - {"..", "__pycache__"}
    for top in tops:
        place = target / top
        if not place.exists():
            place.symlink_to(Path(str(package.locate_file(top))))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with `headway[serve]`; packages are links to those that run this test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    venv.create(folder, symlinks=True, with_pip=False)
    target = next(folder.glob("lib/python*/site-packages"))
    packages = needed([*project["dependencies"], *project["optional-dependencies"]["serve"]])
    assert {"uvicorn", "python-multipart", "onnxruntime"} <= set(packages)
    assert not {"torch", "timm", "onnx", "scikit-learn"} & set(packages)
    for package in packages.values():
        link(package, target)
    (target / "headway").symlink_to(ROOT / "src" / "headway")
    return folder / "bin" / "python"


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
