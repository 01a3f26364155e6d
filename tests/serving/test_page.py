"""The files of the page: one look with the report, nothing inline, nothing from elsewhere, no text taken for HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import headway
from headway.serving.app import PAGE

SOURCE = Path(headway.__file__).parent
STATIC = SOURCE / "serving" / "static"
SCRIPTS = sorted(path.name for path in STATIC.glob("*.js"))
TEMPLATES = SOURCE / "reporting" / "templates"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: str | None = None
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.scripts.append(data)


def read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def tags() -> Tags:
    parser = Tags()
    parser.feed(read("index.html"))
    return parser


def test_page__nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = tags()
    assert page.scripts == []
    assert [name for _, attrs in page.found for name in attrs if name.startswith("on") or name == "style"] == []
    addresses = {attrs[name] for _, attrs in page.found for name in ("src", "href", "action") if name in attrs}
    assert addresses == {"data:,", "page.css", "page.js", "predict"}
    for name in ("page.css", *SCRIPTS):
        assert re.findall(r"https?:|//\w+\.\w|url\(|@import", read(name)) == [], name


def test_page__text_is_never_read_as_html() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc"
    assert re.findall(forbidden, "".join(map(read, SCRIPTS))) == []


def test_page__scripts_are_all_served() -> None:
    assert {f"/{name}" for name in SCRIPTS} <= set(PAGE)
    for name in SCRIPTS:
        assert set(re.findall(r'from "\./(.+?)"', read(name))) <= set(SCRIPTS)


def test_page__every_element_that_the_script_asks_for_is_there() -> None:
    ids = {attrs["id"] for _, attrs in tags().found if "id" in attrs}
    assert set(re.findall(r'\bat\("(\w+)"\)', read("page.js"))) - ids == set()


def test_page__every_input_has_a_label() -> None:
    page = tags().found
    labelled = {attrs["for"] for tag, attrs in page if tag == "label"}
    inputs = [attrs for tag, attrs in page if tag == "input"]
    assert len(inputs) == 3
    assert [attrs for attrs in inputs if attrs["id"] not in labelled and "aria-label" not in attrs] == []


def test_page__colours_and_type_are_those_of_the_report() -> None:
    report, page = (TEMPLATES / "report.css").read_text(), read("page.css")
    colours = re.findall(r"--\w+: #\w{6}", report)  # not the white paper of print
    assert len(colours) == 14
    assert [colour for colour in colours if colour not in page] == []
    assert re.findall(r"font: 400 .*", report) == re.findall(r"font: 400 .*", page)
