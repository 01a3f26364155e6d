"""`POST /explain`: the same as `headway explain`, for one image, bounded, and opened only where it is asked for."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headway.backbones.preprocess import prepare
from headway.data.images import decode
from headway.deployment.bundle import Bundle, load_bundle
from headway.explanation.opening import open_explainer
from headway.explanation.overlay import enlarged
from headway.explanation.saliency import Explainer, Explanation
from headway.exports import write_bundle
from headway.serving import explaining
from headway.serving.app import make_app
from headway.serving.limits import Limits
from tests import make
from tests.backbones.networks import prepared_once
from tests.deployment import toys
from tests.explanation import networks
from tests.serving.client import asked, once, through
from tests.serving.malformed import CANARY
from tests.test_explaining import mapless

IMAGE = make.jpeg(2, 3)


def error(found: httpx.Response) -> tuple[int, str]:
    return found.status_code, found.json()["error"]["code"]


def pixels_of(bundle: Bundle, content: bytes) -> NDArray[np.uint8]:
    return prepare(decode(content, "image", shortest=bundle.preprocess.draft).image, bundle.preprocess)


@pytest.mark.parametrize("label", [None, "owl"])
def test_explain__tells_what_the_command_would(plain: Path, label: str | None) -> None:
    bundle = load_bundle(plain, threads=1)
    pixels = pixels_of(bundle, IMAGE)
    wanted = bundle.classes.index(label) if label else None
    [own] = open_explainer(bundle, threads=1).explain(pixels[None], [wanted])
    answer = bundle.predict(IMAGE, top=3)

    found = once(plain, "POST", "/explain", params={"class": label} if label else {}, content=IMAGE).json()

    told = found["explanation"]
    shown = label or answer.label
    assert found["model"] == {"name": plain.parent.name, "version": bundle.digest[:16]}
    assert (told["label"], told["class"]) == (answer.label, shown)
    assert told["probability"] == pytest.approx(dict(answer.top)[str(shown)], abs=1e-6)
    assert (told["method"], told["tap"], told["digest"]) == ("grad-cam", "last", answer.digest)
    assert told["grid"] == own.values.tolist()
    with Image.open(io.BytesIO(base64.b64decode(told["overlay"]))) as overlay:
        assert overlay.format == "PNG"
        assert np.array_equal(np.asarray(overlay), np.asarray(enlarged(pixels, own.heat(len(pixels)))[1]))


def test_explain__takes_the_three_forms_with_their_class(plain: Path) -> None:
    encoded = base64.b64encode(IMAGE).decode()

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post("/explain", params={"class": "owl"}, content=IMAGE),
            await client.post("/explain", files={"image": ("x.jpg", IMAGE)}, data={"class": "owl"}),
            await client.post("/explain", json={"images": [encoded], "class": "owl"}),
        ]

    first, *others = [found.json()["explanation"] for found in asked(plain, ask)]
    assert first["class"] == "owl"
    assert others == [first, first]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"content": b"no image"}, (422, "not_an_image")),
        ({"content": b""}, (422, "not_an_image")),
        ({"content": make.truncated(make.png())}, (422, "damaged_image")),
        ({"content": IMAGE, "params": {"class": "ow"}}, (400, "no_class")),
        ({"content": IMAGE, "params": {"class": CANARY.decode()}}, (400, "no_class")),
        ({"content": IMAGE, "params": {"class": "x" * 5000}}, (400, "bad_request")),
        ({"json": {"images": [], "class": "owl"}}, (400, "bad_request")),
        ({"json": {"images": ["/9j/"], "class": 3}}, (400, "bad_request")),
        ({"json": {"images": ["/9j/"], "top": 3}}, (400, "bad_request")),
        ({"json": {"images": ["/9j/", "/9j/"]}}, (413, "too_many_images")),
        ({"files": [("image", ("a", IMAGE)), ("image", ("b", IMAGE))]}, (413, "too_many_images")),
    ],
)
def test_explain__refuses_as_predictions_are_refused(plain: Path, how: dict[str, Any], wanted: tuple[int, str]) -> None:
    found = once(plain, "POST", "/explain", **how)

    assert error(found) == wanted
    assert CANARY not in found.content


def test_explain__pixels_are_limited(plain: Path) -> None:
    found = once(plain, "POST", "/explain", Limits(max_pixels=10), content=IMAGE)

    assert error(found) == (422, "too_many_pixels")


def test_explain__what_cannot_be_explained_is_said(tmp_path: Path) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        posted = [await client.post(path, content=make.png()) for path in ("/explain", "/predict")]
        return [*posted, await client.get("/model")]

    explained, predicted, model = asked(mapless(tmp_path), ask)

    assert error(explained) == (404, "not_explained")
    assert predicted.status_code == 200
    assert model.json()["explains"] is None


def test_explain__what_takes_long_is_left_out(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "is_quick", lambda explainer: False)

    assert once(plain, "GET", "/model").json()["explains"] is None


@pytest.mark.slow
def test_explain__roll_out_tells_no_classes_apart(shared_networks: Path, tmp_path: Path, one_thread: None) -> None:
    bundle, _ = networks.bundle(prepared_once(shared_networks, "test_vit"), tmp_path)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        explained = [await client.post("/explain", params=how, content=IMAGE) for how in ({}, {"class": "a"})]
        return [*explained, await client.get("/model")]

    found, refused, model = asked(bundle, ask)
    told = found.json()["explanation"]

    assert (told["method"], told["tap"], told["class"]) == ("roll-out", None, None)
    assert told["probability"] == pytest.approx(bundle.predict(IMAGE).probability, abs=1e-6)
    assert error(refused) == (400, "no_class")
    assert model.json()["explains"] == {"method": "roll-out", "tap": None, "by_class": False}


def test_explain__is_opened_once_and_only_where_it_is_asked_for(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Bundle] = []

    def open_counted(bundle: Bundle, *, threads: int) -> Explainer:
        opened.append(bundle)
        return open_explainer(bundle, threads=threads)

    monkeypatch.setattr(explaining, "open_explainer", open_counted)

    async def ask(client: httpx.AsyncClient) -> list[int]:
        counts = []
        for path in ("/predict", "/model", "/explain", "/model", "/explain"):
            content: dict[str, Any] = {"content": IMAGE} if path != "/model" else {}
            assert (await client.request("POST" if content else "GET", path, **content)).status_code == 200
            counts.append(len(opened))
        return counts

    assert asked(plain, ask) == [0, 1, 1, 1, 1]


class Waiting:
    """An explainer that waits until it may go on."""

    method, tap = "cam", "last"

    def __init__(self, explainer: Explainer) -> None:
        self._explainer, self.go, self.explained = explainer, threading.Event(), 0

    def explain(self, images: NDArray[np.uint8], labels: list[int | None]) -> list[Explanation]:
        assert self.go.wait(20)
        self.explained += 1
        return self._explainer.explain(images, labels)


def waiting(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    made = Waiting(open_explainer(load_bundle(bundle, threads=1), threads=1))
    monkeypatch.setattr(explaining, "open_explainer", lambda bundle, threads: made)
    return made


def test_explain__more_than_can_wait_is_refused_and_predictions_go_on(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = waiting(plain, monkeypatch)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        taken = [asyncio.create_task(client.post("/explain", content=IMAGE)) for _ in range(explaining.WAITING)]
        await asyncio.sleep(0.1)
        others = [await client.post("/explain", content=IMAGE), await client.post("/predict", content=IMAGE)]
        held.go.set()
        return [*others, *(await asyncio.gather(*taken)), await client.post("/explain", content=IMAGE)]

    refused, predicted, *answered = asked(plain, ask)

    assert error(refused) == (503, "busy")
    assert refused.headers["retry-after"] == "1"
    assert predicted.status_code == 200
    assert [found.status_code for found in answered] == [200] * (explaining.WAITING + 1)


def test_explain__late_ones_are_told_and_not_computed(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = waiting(plain, monkeypatch)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        late = await asyncio.gather(*(client.post("/explain", content=IMAGE) for _ in range(4)))
        held.go.set()
        return [*late, await client.post("/explain", content=IMAGE)]

    *late, last = asked(plain, ask, Limits(deadline_s=0.5))

    assert [error(found) for found in late] == [(504, "late")] * 4
    assert last.status_code == 200
    assert held.explained == 2  # the one that was begun, and the last


def test_explain__nothing_new_while_the_server_stops(plain: Path) -> None:
    app = make_app(load_bundle(plain, threads=1), threads=1)
    app.drain()

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/explain", content=IMAGE)

    assert error(through(app, ask)) == (503, "stopping")


def test_explain__hostile_classes_are_data(tmp_path: Path) -> None:
    label = '<img src=x onerror="alert(1)">\u202e'
    made = replace(toys.classifier(tmp_path / "trunk"), classes=(label, *toys.CLASSES[1:]))
    write_bundle(made, tmp_path / "bundle", samples=toys.samples(made), card={}, threads=1)

    found = once(tmp_path / "bundle", "POST", "/explain", params={"class": label}, content=IMAGE)

    assert found.json()["explanation"]["class"] == label
