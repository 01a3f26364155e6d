"""The page of a served bundle, used as people use it: in a real browser, against the real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headway.deployment.bundle import Bundle, load_bundle
from headway.exports import write_bundle
from tests import make
from tests.axe import violations
from tests.browser import visited
from tests.deployment import toys
from tests.serving.pages import serving
from tests.test_explaining import mapless

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

pytestmark = pytest.mark.slow
HOSTILE = ("<img src=x onerror=alert(1)>", '"></script><script>alert(1)</script>', "\u202egpj." + "x" * 200)
UNKNOWN = "Not like anything it was trained on"
NOT_ANSWERED = ("Failed to load resource",)


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    with serving(bundle) as (_, found):
        yield found


def photo(name: str = "photo.png", seed: int = 0) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": make.png(seed % 3, seed)}


def text() -> FilePayload:
    return {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"milk, bread, two cats"}


def percent(share: float) -> str:
    if share >= 0.995:
        return "100 %" if share == 1 else "over 99 %"
    return "under 1 %" if share < 0.005 else f"{share * 100:.0f} %"


def told(bundle: Path | Bundle, content: bytes) -> str:
    """The headline that the page must have for an image, from the bundle without any server."""
    model = load_bundle(bundle, threads=1) if isinstance(bundle, Path) else bundle
    carries = model.confidence.unknown is not None
    answer = model.predict(content, unknown=0.01) if carries else model.predict(content)
    assert answer.probability is not None
    if answer.strangeness is not None and answer.strangeness.flag:
        return UNKNOWN
    return f"{answer.label}, {percent(answer.probability)}"


def headlines(page: Page) -> list[str]:
    page.locator("body:not(.busy) #answers h2").first.wait_for()
    return page.locator("#answers h2").all_inner_texts()


def choose(page: Page, *files: FilePayload) -> list[str]:
    """Pick files in the field; the headlines of their answers."""
    page.locator("#limits", has_text="at a time").wait_for()
    page.set_input_files("#images", list(files))
    return headlines(page)


def transfer(page: Page, kind: str, files: Sequence[FilePayload]) -> None:
    """Let an event that carries files happen on the page, as `kind` (drop, paste)."""
    page.locator("#limits", has_text="at a time").wait_for()
    parts = [[item["name"], item["mimeType"], base64.b64encode(item["buffer"]).decode()] for item in files]
    page.evaluate(
        """([kind, parts]) => {
            const carried = new DataTransfer();
            for (const [name, type, text] of parts)
                carried.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type }));
            if (parts.length === 0) carried.setData("text/plain", "words");
            const how = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(kind === "paste"
                ? new ClipboardEvent("paste", { ...how, clipboardData: carried })
                : new DragEvent(kind, { ...how, dataTransfer: carried }));
        }""",
        [kind, parts],
    )


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_page__drop_or_paste_an_image_and_see_its_label(
    browser: Browser, bundle: Path, address: str, kind: str
) -> None:
    with visited(browser, address) as (page, _):
        transfer(page, kind, [photo()])
        assert headlines(page) == [told(bundle, photo()["buffer"])]
        assert page.locator("#answers img").evaluate("image => image.naturalWidth") == 64
        transfer(page, kind, [])
        assert "image" in page.get_by_role("alert").filter(has_text="What was").inner_text()


def test_page__pick_by_keyboard_and_read_the_whole_answer(browser: Browser, bundle: Path, address: str) -> None:
    model, file = load_bundle(bundle, threads=1), photo(seed=4)
    answer = model.predict(file["buffer"], coverage=0.95)
    assert answer.labels is not None
    with visited(browser, address) as (page, _):
        page.locator("#limits", has_text="at a time").wait_for()
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
        chooser.value.set_files(file)
        assert headlines(page) == [told(model, file["buffer"])] != [UNKNOWN]
        rows = page.locator(".bars li").all_inner_texts()
        assert [row.split("\n") for row in rows] == [[label, percent(share)] for label, share in answer.top]
        *most, last = answer.labels
        words = f"{', '.join(most)} or {last}" if most else last
        assert page.locator(".set").inner_text() == f"With 95 % coverage: {words}"
        assert page.get_by_role("status").inner_text() == f"photo.png: {told(model, file['buffer'])}"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Use the camera"


def test_page__an_unknown_image_is_told_first_and_promised_nothing(
    browser: Browser, bundle: Path, address: str
) -> None:
    answer = load_bundle(bundle, threads=1).predict(photo()["buffer"])
    assert answer.probability is not None
    with visited(browser, address) as (page, _):
        assert choose(page, photo()) == [UNKNOWN]
        said = f"If it had to choose: {answer.label}, {percent(answer.probability)}"
        assert page.locator(".best").inner_text() == said
        assert page.locator(".set").count() == 0


def test_page__says_what_the_model_is_and_what_may_be_sent(browser: Browser, address: str) -> None:
    with visited(browser, address) as (page, _):
        page.locator("#limits", has_text="at a time").wait_for()
        assert page.get_by_role("heading").inner_text() == "cat, dog or owl?"
        assert page.locator("#about").inner_text() == "toy, not measured on test images"
        assert page.locator("#limits").inner_text() == (
            "JPEG, PNG, WebP, GIF, BMP or TIFF, up to 20 MB and 200 megapixels each, 64 at a time"
        )


def test_page__shows_what_speaks_for_an_answer_and_the_image_again(
    browser: Browser, bundle: Path, address: str
) -> None:
    answer = load_bundle(bundle, threads=1).predict(photo()["buffer"])
    with visited(browser, address) as (page, heard):
        choose(page, photo(), photo("b.png", 1))
        button = page.get_by_role("button", name="Show why: photo.png")
        picture = page.locator("#answers li:first-child img")
        plain = picture.get_attribute("src")
        button.focus()
        page.keyboard.press("Enter")
        page.locator("#answers li:first-child .reason:not(:empty)").wait_for()
        words = f"Bright: what speaks for {answer.label}, by CAM. The picture is what the network sees of the image."
        assert page.locator(".reason").first.inner_text() == words
        assert picture.get_attribute("alt") == f"Heat over the parts that speak for {answer.label}"
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
        assert button.get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.activeElement.ariaPressed") == "true"
        page.keyboard.press("Enter")
        assert picture.get_attribute("src") == plain
        assert page.locator(".reason").first.inner_text() == ""
        page.keyboard.press("Enter")
        assert page.locator(".reason").first.inner_text() == words
        assert heard.asked.count("explain") == 1
        assert page.locator(".reason").nth(1).inner_text() == ""


def test_page__an_explanation_that_does_not_come_is_told(browser: Browser, address: str) -> None:
    body = json.dumps({"error": {"code": "busy", "message": "m"}, "request": "r"})
    with visited(browser, address, expected=NOT_ANSWERED) as (page, _):
        choose(page, photo())
        page.route("**/explain", lambda route: route.fulfill(status=503, body=body))
        button = page.get_by_role("button", name="Show why: photo.png")
        button.click()
        page.get_by_text("The server is busy.").wait_for()
        page.unroute("**/explain")
        button.click()
        page.get_by_text("Bright: what speaks for").wait_for()
        assert button.get_attribute("aria-pressed") == "true"


def test_page__no_switch_where_a_model_cannot_be_explained(browser: Browser, tmp_path: Path) -> None:
    with serving(mapless(tmp_path)) as (_, address), visited(browser, address) as (page, _):
        assert len(choose(page, photo())) == 1
        assert page.get_by_role("button", name="Show why").count() == 0


def test_page__several_images_keep_their_answers(browser: Browser, bundle: Path, address: str) -> None:
    files = [photo(f"{seed}.png", seed) for seed in range(9)]
    model = load_bundle(bundle, threads=1)
    wanted = [told(model, item["buffer"]) for item in files]
    with visited(browser, address, expected=NOT_ANSWERED) as (page, _):
        assert choose(page, *files) == wanted
        assert page.locator(".file").all_inner_texts() == [item["name"] for item in files]
        found = choose(page, *files[:2], text())
        assert found == [*wanted[:2], "This is not an image. It must be JPEG, PNG, WebP, GIF, BMP or TIFF."]
        assert page.get_by_role("status").inner_text().startswith("3 images: ")
        assert page.get_by_role("status").inner_text().endswith(", 1 without an answer")


def test_page__takes_no_more_than_the_server_allows_at_a_time(browser: Browser, address: str) -> None:
    with visited(browser, address) as (page, heard):
        choose(page, *[photo(f"{n}.png", n) for n in range(70)])
        page.locator("#status", has_text="64 images: ").wait_for()
        assert page.locator("#notice").inner_text() == "70 files are too many at once. These are the first 64."
        assert heard.asked.count("predict") == 64


def test_page__a_file_too_large_is_never_sent(browser: Browser, address: str) -> None:
    with visited(browser, address) as (page, heard):
        page.locator("#limits", has_text="at a time").wait_for()
        page.evaluate(
            """() => {
                const carried = new DataTransfer();
                carried.items.add(new File([new Uint8Array(50_000_000)], "huge.jpg"));
                document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: carried }));
            }"""
        )
        assert headlines(page) == ["This file has 50 MB; at most 20 MB are taken. It was not sent."]
        assert "predict" not in heard.asked


def test_page__text_and_nothing_are_told_apart(browser: Browser, address: str) -> None:
    with visited(browser, address, expected=NOT_ANSWERED) as (page, heard):
        assert choose(page, text()) == ["This is not an image. It must be JPEG, PNG, WebP, GIF, BMP or TIFF."]
        assert page.get_by_role("button", name="Try again").count() == 0
        assert choose(page, {**text(), "buffer": b""}) == ["This file is empty."]
        damaged: FilePayload = {**photo(), "buffer": make.truncated(photo()["buffer"])}
        assert choose(page, damaged) == ["This image is damaged: it cannot be decoded."]
        assert heard.asked.count("predict") == 2


def test_page__hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    classifier = replace(toys.classifier(tmp_path / "trunk"), classes=HOSTILE)
    write_bundle(classifier, tmp_path / "b", samples=toys.samples(classifier), card={}, threads=1)
    name = "<img src=x onerror=alert(1)>.png"
    with serving(tmp_path / "b") as (_, address), visited(browser, address, width=390) as (page, _):
        shown = [label.replace("\u202e", "") for label in HOSTILE]
        assert choose(page, photo(name))[0].rpartition(", ")[0] in shown
        assert sorted(page.locator(".bars bdi").all_inner_texts()) == sorted(shown)
        assert page.locator(".file").inner_text() == name
        page.locator("summary").click()
        assert page.locator("#classes p").inner_text() == ", ".join(shown)
        assert page.locator("script, img").count() == 2  # page.js and the photo
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page__a_stopped_server_is_told_and_asked_again(browser: Browser, bundle: Path, address: str) -> None:
    with serving(bundle) as (process, found), visited(browser, found, expected=NOT_ANSWERED) as (page, _):
        choose(page, photo())
        process.kill()
        process.wait()
        gone = "The server does not answer. It may have stopped, or the connection is down."
        assert choose(page, photo(), photo("b.png", 1)) == [gone, gone]
        port = int(found.rstrip("/").rpartition(":")[2])
        with serving(bundle, port=port):
            page.get_by_role("button", name="Try again: photo.png").click()
            page.locator("#answers h2:not(.bad)").wait_for()
            assert headlines(page) == [told(bundle, photo()["buffer"]), gone]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, "busy", "The server is busy."),
        (503, "stopping", "The server is stopping."),
        (504, "late", "The server did not get to it in time."),
        (408, "too_slow", "The image took too long to arrive."),
        (502, None, "The server does not answer. It may have stopped, or the connection is down."),
        (500, "internal", "The server could not answer this."),
    ],
)
def test_page__refusals_are_told_and_can_be_tried_again(
    browser: Browser, bundle: Path, address: str, status: int, code: str | None, words: str
) -> None:
    """The server's answer is put in its place here, as a server at its limit cannot be had to order."""
    body = "<html>a proxy" if code is None else json.dumps({"error": {"code": code, "message": "m"}, "request": "r"})
    with visited(browser, address, expected=NOT_ANSWERED) as (page, _):
        page.route("**/predict", lambda route: route.fulfill(status=status, body=body))
        assert choose(page, photo(), photo("b.png", 1)) == [words, words]
        page.unroute("**/predict")
        page.get_by_role("button", name="Try the 2 again that failed").click()
        page.locator("#answers li:nth-child(2) h2:not(.bad)").wait_for()
        model = load_bundle(bundle, threads=1)
        assert headlines(page) == [told(model, photo("", seed)["buffer"]) for seed in (0, 1)]


def test_page__that_opens_while_the_server_is_busy_learns_the_model_later(browser: Browser, address: str) -> None:
    body = json.dumps({"error": {"code": "busy", "message": "m"}, "request": "r"})
    with visited(browser, address, expected=NOT_ANSWERED) as (page, _):
        page.route("**/model", lambda route: route.fulfill(status=503, body=body))
        page.reload()
        page.get_by_role("alert").filter(has_text="The server is busy.").wait_for()
        page.unroute("**/model")
        page.set_input_files("#images", [photo()])
        page.get_by_role("heading", name="cat, dog or owl?").wait_for()
        assert page.locator("#notice").inner_text() == ""


def test_page__asks_for_the_token_that_the_server_wants(browser: Browser, bundle: Path) -> None:
    with (
        serving(bundle, "--token", "a token of many letters") as (_, found),
        visited(browser, found, expected=NOT_ANSWERED) as (page, _),
    ):
        secret = page.get_by_label("This server asks for a token")
        secret.fill("another")
        secret.press("Enter")
        page.get_by_text("The server does not take this token.").wait_for()
        assert page.locator("#form").is_hidden()
        secret.fill("a token of many letters")
        secret.press("Enter")
        assert choose(page, photo()) == [told(bundle, photo()["buffer"])]
        assert secret.is_hidden()
        page.reload()
        assert choose(page, photo()) == [told(bundle, photo()["buffer"])]


def test_page__the_camera_opens_on_a_click_and_is_let_go(browser: Browser, address: str) -> None:
    with visited(browser, address) as (page, _):
        page.locator("#limits", has_text="at a time").wait_for()
        stream = "document.querySelector('video').srcObject"
        assert page.evaluate(f"{stream} === null")
        page.get_by_role("button", name="Use the camera").click()
        page.locator("#take:enabled").wait_for()
        page.evaluate(f"() => {{ window.track = {stream}.getTracks()[0]; }}")
        page.get_by_role("button", name="Take the picture").click()
        assert len(headlines(page)) == 1
        assert page.locator(".file").inner_text() == "camera.png"
        assert page.evaluate(f"[window.track.readyState, {stream}]") == ["ended", None]
        assert page.get_by_role("dialog").count() == 0


def test_page__a_phone_takes_the_picture_with_its_own_camera(browser: Browser, bundle: Path, address: str) -> None:
    with visited(browser, address, width=390, touch=True) as (page, _):
        page.locator("#limits", has_text="at a time").wait_for()
        assert page.get_by_text("or drop or paste them here").is_hidden()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Use the camera").tap()
        chooser.value.set_files(photo())
        assert headlines(page) == [told(bundle, photo()["buffer"])]


def test_page__without_script_a_form_answers_in_json(browser: Browser, bundle: Path, address: str) -> None:
    with visited(browser, address, script=False) as (page, _):
        assert page.locator("noscript p").is_visible()
        assert page.get_by_role("button", name="Use the camera").is_hidden()
        page.set_input_files("#images", [photo()])
        page.get_by_role("button", name="Ask").click()
        found = json.loads(page.locator("body").inner_text())
        answer = load_bundle(bundle, threads=1).predict(photo()["buffer"])
        assert found["predictions"][0]["label"] == answer.label


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (320, True)])
def test_page__is_accessible_and_fits(browser: Browser, address: str, width: int, dark: bool) -> None:
    with visited(browser, address, width=width, dark=dark, expected=NOT_ANSWERED) as (page, _):
        page.locator("#limits", has_text="at a time").wait_for()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(18") == dark
        for files in ([], [photo()], [photo(), text(), photo("a" * 200 + ".png")]):
            if files:
                choose(page, *files)
                page.get_by_role("button", name="Show why").first.click()
                page.locator(".reason:not(:empty)").wait_for()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
