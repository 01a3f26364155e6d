"""Prediction runs where nothing that trains is installed, and imports little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import make
from tests.deployment import toys

_BLOCKED = """
import importlib.abc, sys

TRAINING = {"torch", "timm", "torchvision", "sklearn", "scipy", "pyarrow", "pandas", "onnx", "pydantic", "safetensors",
            "accelerate", "jinja2", "yaml", "onnxscript"}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in TRAINING:
            raise ImportError(f"{name} is blocked")
        return None

sys.meta_path.insert(0, Blocker())
"""

_PREDICT = (
    _BLOCKED
    + """
import json
from pathlib import Path
from headway.deployment.bundle import load_bundle
from headway.deployment.inputs import expand
from headway.deployment.outputs import as_json, write_sorted
from headway.deployment.predictor import predict

bundle, words, out = load_bundle(sys.argv[1]), sys.argv[2:-1], Path(sys.argv[-1])
inputs = expand(words)
answers = list(write_sorted(predict(bundle, inputs.items, top=2), out, inputs, bundle.classes))
print(json.dumps(as_json({"digest": bundle.digest}, answers)))
"""
)

_SERVE = (
    _BLOCKED
    + """
import asyncio
from pathlib import Path
from headway.deployment.bundle import load_bundle
from headway.serving.app import make_app
from headway.serving import draining, protocol, workers

said = []
app = make_app(load_bundle(sys.argv[1], threads=1), threads=1)
messages = [{"type": "http.request", "body": Path(sys.argv[2]).read_bytes()}]

async def receive():
    return messages.pop() if messages else await asyncio.Event().wait()

async def send(message):
    said.append(message)

scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/predict", "query_string": b"",
         "headers": [(b"host", b"localhost")]}
asyncio.run(app(scope, receive, send))
app.close()
print(said[1]["body"].decode())
"""
)

_IMPORT = """
import json, sys
import headway.deployment.predictor
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "headway")))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"headway"})))
"""


def _python(code: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_predict__works_with_everything_that_trains_blocked(tmp_path: Path) -> None:
    photos = make.class_folders(tmp_path / "photos", {"a": 2, "b": 2})
    make.write(photos / "broken.jpg", b"text")
    bundle = toys.bundle(tmp_path / "toy", ("stage1_mean", "last"), (5,))
    found = json.loads(_python(_PREDICT, bundle, photos, photos / "a" / "0000.jpg", tmp_path / "out"))
    assert (found["n"], found["failed"]) == (5, 1)
    assert [Path(item["name"]).name for item in found["predictions"]] == [
        *("0000.jpg", "0001.jpg", "0000.jpg", "0001.jpg", "broken.jpg")
    ]
    assert all(len(item["top"]) == 2 for item in found["predictions"] if "label" in item)
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == 4


def test_serve__works_with_everything_that_trains_blocked(tmp_path: Path) -> None:
    bundle, image = toys.bundle(tmp_path / "toy"), make.write(tmp_path / "x.jpg", make.jpeg())
    found = json.loads(_python(_SERVE, bundle, image))
    assert [len(each["top"]) for each in found["predictions"]] == [3]


def test_predict__the_blocker_blocks() -> None:
    said = _python(_BLOCKED + "\ntry:\n import torch\nexcept ImportError as error:\n print(error)")
    assert said == "torch is blocked\n"


def test_import__of_the_predictor_brings_numpy_and_pillow_only() -> None:
    ours, others = map(json.loads, _python(_IMPORT).splitlines())
    rooms = {name for name in ours if not name.startswith(("headway.data.", "headway.deployment."))}
    assert rooms == {
        *("headway", "headway.errors", "headway.data", "headway.deployment"),
        *("headway.backbones", "headway.backbones.preprocess"),
    }
    # What an installation itself puts into every process may be there too.
    assert {"numpy", "PIL"} <= set(others)
    assert set(others) <= {"numpy", "PIL", "_distutils_hack", "_virtualenv"} | set(_at_start())


def _at_start() -> list[str]:
    bare = "import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    names: list[str] = json.loads(_python(bare))
    return names
