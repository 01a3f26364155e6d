"""The app over a folder of runs: what it answers, and that no request opens anything else or writes."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.serving.limits import Limits
from headway.viewer.app import App, View
from headway.viewer.comparison import MOST_RUNS
from headway.viewer.pages import COLUMNS, style
from tests.reporting.twin import PAYLOADS, skeleton, twin, visible
from tests.toy import tree_digest
from tests.viewer.asking import Said, ask
from tests.viewer.shelves import copied


class _Table(HTMLParser):
    """The names of the runs in order, what is ticked, the links of the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        if tag == "table":
            self.within = own.get("id") or ""
        if tag == "input" and own.get("type") == "checkbox":
            self.ids.append(own["value"] or "")
        if tag == "bdi" and self.within == "runs" and self.names and self.names[-1] == "":
            self.names[-1] = own.get("title") or ""
        if tag == "th" and own.get("scope") == "row" and self.within == "runs":
            self.names.append("")
        if tag == "a":
            self.links.append(own.get("href") or "")


def table(said: Said) -> _Table:
    reader = _Table()
    reader.feed(said.text)
    return reader


@pytest.fixture(scope="module")
def app(shelf: Path) -> App:
    return App(shelf, "runs/", Limits())


@pytest.fixture(scope="module")
def view(shelf: Path) -> View:
    return View(shelf, "runs/")


def test_table__the_newest_first_then_as_asked(app: App, shelf: Path) -> None:
    accuracy = {
        name: json.loads((shelf / name / "evaluation.json").read_text())["subsets"]["test"]["accuracy"]
        for name in ("finetune", "others", "photos-compare-1/finetune", "photos-compare-1/probe", "probe", "scratch")
    }

    newest, up, down = (ask(app, "/", query) for query in ("", "sort=test&order=up", "sort=test&order=down"))

    assert newest.status == 200
    assert table(newest).names[0] == "begun"
    assert table(up).names == [*sorted(accuracy, key=lambda name: accuracy[name]), "begun"]
    assert table(down).names == [*sorted(accuracy, key=lambda name: -accuracy[name]), "begun"]
    assert table(newest).ids == sorted(accuracy)


@pytest.mark.parametrize("column", [column.key for column in COLUMNS])
def test_table__sorts_by_every_column_and_says_so(app: App, column: str) -> None:
    up, down = (ask(app, "/", f"sort={column}&order={order}") for order in ("up", "down"))

    assert re.findall(r'data-key="(\w+)" class="[^"]*" aria-sort="(\w+)"', up.text) == [(column, "ascending")]
    assert re.findall(r'data-key="(\w+)" class="[^"]*" aria-sort="(\w+)"', down.text) == [(column, "descending")]
    assert f"/?sort={column}&order=down" in table(up).links
    assert sorted(table(up).names) == sorted(table(down).names)


def test_table__filters_by_what_stands_in_a_row(app: App) -> None:
    by_name, by_data, by_nothing = (ask(app, "/", f"filter={part}") for part in ("SCRATCH", "birds", "%3Cb%3E"))

    assert table(by_name).names == ["scratch"]
    assert table(by_data).names == ["others"]
    assert table(by_nothing).names == []
    assert "1 of 7" in visible(by_name.text)
    assert 'value="&lt;b&gt;"' in by_nothing.text
    assert "/?sort=name&order=up&filter=SCRATCH" in table(by_name).links


@pytest.mark.parametrize("query", ["sort=xyzzy&order=7", "sort=", "a=b&" * 1000, "%ff=%00&filter=%ff", "&&&=;"])
def test_table__a_query_that_means_nothing(app: App, query: str) -> None:
    assert ask(app, "/", query).status == 200


def test_table__tells_what_else_lies_there(app: App) -> None:
    said = visible(ask(app, "/").text)

    for words in ("photos: probe, finetune", "photos, 1,500 images", "nothing of headway in it", "unfinished"):
        assert words in said


def test_table__an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    said = ask(App(tmp_path, "runs/", Limits()), "/")

    assert said.status == 200
    assert "No run of headway lies here. Make one: headway fit photos/" in visible(said.text)


def test_table__a_folder_that_is_gone(tmp_path: Path) -> None:
    said = ask(App(tmp_path / "away", "away/", Limits()), "/")

    assert said.status == 200
    assert "cannot be read" in visible(said.text)


def test_compare__a_page_of_several_runs(app: App) -> None:
    said = ask(app, "/compare", "run=probe&run=finetune&run=scratch")

    assert said.status == 200
    text = visible(said.text)
    assert "2 of 3 pairs show a difference." in text
    assert "no difference shown" in text
    assert "layer_decay" not in text


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "0 runs are ticked."),
        ("run=probe", 400, "1 run is ticked."),
        ("run=probe&run=probe", 400, "1 run is ticked."),
        ("&".join(f"run={n}" for n in range(9)), 400, "9 runs are ticked."),
        ("run=probe&run=nowhere", 404, "not here, not finished, or damaged"),
        ("run=probe&run=begun", 404, "not here, not finished, or damaged"),
        ("run=probe&run=photos-compare-1", 404, "not here, not finished, or damaged"),
        ("run=probe&run=../runs/scratch", 404, "not here, not finished, or damaged"),
    ],
)
def test_compare__what_cannot_be_compared(app: App, query: str, status: int, words: str) -> None:
    said = ask(app, "/compare", query)

    assert said.status == status
    assert words in visible(said.text)


def test_report__as_it_lies_there_in_a_sandbox(app: App, shelf: Path) -> None:
    for name in ("probe", "photos-compare-1", "photos-compare-1/probe"):
        said = ask(app, f"/runs/{name}/report.html")

        assert said.text == (shelf / name / "report.html").read_text()
        assert said.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none';")
    audit = ask(app, "/runs/photos-audit-1/audit.html")
    assert (audit.status, audit.text) == (200, (shelf / "photos-audit-1" / "audit.html").read_text())


@pytest.mark.parametrize("name", ["my run", "caf\udce9", "a%2fb", "~tilde", "x" * 150])
def test_report__of_a_folder_whose_name_is_no_address(shelf: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    copied(shelf / "probe", root / name)
    app = App(root, "runs/", Limits())

    (link,) = (link for link in table(ask(app, "/")).links if link.startswith("/runs/"))

    assert re.fullmatch("/runs/~[0-9a-f]{16}/report.html", link)
    assert ask(app, link).text == (shelf / "probe" / "report.html").read_text()


@pytest.mark.parametrize(
    "path",
    [
        *("/runs/probe/evaluation.json", "/runs/probe/bundle/manifest.json", "/runs/probe/settings.yaml"),
        *("/runs/../probe/report.html", "/runs/./probe/report.html", "/runs//probe/report.html", "/runs/report.html"),
        *("/runs/probe/../scratch/report.html", "/runs/probe/audit.html", "/runs/begun/report.html"),
        *("/runs/%2e%2e/report.html", "/runs/probe/report.html/", "/../etc/passwd", "/runs/~/report.html", "//"),
        *(
            "/runs/probe\x00/report.html",
            "/runs/linked/report.html",
            "/view.css/",
            "/templates/view.css",
            "/etc/passwd",
        ),
        "/runs/" + "a/" * 5000 + "report.html",
    ],
)
def test_app__opens_nothing_but_known_pages_of_known_runs(shelf: Path, tmp_path: Path, path: str) -> None:
    root = copied(shelf, tmp_path / "runs")
    (root / "linked").symlink_to(shelf / "probe")

    said = ask(App(root, "runs/", Limits()), path)

    assert said.status == 404
    assert "Nothing here" in visible(said.text)


@settings(max_examples=60)
@given(
    st.one_of(st.sampled_from(["/", "/compare", "/view.css"]), st.text(max_size=60), st.text().map("/runs/".__add__)),
    st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from(["run=probe", "run=scratch", "run=~", "sort=n", "order=up", "filter=%"]), max_size=5
        ).map(lambda parts: "&".join(parts).encode()),
    ),
)
def test_app__no_request_is_too_odd(view: View, path: str, query: bytes) -> None:
    status = view.answer(path, query)[1].status

    known = path in ("/", "/compare", "/view.css", "/view.js")
    assert status in ((200, 400, 404) if known else (404,))


def test_report__a_link_is_not_followed(shelf: Path, tmp_path: Path) -> None:
    root = copied(shelf, tmp_path / "runs")
    secret = tmp_path / "secret.html"
    secret.write_text("<!DOCTYPE html><html>secret</html>")
    app = App(root, "runs/", Limits())
    (root / "probe" / "report.html").unlink()
    (root / "probe" / "report.html").symlink_to(secret)

    said = ask(app, "/runs/probe/report.html")

    assert said.status == 404
    assert "secret" not in said.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_app__reads_alone(app: App, method: str) -> None:
    said = ask(app, "/", method=method)

    assert (said.status, said.headers["allow"]) == (405, "GET, HEAD")


def test_app__head_is_get_without_a_body(app: App) -> None:
    get, head = (ask(app, "/view.css", method=method) for method in ("GET", "HEAD"))

    assert (head.status, head.text) == (200, "")
    assert head.headers["content-length"] == str(len(get.text.encode()))
    assert head.headers["content-type"] == "text/css; charset=utf-8"


def test_app__another_name_of_the_machine_is_refused(app: App) -> None:
    assert ask(app, "/", host="evil.example").status == 421


def test_app__a_token_is_the_password_that_a_browser_asks_for(shelf: Path) -> None:
    app = App(shelf, "runs/", Limits(token="a-token-of-some-length", hosts=()))
    basic = base64.b64encode(b"anyone:a-token-of-some-length").decode()
    wrong = base64.b64encode(b"anyone:a-token-of-some-lengtH").decode()

    none = ask(app, "/view.css")

    assert none.status == 401
    assert none.headers["www-authenticate"].startswith("Basic realm=")
    assert ask(app, "/", authorization=f"Basic {basic}").status == 200
    assert ask(app, "/", authorization="Bearer a-token-of-some-length").status == 200
    assert [ask(app, "/", authorization=f"Basic {word}").status for word in (wrong, "%%%", "")] == [401, 401, 401]


def test_app__every_answer_has_a_policy(app: App) -> None:
    for path in ("/", "/compare", "/view.js", "/nowhere"):
        said = ask(app, path)

        assert "default-src 'none'" in said.headers["content-security-policy"]
        assert (said.headers["x-content-type-options"], said.headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_app__writes_nothing(shelf: Path, tmp_path: Path) -> None:
    root = copied(shelf, tmp_path / "runs")
    before = tree_digest(root)
    app = App(root, "runs/", Limits())

    said = [ask(app, "/"), ask(app, "/compare", "run=probe&run=scratch"), ask(app, "/runs/probe/report.html")]

    assert [one.status for one in said] == [200, 200, 200]
    assert tree_digest(root) == before


def named(root: Path, run: Path, changes: list[Callable[[str], str]]) -> Path:
    """A folder with one twin of `run` for each change of its words, the last one the newest."""
    root.mkdir()
    for place, change in enumerate(changes):
        name = change(f"run-{place}").replace("/", "-").replace("\x00", "")
        folder = twin(run, root / f"run-{place}", change)
        shutil.copy(run / "predictions.csv", folder)  # or no two of them would have images in common
        value = json.loads((folder / "evaluation.json").read_text())
        value["created"] = f"2026-11-23T12:00:{place:02d}Z"
        (folder / "evaluation.json").write_text(json.dumps(value))
        if len(os.fsencode(name)) < 250:
            folder.rename(root / name)
    return root


@pytest.mark.slow
def test_pages__hostile_names_are_text(tmp_path: Path, shelf: Path) -> None:
    plain = named(tmp_path / "plain", shelf / "finetune", [f"x{place}".__add__ for place in range(len(PAYLOADS))])
    hostile = named(tmp_path / "hostile", shelf / "finetune", [payload.__add__ for payload in PAYLOADS])
    pages: list[list[str]] = []
    for root in (plain, hostile):
        app = App(root, root.name if root == plain else "".join(PAYLOADS), Limits())
        front = ask(app, "/")
        ids = table(front).ids
        assert len(ids) == len(PAYLOADS)
        chunks = [ids[at : at + 3] for at in range(0, len(ids) - 1, 3)]
        compared = [ask(app, "/compare", "&".join(f"run={id}" for id in chunk)) for chunk in chunks]
        assert [said.status for said in compared] == [200] * len(chunks)
        pages.append([front.text, *(said.text for said in compared)])

    for one, other in zip(*pages, strict=True):
        assert skeleton(other) == skeleton(one)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_style__the_colours_of_runs_can_be_read_light_and_dark() -> None:
    papers = re.findall(r"--paper: (#\w{6})", style())[:2]
    colours = re.findall(r"--run\d: (#\w{6})", style())

    assert len(set(colours)) == len(colours) == 2 * MOST_RUNS
    for paper, own in zip(papers, (colours[:MOST_RUNS], colours[MOST_RUNS:]), strict=True):
        for colour in own:
            low, high = sorted((luminance(paper), luminance(colour)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (paper, colour)
