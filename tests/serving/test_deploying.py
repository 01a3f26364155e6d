"""What docs/serving.md and the Dockerfile say of running it for real agrees with the server, its options, a bundle."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from headway.deployment.bundle import Bundle, load_bundle
from headway.serving.app import OPEN_PATHS
from headway.serving.limits import LOOPBACK, Limits
from tests import make
from tests.test_docs import ROOT, blocks, named, unknown

PAGE = ROOT / "docs" / "serving.md"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
AFTER_DEADLINE = 2  # seconds that a server which is told to stop waits beyond the deadline of its requests
TYPES = {"TYPE_UINT8": "uint8", "TYPE_FP32": "float32"}


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, the rest) of the Dockerfile, lines that go on joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def last(instruction: str) -> str:
    return [rest for name, rest in instructions() if name == instruction][-1]


def entrypoint() -> list[str]:
    words: list[str] = json.loads(last("ENTRYPOINT"))
    return words


def documents() -> list[dict[str, Any]]:
    return [value for block in blocks(PAGE, "yaml") for value in yaml.safe_load_all(block)]


def of_kind(kind: str) -> dict[str, Any]:
    return next(value for value in documents() if value["kind"] == kind)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_dockerfile__runs_a_command_that_exists_as_a_user_who_is_not_root() -> None:
    assert [rest.split()[0] for name, rest in instructions() if name == "FROM"] == ["python:3.11-slim"] * 2
    assert named(entrypoint()) == "headway serve"
    assert unknown(shlex.join(entrypoint())) == []
    assert last("USER") == "10001"
    assert last("EXPOSE") == entrypoint()[entrypoint().index("--port") + 1] == "8000"


def test_dockerfile__its_health_check_is_python_that_asks_what_needs_no_token() -> None:
    python, flag, code = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    compile(code, "HEALTHCHECK", "exec")
    asked = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", code)
    assert (python, flag, asked) == ("python", "-c", ["/healthz"])
    assert asked[0] in OPEN_PATHS


def test_dockerfile__copies_and_installs_what_is_there() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = known["project"]["optional-dependencies"]
    said = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE + PAGE.read_text(encoding="utf-8"))
    assert [extra for words in said for extra in words.split(",") if extra not in extras] == []
    copied = [word for name, rest in instructions() if name == "COPY" and "--from" not in rest for word in rest.split()]
    sources = [word for word in copied if not word.startswith("/")]
    assert sorted(sources) == ["LICENSE", "README.md", "pyproject.toml", "src"]
    assert [name for name in sources if not (ROOT / name).exists()] == []
    kept = (ROOT / ".dockerignore").read_text().split()
    assert [name for name in sources if f"!{name}" not in kept] == []


def test_kubernetes__the_pod_runs_probes_and_drains_as_the_server_does() -> None:
    spec = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert unknown(shlex.join([*entrypoint(), *container["args"]])) == []
    probes = [value["httpGet"] for name, value in container.items() if name.endswith("Probe")]
    assert len(probes) == 3
    assert {probe["path"] for probe in probes} == {"/readyz", "/healthz"} <= set(OPEN_PATHS)
    assert container["ports"] == [{"name": "http", "containerPort": int(last("EXPOSE"))}]
    assert {probe["port"] for probe in probes} == {"http"} == {of_kind("Service")["spec"]["ports"][0]["targetPort"]}
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] > pause + Limits().deadline_s + AFTER_DEADLINE
    assert str(spec["securityContext"]["runAsUser"]) == last("USER")
    assert container["volumeMounts"][0]["mountPath"] == entrypoint()[2]
    assert container["args"][1] == container["resources"]["limits"]["cpu"]
    secret, asked = of_kind("Secret"), container["env"][0]["valueFrom"]["secretKeyRef"]
    assert (secret["metadata"]["name"], list(secret["stringData"])) == (asked["name"], [asked["key"]])


def test_kserve__its_container_runs_the_same() -> None:
    services = [value["spec"]["predictor"] for value in documents() if value["kind"] == "InferenceService"]
    assert [set(value) for value in services] == [{"model"}, {"containers"}]
    (container,) = services[1]["containers"]
    assert unknown(shlex.join([*entrypoint(), *container["args"]])) == []
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": int(last("EXPOSE"))}


def test_systemd__starts_a_command_that_exists_and_waits_for_the_drain() -> None:
    (unit,) = blocks(PAGE, "ini")
    values = dict(re.findall(r"(?m)^(\w+)=(.*)$", unit))
    words = values["ExecStart"].split()
    assert Path(words[0]).name == "headway"
    assert named(["headway", *words[1:]]) == "headway serve"
    assert unknown(shlex.join(["headway", *words[1:]])) == []
    assert int(values["TimeoutStopSec"]) > Limits().deadline_s + AFTER_DEADLINE


def test_nginx__its_limits_agree_with_the_servers() -> None:
    (text,) = blocks(PAGE, "nginx")
    said = dict(re.findall(r"(?m)^ *(?:proxy_set_header )?([\w-]+) +([^;{]+);", text))
    limits = Limits()
    assert text.count("{") == text.count("}")
    assert int(said["client_max_body_size"]) <= limits.max_body
    assert seconds(said["client_header_timeout"]) <= limits.header_s
    assert seconds(said["client_body_timeout"]) <= limits.body_s
    assert seconds(said["keepalive_timeout"]) < limits.header_s
    assert seconds(said["proxy_read_timeout"]) > limits.deadline_s
    assert said["Host"] in LOOPBACK


def test_triton__the_configuration_names_what_a_bundle_has(plain: Path) -> None:
    (text,) = blocks(PAGE, "protobuf")
    found = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ ([\d, ]+) \]', text)
    ports = {name: (TYPES[kind], [int(size) for size in sizes.split(",")]) for name, kind, sizes in found}
    loaded = load_bundle(plain, threads=1)
    sizes = {16: 224, 3: 2} | {loaded.manifest.outputs["features"]: 1280}
    wanted = {name: (kind, [sizes[n] for n in shape]) for name, (kind, shape) in loaded.runtime.outputs.items()}
    assert {name: port for name, port in ports.items() if name != "image"} == wanted
    assert loaded.runtime.inputs == {"image": ("uint8", [16, 16, 3])}
    assert ports["image"] == ("uint8", [224, 224, 3])


@pytest.fixture
def stand_in(plain: Path) -> Iterator[str]:
    """The address of a server of the open inference protocol (V2), as Triton and KServe speak it."""
    loaded = load_bundle(plain, threads=1)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(infer(loaded, self.path, asked)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def infer(bundle: Bundle, path: str, asked: dict[str, Any]) -> dict[str, Any]:
    (image,), (output,) = asked["inputs"], asked["outputs"]
    assert (path, image["name"], image["datatype"]) == ("/v2/models/cats/infer", "image", "UINT8")
    pixels = np.array(image["data"], np.uint8).reshape(image["shape"])
    logits = bundle.logits(pixels)
    data = {"name": output["name"], "datatype": "FP32", "shape": logits.shape, "data": logits.ravel().tolist()}
    return {"model_name": "cats", "outputs": [data]}


def test_triton__the_client_answers_as_the_bundle_does(plain: Path, stand_in: str, tmp_path: Path) -> None:
    (story,) = (block for block in blocks(PAGE, "python") if "read_manifest" in block)
    make.write(tmp_path / "new.jpg", make.jpeg(seed=3, size=(200, 150)))
    (tmp_path / "bundle").symlink_to(plain)
    code = story.replace("http://127.0.0.1:8000/", stand_in)
    assert stand_in in code
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    answer = load_bundle(plain, threads=1).predict(tmp_path / "new.jpg")
    assert answer.probability is not None
    assert done.stdout == f"{answer.label} {round(answer.probability, 2)}\n"
