"""POST /predict: what is answered, in every form in which it can be asked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from headway.deployment.bundle import load_bundle
from headway.serving.limits import Limits
from headway.serving.refusals import CODES
from tests import make
from tests.serving.client import asked, once

IMAGE = make.jpeg(1, 7)


def expected(bundle: Path, content: bytes, coverage: float | None, unknown: float | None, top: int = 5) -> Any:
    """What the command line would say of the image, but for its name."""
    told = load_bundle(bundle, threads=1).predict(content, top, coverage=coverage, unknown=unknown).to_json()
    return {key: value for key, value in told.items() if key != "name"}


def test_predict__is_what_the_bundle_predicts(bundle: Path) -> None:
    found = once(bundle, "POST", "/predict", content=IMAGE)

    assert found.status_code == 200
    assert found.json()["predictions"] == [expected(bundle, IMAGE, 0.95, 0.01)]
    assert found.json()["predictions"][0]["digest"] == hashlib.sha256(IMAGE).hexdigest()
    assert found.json()["model"] == {"name": "b", "version": load_bundle(bundle, 1).digest[:16]}
    assert found.json()["request"] == found.headers["x-request-id"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "nonsense", None])
def test_predict__a_body_is_an_image_whatever_its_type_says(plain: Path, kind: str | None) -> None:
    found = once(plain, "POST", "/predict", content=IMAGE, headers={} if kind is None else {"content-type": kind})

    assert found.json()["predictions"] == [expected(plain, IMAGE, None, None)]


def test_predict__levels_and_top_in_every_form(bundle: Path) -> None:
    wanted = {"coverage": 0.9, "unknown": 0.1, "top": 2}
    text = {name: str(value) for name, value in wanted.items()}

    async def ask(client: httpx.AsyncClient) -> list[Any]:
        encoded = base64.b64encode(IMAGE).decode()
        return [
            await client.post("/predict", content=IMAGE, params=text),
            await client.post("/predict", files={"image": ("ä\n.jpg", IMAGE)}, data=text),
            await client.post("/predict", files={"other": ("x", IMAGE)}, params=text),
            await client.post("/predict", json={"images": [encoded], **wanted}),
            await client.post("/predict", json={"images": [encoded]}, params=text),
        ]

    answers = [found.json()["predictions"] for found in asked(bundle, ask)]

    assert answers == [[expected(bundle, IMAGE, 0.9, 0.1, 2)]] * 5


def test_predict__alone_and_beside_others_the_same_bytes(bundle: Path) -> None:
    images = [make.jpeg(kind, seed, (40 + seed, 60)) for kind in range(3) for seed in range(8)]

    async def ask(client: httpx.AsyncClient) -> tuple[list[Any], list[Any], Any]:
        alone = [(await client.post("/predict", content=image)).json()["predictions"][0] for image in images]
        beside = await asyncio.gather(*(client.post("/predict", content=image) for image in images))
        encoded = [base64.b64encode(image).decode() for image in images]
        batch = await client.post("/predict", json={"images": encoded})
        return alone, [found.json()["predictions"][0] for found in beside], batch.json()["predictions"]

    alone, beside, batch = asked(bundle, ask)

    assert json.dumps(alone) == json.dumps(beside) == json.dumps(batch)
    assert [each["digest"] for each in batch] == [hashlib.sha256(image).hexdigest() for image in images]


def test_predict__one_bad_image_among_good_ones(plain: Path) -> None:
    text = b"just text"
    cut = IMAGE[: len(IMAGE) // 2]
    encoded = [base64.b64encode(content).decode() for content in (text, IMAGE, cut)]
    found = once(plain, "POST", "/predict", json={"images": encoded})

    assert found.status_code == 200
    assert found.json()["predictions"] == [
        {"error": {"code": "not_an_image"}, "digest": hashlib.sha256(text).hexdigest()},
        expected(plain, IMAGE, None, None),
        {"error": {"code": "damaged_image"}, "digest": hashlib.sha256(cut).hexdigest()},
    ]


JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
ENCODED = base64.b64encode(IMAGE).decode()


@pytest.mark.parametrize(
    ("code", "query", "headers", "body"),
    [
        ("not_an_image", "", {}, b""),
        ("not_an_image", "", {}, b"<html>http://example.org/cat.jpg</html>"),
        ("not_an_image", "", {}, b"http://127.0.0.1/cat.jpg"),
        ("damaged_image", "", {}, IMAGE[:200]),
        ("too_many_pixels", "", {}, make.png(0, 0, (101, 101))),
        ("not_promised", "?coverage=0.999", {}, IMAGE),
        ("not_promised", "?unknown=0.001", {}, IMAGE),
        ("bad_request", "?coverage=nan", {}, IMAGE),
        ("bad_request", "?coverage=", {}, IMAGE),
        ("bad_request", "?unknown=1", {}, IMAGE),
        ("bad_request", "?top=0", {}, IMAGE),
        ("bad_request", "?top=1.5", {}, IMAGE),
        ("bad_request", "?top=%ff", {}, IMAGE),
        ("bad_request", "?top=" + "9" * 5000, {}, IMAGE),
        ("bad_request", "", JSON, b"{"),
        ("bad_request", "", JSON, b"[" * 100_000),
        ("bad_request", "", JSON, b"[]"),
        ("bad_request", "", JSON, b'{"images": []}'),
        ("bad_request", "", JSON, b'{"images": "x"}'),
        ("bad_request", "", JSON, b'{"images": [1]}'),
        ("bad_request", "", JSON, b'{"images": ["%%%"]}'),
        ("bad_request", "", JSON, b'{"images": ["\xc3\xa4"]}'),
        ("bad_request", "", JSON, json.dumps({"images": [ENCODED], "top": True}).encode()),
        ("bad_request", "", JSON, json.dumps({"images": [ENCODED], "coverage": "0.9"}).encode()),
        ("bad_request", "", JSON, json.dumps({"images": [ENCODED], "url": "http://127.0.0.1"}).encode()),
        ("too_many_images", "", JSON, json.dumps({"images": [ENCODED] * 4}).encode()),
        ("bad_request", "", {"content-type": "multipart/form-data"}, b"x"),
        ("bad_request", "", FORM, b""),
        ("bad_request", "", FORM, b"--b\r\n\r\n--b--"),
        ("bad_request", "", FORM, b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\nhalf'),
        ("bad_request", "", FORM, b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--b--\r\n'),
        (
            "too_many_images",
            "",
            FORM,
            b'--b\r\nContent-Disposition: form-data; filename="x"\r\n\r\nx\r\n' * 4 + b"--b--",
        ),
    ],
)
def test_predict__refusals(bundle: Path, code: str, query: str, headers: dict[str, str], body: bytes) -> None:
    limits = Limits(max_images=3, max_pixels=10_000)
    found = once(bundle, "POST", f"/predict{query}", limits, headers=headers, content=body)

    assert found.status_code == CODES[code][0]
    assert found.json() == {
        "error": {"code": code, "message": CODES[code][1]},
        "request": found.headers["x-request-id"],
    }


def test_predict__large_images_are_decoded_one_after_the_other(plain: Path) -> None:
    content = make.encode(Image.new("1", (4100, 4100)))

    async def ask(client: httpx.AsyncClient) -> tuple[list[str], list[str]]:
        small = await client.post("/predict", content=IMAGE)
        before = [thread.name for thread in threading.enumerate()]
        large = await client.post("/predict", content=content)
        assert small.status_code == large.status_code == 200
        return before, [thread.name for thread in threading.enumerate()]

    before, after = asked(plain, ask)

    assert "headway-large_0" not in before
    assert "headway-large_0" in after


def test_predict__a_bundle_that_promises_nothing(plain: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> list[str]:
        found = [await client.post(f"/predict?{level}", content=IMAGE) for level in ("coverage=0.5", "unknown=0.5")]
        return [each.json()["error"]["code"] for each in found]

    assert asked(plain, ask) == ["not_promised", "not_promised"]
