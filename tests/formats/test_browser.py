"""The page that holds its bundle: opened from the disk in a real browser, without a server and without a request."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from headway.backbones.preprocess import Preprocess, prepare
from headway.deployment.bundle import Bundle, load_bundle
from headway.errors import Refused
from headway.formats.browser import PAGE
from headway.formats.format import Request
from headway.formats.ort_web import URL, find_ort_web
from headway.formats.writing import export_bundle
from tests import make
from tests.axe import violations
from tests.browser import visited
from tests.conftest import require
from tests.deployment import toys
from tests.serving.test_page_browser import UNKNOWN, headlines, percent, photo, text, transfer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page


@pytest.fixture(scope="module")
def ort_web() -> Path:
    """The npm package of onnxruntime-web, which HEADWAY_ORT_WEB names; else the test is skipped."""
    path = Path(os.environ.get("HEADWAY_ORT_WEB", ""))
    require("ort-web", path.is_file(), f"HEADWAY_ORT_WEB names no file of {URL}")
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of the toy network that promises coverage 0.95 and a false-alarm rate of 0.01."""
    return load_bundle(toys.confident(tmp_path_factory.mktemp("held"), n_val=120), threads=1)


@pytest.fixture(scope="module")
def exported(bundle: Bundle, ort_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `bundle`."""
    folder = tmp_path_factory.mktemp("page") / "out"
    assert export_bundle(Request(bundle, ort_web), "browser", folder).parity is None
    return folder / PAGE


@contextmanager
def page_of(browser: Browser, path: Path, **how: Any) -> Iterator[Page]:
    """The page, from the disk. Fails where it asked for anything but its own bytes, or complained."""
    with visited(browser, path.as_uri(), **how) as (page, heard):
        page.set_default_timeout(60_000)
        page.locator("#limits", has_text="at a time").wait_for()
        yield page
        assert set(heard.asked) <= {""}


def answer_of(page: Page, name: str, content: bytes) -> dict[str, Any]:
    """What the page's own answer to a file is, as a server would give it."""
    found: dict[str, Any] = page.evaluate(
        "([name, bytes]) => headway.call('predict', { body: new File([new Uint8Array(bytes)], name) })",
        [name, list(content)],
    )
    predictions: list[dict[str, Any]] = found["content"]["predictions"]
    return predictions[0]


@pytest.mark.slow
def test_page__answers_as_the_bundle_does_without_a_server(browser: Browser, exported: Path, bundle: Bundle) -> None:
    with page_of(browser, exported) as page:
        for seed, size in enumerate([(64, 48), (41, 90), (16, 16), (20, 20), (7, 5), (300, 17)]):
            content = make.png(seed % 3, seed, size)
            found = answer_of(page, "x.png", content)
            wanted = bundle.predict(content, coverage=0.95, unknown=0.01)
            assert wanted.strangeness is not None
            assert [row["label"] for row in found["top"]] == [label for label, _ in wanted.top]
            shares = [share for _, share in wanted.top]
            assert [row["probability"] for row in found["top"]] == pytest.approx(shares, abs=1e-3)
            assert tuple(found["set"]) == wanted.labels
            assert found["unknown"]["flag"] == wanted.strangeness.flag
            assert found["unknown"]["rate"] == pytest.approx(wanted.strangeness.rate, abs=0.02)


@pytest.mark.slow
def test_page__comes_near_to_a_large_jpeg(browser: Browser, exported: Path, bundle: Bundle) -> None:
    """headway decodes it at a quarter, inside the decoder; the page takes the mean of 4 by 4 pixels."""
    content = make.jpeg(1, 3, (90, 80))
    with page_of(browser, exported) as page:
        found = answer_of(page, "x.jpg", content)
    wanted = dict(bundle.predict(content).top)
    assert {row["label"]: row["probability"] for row in found["top"]} == pytest.approx(wanted, abs=0.02)


@pytest.mark.slow
def test_page__drop_paste_and_pick_end_in_the_answer_that_python_gives(
    browser: Browser, exported: Path, bundle: Bundle
) -> None:
    with page_of(browser, exported) as page:
        assert page.get_by_role("heading").inner_text() == "cat, dog or owl?"
        assert page.get_by_text("It runs in this page: your images stay on this device.").is_visible()
        transfer(page, "drop", [photo(seed=4)])
        assert headlines(page) == [headline(bundle, photo(seed=4)["buffer"])] != [UNKNOWN]
        transfer(page, "paste", [photo(), text()])
        refused = "This is not an image. It must be JPEG, PNG, WebP, GIF or BMP."
        assert headlines(page) == [headline(bundle, photo()["buffer"]), refused]
        damaged: FilePayload = {**photo(), "buffer": make.truncated(photo()["buffer"])}
        page.set_input_files("#images", [damaged])
        assert headlines(page) == ["This image is damaged: it cannot be decoded."]


def headline(bundle: Bundle, content: bytes) -> str:
    answer = bundle.predict(content, unknown=0.01)
    assert answer.strangeness is not None
    assert answer.probability is not None
    return UNKNOWN if answer.strangeness.flag else f"{answer.label}, {percent(answer.probability)}"


@pytest.mark.slow
def test_page__tells_where_the_browser_computes_other_numbers(browser: Browser, ort_web: Path, tmp_path: Path) -> None:
    """Other golden logits than the model's, written into the page, stand for a browser that computes otherwise."""
    bundle = load_bundle(toys.bundle(tmp_path), threads=1)
    logits = np.load(bundle.path / "probe" / "logits.npy")
    np.save(bundle.path / "probe" / "logits.npy", logits + np.array([3, 0, 0], np.float32))
    export_bundle(Request(bundle, ort_web), "browser", tmp_path / "out")
    with page_of(browser, tmp_path / "out" / PAGE) as page:
        page.set_input_files("#images", [photo()])
        (said,) = headlines(page)
        assert said.startswith("The model does not run in this browser: golden images differ by ")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_page__is_accessible_and_fits(browser: Browser, exported: Path, width: int, dark: bool) -> None:
    with page_of(browser, exported, width=width, dark=dark) as page:
        page.set_input_files("#images", [photo()])
        headlines(page)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


RULES = [
    *(("crop", 24, 32, name) for name in ("bilinear", "bicubic", "lanczos", "nearest")),
    *(("squash", 24, None, "bicubic"), ("pad", 24, None, "bilinear"), ("crop", 24, None, "bicubic")),
]


@pytest.mark.slow
def test_pillow_js__gives_the_bytes_that_pillow_gives(browser: Browser) -> None:
    """Of every rule and shape, downwards and upwards. Noise, so that each weight shows."""
    script = (resources("headway.formats") / "static" / "pillow.js").read_text()
    page = browser.new_page()
    page.add_script_tag(content=f"{script}; globalThis.prepared = resampling.prepare")
    rng = np.random.default_rng(0)
    for fit, size, resize, interpolation in RULES:
        for version in (1, 2):
            rules = Preprocess(size, resize, fit, interpolation, (0.5, 0.4, 0.3), (1, 1, 1), version)  # type: ignore[arg-type]
            for width, height in ((97, 61), (24, 24), (9, 50), (32, 40), (250, 33)):
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                wanted = prepare(Image.fromarray(pixels), rules)
                found = in_javascript(page, pixels, rules)
                np.testing.assert_array_equal(found, wanted, err_msg=f"{rules} {width} {height}")
    page.close()


def in_javascript(page: Page, pixels: np.ndarray[Any, Any], rules: Preprocess) -> np.ndarray[Any, Any]:
    height, width = pixels.shape[:2]
    rgba: Sequence[int] = np.dstack([pixels, np.full((height, width), 255, np.uint8)]).ravel().tolist()
    found: list[int] = page.evaluate(
        "([width, height, bytes, rules]) => Array.from(prepared("
        "{ width, height, data: Uint8ClampedArray.from(bytes) }, rules))",
        [width, height, rgba, rules.to_json()],
    )
    return np.array(found, np.uint8).reshape(rules.size, rules.size, 3)


def test_ort_web__another_file_is_refused(tmp_path: Path) -> None:
    other = make.write(tmp_path / "ort.tgz", b"other")
    with pytest.raises(Refused) as refused:
        find_ort_web(other)
    assert str(refused.value) == (
        f"{other} is not onnxruntime-web 1.30.0 as headway knows it (its sha512 is another). Expected the file at {URL}"
    )
    with pytest.raises(Refused, match=r"cannot be read: No such file or directory\.$"):
        find_ort_web(tmp_path / "none.tgz")


def test_ort_web__without_a_network_says_how_to_bring_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from headway.formats import ort_web

    nowhere = "http://127.0.0.1:1/onnxruntime-web.tgz"
    monkeypatch.setattr(ort_web, "URL", nowhere)
    with pytest.raises(Refused) as refused:
        find_ort_web(None)
    assert str(refused.value) == (
        "the page needs onnxruntime-web 1.30.0, and it could not be fetched ([Errno 111] Connection refused). "
        f"Fetch {nowhere} where there is a network, then: --ort-web FILE.tgz"
    )
