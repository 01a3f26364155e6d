"""Everything around predictions: who is let in, what every answer bears, limits, deadlines, counters, the log."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.runtime import Runtime
from headway.serving.app import OPEN_PATHS, PAGE, make_app
from headway.serving.limits import Limits
from headway.serving.openapi import document
from headway.serving.refusals import CODES
from tests import make
from tests.serving.client import asked, once, through

IMAGE = make.jpeg(2, 3)
TOKEN = "a-token-for-a-test"
PATHS = (*PAGE, "/healthz", "/readyz", "/metrics", "/model", "/openapi.json")


class Slow:
    """A runtime that waits before it computes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self.inputs, self.outputs = runtime, runtime.inputs, runtime.outputs
        self.go, self.computed = threading.Event(), 0

    def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        assert self.go.wait(20)
        self.computed += len(images)
        return self._runtime.run(images, outputs)


def slow(bundle: Path) -> tuple[Bundle, Slow]:
    loaded = load_bundle(bundle, threads=1)
    runtime = Slow(loaded.runtime)
    return replace(loaded, runtime=runtime), runtime


def error(found: httpx.Response) -> tuple[int, str]:
    return found.status_code, found.json()["error"]["code"]


@pytest.mark.parametrize("path", PATHS)
def test_answers__bear_what_protects_a_browser(plain: Path, path: str) -> None:
    found = once(plain, "GET", path)
    page = path in PAGE

    assert found.status_code == 200
    assert len(found.headers["x-request-id"]) == 16
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert ("script-src 'self'" in found.headers["content-security-policy"]) == page
    assert found.headers["cache-control"] == ("no-cache" if page else "no-store")


def test_answers__an_id_that_a_proxy_gave_is_kept_if_it_is_plain(plain: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> list[str]:
        given = ("0123-abcd-XYZ_", "short", 'x"><script>alert(1)</script>')
        return [
            (await client.get("/healthz", headers={"x-request-id": each})).headers["x-request-id"] for each in given
        ]

    kept, *others = asked(plain, ask)

    assert kept == "0123-abcd-XYZ_"
    assert all(len(each) == 16 and each.isalnum() for each in others)


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/nothing", (404, "not_found")),
        ("GET", "/../manifest.json", (404, "not_found")),
        ("GET", "/page.css/", (404, "not_found")),
        ("GET", "/static/page.css", (404, "not_found")),
        ("GET", "/predict", (405, "wrong_method")),
        ("POST", "/model", (405, "wrong_method")),
        ("DELETE", "/predict", (405, "wrong_method")),
        ("BREW", "/", (405, "wrong_method")),
    ],
)
def test_routes__what_there_is_not(plain: Path, method: str, path: str, wanted: tuple[int, str]) -> None:
    found = once(plain, method, path)

    assert error(found) == wanted
    assert found.headers.get("allow") == {"/predict": "POST", "/model": "GET, HEAD", "/": "GET, HEAD"}.get(path)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((good, 200) for good in ("127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000")),
        *((bad, 421) for bad in ("evil.example", "127.0.0.1.evil.example", "", "localhost@evil", "[::2]")),
    ],
)
def test_host__only_known_names(plain: Path, host: str, status: int) -> None:
    assert once(plain, "GET", "/model", headers={"host": host}).status_code == status


def test_host__any_where_none_is_named(plain: Path) -> None:
    assert once(plain, "GET", "/model", Limits(hosts=()), headers={"host": "evil.example"}).status_code == 200


@pytest.mark.parametrize("path", [*PATHS, "/predict", "/explain", "/nothing"])
def test_token__needed_but_for_the_page_and_health(plain: Path, path: str) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        given = (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"bearer {TOKEN}")
        return [await client.get(path, headers={} if each is None else {"authorization": each}) for each in given]

    *without, good = asked(plain, ask, Limits(token=TOKEN))
    let_in = {"/predict": 405, "/explain": 405, "/nothing": 404}.get(path, 200)

    assert good.status_code == let_in
    assert {each.status_code for each in without} == {let_in if path in OPEN_PATHS else 401}
    assert path in OPEN_PATHS or {each.headers["www-authenticate"] for each in without} == {"Bearer"}


def test_body__too_large_by_its_length_is_not_read(plain: Path) -> None:
    read = []

    async def parts() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x" * 1001

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/predict", content=parts(), headers={"content-length": "1001"})

    assert error(asked(plain, ask, Limits(max_body=1000))) == (413, "too_large")
    assert read == []


def test_body__too_large_by_count_is_read_no_further(plain: Path) -> None:
    read = []

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            read.append(1)
            yield b"x" * 300

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/predict", content=parts())

    assert error(asked(plain, ask, Limits(max_body=1000))) == (413, "too_large")
    assert len(read) == 4


def test_body__too_slow(plain: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield IMAGE[:9]
        await asyncio.sleep(20)

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/predict", content=parts())

    found = asked(plain, ask, Limits(body_s=0.05))

    assert error(found) == (408, "too_slow")
    assert found.headers["connection"] == "close"


def test_body__all_of_them_together_are_bounded(plain: Path) -> None:
    held = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"x" * 700
        held.set()
        await asyncio.sleep(0.2)

    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        first = asyncio.create_task(client.post("/predict", content=parts()))
        await held.wait()
        second = await client.post("/predict", content=b"x" * 400)
        return await first, second, await client.post("/predict", content=b"x" * 400)

    first, second, third = asked(plain, ask, Limits(buffered=1000))

    assert [error(each) for each in (first, second, third)] == [
        (422, "not_an_image"),
        (503, "busy"),
        (422, "not_an_image"),
    ]


def test_queue__full_is_refused_at_once(plain: Path) -> None:
    model, runtime = slow(plain)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        waiting = [asyncio.create_task(client.post("/predict", content=IMAGE)) for _ in range(3)]
        await asyncio.sleep(0.2)
        refused = await client.post("/predict", content=IMAGE)
        runtime.go.set()
        return [refused, *(await asyncio.gather(*waiting)), await client.post("/predict", content=IMAGE)]

    refused, *others = asked(model, ask, Limits(queue=3))

    assert error(refused) == (503, "busy")
    assert refused.headers["retry-after"] == "1"
    assert [each.status_code for each in others] == [200] * 4


def test_deadline__passed_is_told_and_not_computed(plain: Path) -> None:
    model, runtime = slow(plain)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        late = await asyncio.gather(*(client.post("/predict", content=IMAGE) for _ in range(6)))
        runtime.go.set()
        return [*late, await client.post("/predict", content=IMAGE)]

    *late, good = asked(model, ask, Limits(deadline_s=0.3))

    assert {error(each) for each in late} == {(504, "late")}
    assert good.status_code == 200
    assert runtime.computed <= 5  # at most one batch of four was on its way when the deadline passed


def test_client__that_left_is_not_computed_for(plain: Path) -> None:
    model, runtime = slow(plain)
    log: list[str] = []

    async def ask(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/predict", content=IMAGE))
        await asyncio.sleep(0.1)  # the engine is held by it
        sent: list[Any] = []
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": IMAGE}, {"type": "http.disconnect"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": b"",
            "http_version": "1.1",
            "headers": [(b"host", b"localhost")],
        }
        await app(scope, receive, send)
        assert sent == []
        runtime.go.set()
        await first

    app = make_app(model, log=log.append, threads=1)
    through(app, ask)

    assert runtime.computed == 1
    assert [json.loads(line)["status"] for line in log] == [499, 200]


def test_drain__no_new_work_and_what_came_is_answered(plain: Path) -> None:
    model, runtime = slow(plain)
    app = make_app(model, threads=1)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = asyncio.create_task(client.post("/predict", content=IMAGE))
        await asyncio.sleep(0.1)
        app.drain()
        refused = [await client.get("/readyz"), await client.post("/predict", content=IMAGE)]
        runtime.go.set()
        return [*refused, await client.get("/healthz"), await first]

    ready, predict, *others = through(app, ask)

    assert error(ready) == error(predict) == (503, "stopping")
    assert [each.status_code for each in others] == [200, 200]


def test_fault__nothing_of_it_is_told(plain: Path) -> None:
    class Broken(Slow):
        def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
            raise RuntimeError("/secret/path 0xdeadbeef")

    loaded = load_bundle(plain, threads=1)
    log: list[str] = []

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/predict", content=IMAGE)

    found = asked(replace(loaded, runtime=Broken(loaded.runtime)), ask, log=log)

    assert found.json()["error"] == {"code": "internal", "message": CODES["internal"][1]}
    fault, request = map(json.loads, log)
    assert "RuntimeError: /secret/path" in fault["traceback"]
    assert fault["id"] == request["id"] == found.headers["x-request-id"]


def test_log__a_line_a_request_without_names_or_content(plain: Path) -> None:
    log: list[str] = []

    async def ask(client: httpx.AsyncClient) -> None:
        await client.post("/predict?secret=1", files={"image": ("secret.jpg", IMAGE)})
        await client.get("/secret")
        await client.post("/predict", content=b"secret")

    asked(plain, ask, log=log)
    lines = [json.loads(line) for line in log]

    assert all(line.endswith("\n") and "secret" not in line for line in log)
    assert [(line["method"], line["route"], line["status"], line.get("code")) for line in lines] == [
        ("POST", "/predict", 200, None),
        ("GET", "other", 404, "not_found"),
        ("POST", "/predict", 422, "not_an_image"),
    ]
    assert set(lines[0]) == {
        *("time", "id", "method", "route", "status", "bytes_in", "bytes_out", "ms", "queue_ms", "images")
    }
    assert lines[2]["bytes_in"] == len(b"secret")


def test_metrics__count_what_happened(plain: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> str:
        for content in (IMAGE, IMAGE, b"text"):
            await client.post("/predict", content=content)
        await client.get("/what/a/client/typed")
        return (await client.get("/metrics")).text

    values = dict(line.rsplit(" ", 1) for line in asked(plain, ask).splitlines() if not line.startswith("#"))

    assert values['headway_requests_total{route="/predict",status="200",worker="1"}'] == "2.0"
    assert values['headway_requests_total{route="other",status="404",worker="1"}'] == "1.0"
    assert values['headway_refused_total{code="not_an_image",worker="1"}'] == "1.0"
    assert values['headway_images_total{outcome="ok",worker="1"}'] == "2.0"
    assert values['headway_waiting_images{worker="1"}'] == "0.0"
    for name in ("decode_seconds", "queue_seconds", "engine_seconds", "batch_images"):
        assert values[f'headway_{name}_count{{worker="1"}}'] == "2.0"


def test_model__tells_what_may_be_asked(bundle: Path, plain: Path) -> None:
    found, bare = (once(each, "GET", "/model", Limits(max_pixels=77)).json() for each in (bundle, plain))

    assert found["classes"] == ["cat", "dog", "owl"]
    assert found["limits"] == {
        "max_body": 20_000_000,
        "max_pixels": 77,
        "max_images": 64,
        "types": ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF"],
    }
    assert found["promises"] == {
        "coverage": {"most": 120 / 121, "default": 0.95},
        "unknown": {"least": 1 / 121, "default": 0.01},
    }
    assert bare["promises"] == {"coverage": None, "unknown": None}
    assert (bare["input"], bare["backbone"], bare["accuracy"]) == (16, "toy", None)


def test_openapi__has_every_route_and_every_code(plain: Path) -> None:
    told = once(plain, "GET", "/openapi.json", Limits(token=TOKEN), headers={"authorization": f"Bearer {TOKEN}"}).json()
    codes = {
        code
        for response in told["components"]["responses"].values()
        for code in response["content"]["application/json"]["schema"]["properties"]["error"]["properties"]["code"][
            "enum"
        ]
    }

    assert told == json.loads(json.dumps(document(Limits(token=TOKEN))))
    assert set(told["paths"]) == {*PATHS, "/predict", "/explain"}
    assert codes == set(CODES)
    used = {status for path in told["paths"].values() for each in path.values() for status in each["responses"]}
    assert used == {"200", *(str(status) for status, _ in CODES.values())}
