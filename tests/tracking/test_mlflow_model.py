"""A bundle as a model of MLflow: loaded and served by mlflow itself, held against the bundle's own answers."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from headway.deployment.bundle import load_bundle
from headway.errors import Refused
from headway.tracking.mlflow_model import save_mlflow
from headway.tracking.pyfunc import read
from tests.tracking.conftest import serving

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow.*")


@pytest.fixture(scope="module")
def model(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mlflow(tuned / "bundle", tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def images(photos: Path) -> list[Path]:
    return sorted(photos.glob("*/*"))[::12]


def test_predict__paths_bytes_and_base64_are_the_answers_of_the_bundle(
    model: Path, tuned: Path, images: list[Path]
) -> None:
    import pandas as pd
    from mlflow import pyfunc

    first = images[0].read_bytes()
    text = base64.b64encode(first).decode()
    bundle = load_bundle(tuned / "bundle")
    expected = [bundle.predict(path) for path in images]
    values = [*map(str, images), first, text, text.encode(), f"data:image/jpeg;base64,{text}"]
    found = pyfunc.load_model(str(model)).predict(pd.DataFrame({"image": values}, index=range(5, 5 + len(values))))

    assert list(found.columns) == ["label", "probability", "probabilities", "error"]
    assert list(found.index) == list(range(5, 5 + len(values)))
    assert list(found["label"]) == [answer.label for answer in (*expected, *[expected[0]] * 4)]
    assert list(found["probability"]) == [answer.probability for answer in (*expected, *[expected[0]] * 4)]
    assert found["probabilities"].iloc[0] == dict(expected[0].top)


def test_predict__what_cannot_be_read_is_told_in_its_row(model: Path, images: list[Path]) -> None:
    import pandas as pd
    from mlflow import pyfunc

    found = pyfunc.load_model(str(model)).predict(
        pd.DataFrame({"image": ["nothing.jpg", b"some text", str(images[0])]})
    )

    assert list(found["error"])[:2] == ["does not exist", "not an image (starts with 'some text')"]
    assert found["label"].isna().tolist() == [True, True, False]


def test_predict__sets_and_unknown_images(model: Path, tuned: Path, images: list[Path]) -> None:
    import pandas as pd
    from mlflow import pyfunc

    loaded, asked = pyfunc.load_model(str(model)), pd.DataFrame({"image": [str(path) for path in images]})
    found = loaded.predict(asked, params={"coverage": 0.5, "unknown": 0.5})
    bundle = load_bundle(tuned / "bundle")
    answers = [bundle.predict(path, coverage=0.5, unknown=0.5) for path in images]

    assert list(found["set"]) == [list(answer.labels or ()) for answer in answers]
    assert list(found["unknown"]) == [answer.strangeness and answer.strangeness.flag for answer in answers]
    with pytest.raises(Exception, match=r"--coverage 0.9999 takes at least 9,999 validation images"):
        loaded.predict(asked, params={"coverage": 0.9999})


def test_save__what_cannot_be_is_refused(model: Path, tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="exists: expected a new folder for the model of MLflow"):
        save_mlflow(tuned / "bundle", model)
    with pytest.raises(Refused, match=r"manifest\.json cannot be read"):
        save_mlflow(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_save__holds_no_pickle_and_asks_for_no_torch(model: Path) -> None:
    names = [path.name for path in model.rglob("*") if path.is_file()]
    needed = [line.split("==")[0] for line in (model / "requirements.txt").read_text().split()]

    assert [name for name in names if name.endswith((".pkl", ".pickle", ".pth"))] == []
    assert needed == ["headway", "mlflow"]


def test_read__bytes_are_never_a_path(images: list[Path]) -> None:
    assert read(str(images[0])) == images[0]
    assert read(str(images[0]).encode()) == str(images[0]).encode()
    assert read("aGVsbG8=") == b"hello"
    assert read("a" * 5000 + "!") == Path("a" * 5000 + "!")


@pytest.mark.slow
def test_load__brings_no_torch(model: Path, images: list[Path]) -> None:
    code = (
        "import sys, mlflow, pandas\n"
        "found = mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.DataFrame({'image': sys.argv[2:]}))\n"
        "print(len(found), sorted({'torch', 'timm', 'pydantic_settings'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), *map(str, images)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{len(images)} []\n"


def post(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.slow
def test_serve__answers_base64_and_opens_no_path(model: Path, tuned: Path, images: list[Path], tmp_path: Path) -> None:
    texts = [base64.b64encode(path.read_bytes()).decode() for path in images]
    bundle = load_bundle(tuned / "bundle")
    answers = [bundle.predict(path) for path in images]
    words = ("models", "serve", "-m", str(model), "--env-manager", "local")
    with serving(words, tmp_path / "log", "/ping") as address:
        split = {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}}
        status, found = post(address, split)
        assert status == 200
        assert [row["label"] for row in found["predictions"]] == [answer.label for answer in answers]
        assert [row["probability"] for row in found["predictions"]] == [answer.probability for answer in answers]
        same: tuple[dict[str, Any], ...] = ({"inputs": {"image": texts}}, {"instances": [{"image": t} for t in texts]})
        for form in same:
            assert post(address, form) == (status, found)
        path = str(images[0])
        paths: tuple[dict[str, Any], ...] = (
            *({"dataframe_records": [{"image": path}]}, {"inputs": {"image": [path]}}, {"inputs": [path]}),
        )
        for form in paths:
            status, row = post(address, form)  # refused where it is no base64, else bytes that are no image
            assert status == 400 or (status, row["predictions"][0]["label"]) == (200, None)
        status, refused = post(address, {**split, "params": {"coverage": 0.9999}})
        assert status == 400
        assert "--coverage 0.9999 takes at least 9,999 validation images" in refused["message"]
        assert "Traceback" not in json.dumps(refused)
