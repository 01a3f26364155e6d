"""Where the network looked, beside the mistakes of a report."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from headway.reporting.page import draw, write_report
from tests.reporting.fixture import PLANS, build_run, write_thumbnails
from tests.reporting.mapped import mapped_run
from tests.reporting.test_browser import opened
from tests.reporting.test_page import parsed

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def explained(folder: Path, share: float = 1) -> Path:
    """A run in `folder` that explains this share of its mistakes."""
    return with_explanations(build_run(folder, PLANS["four"]), share)


def with_explanations(run: Path, share: float = 1) -> Path:
    """The same run, with explanations of this share of its thumbnails."""
    names = [name.decode() for name in pq.read_table(run / "thumbnails.parquet")["name"].to_pylist()]
    write_thumbnails(run / "explanations.parquet", names[: round(share * len(names))], np.random.default_rng(1))
    return run


def test_mistakes__have_their_explanation(tmp_path: Path) -> None:
    run = explained(tmp_path / "run", share=0.5)
    table = pq.read_table(run / "explanations.parquet").to_pydict()
    wanted = dict(zip(map(bytes.decode, table["name"]), table["jpeg"], strict=True))
    page = parsed(draw(run))
    items = page.findall(".//ol[@class='mistakes']/li")
    heats = [item.find("img[@class='heat']") for item in items]
    assert 0 < sum(heat is not None for heat in heats) == len(wanted) < len(items)
    for item, heat in zip(items, heats, strict=True):
        if heat is not None:
            file = item.find("p[@class='file']/bdi")
            assert file is not None
            name = "".join(file.itertext())
            assert base64.b64decode(heat.get("src", "").split(",")[1]) == wanted[name]
            said = item.find("p[@class='said']/bdi")
            assert said is not None
            assert heat.get("alt") == f"what in {name} counted for {said.get('title')}"
    label = page.find(".//label[@for='looked']")
    assert label is not None
    assert label.text == "Show where it looked"


def test_mistakes__without_explanations_there_is_no_switch(tmp_path: Path) -> None:
    page = parsed(draw(build_run(tmp_path / "run", PLANS["four"])))
    assert page.find(".//input[@id='looked']") is None
    assert page.find(".//img[@class='heat']") is None


@pytest.mark.parametrize("name", ["two", "hundred"])
def test_report__with_every_section_no_id_stands_twice(tmp_path: Path, name: str) -> None:
    page = parsed(draw(with_explanations(mapped_run(tmp_path / "run", PLANS[name]))))
    ids = [element.attrib["id"] for element in page.findall(".//*[@id]")]
    assert page.find(".//*[@id='looked']") is not None
    assert page.find(".//*[@id='feature-map']") is not None
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.slow
@pytest.mark.parametrize(("script", "dark"), [(True, False), (False, True)])
def test_browser__the_switch_shows_where_it_looked(
    browser: Browser,
    tmp_path: Path,
    script: bool,
    dark: bool,
) -> None:
    run = explained(tmp_path / "run", share=0.5)
    with opened(browser, write_report(run), dark=dark, script=script) as page:
        heat, cold = page.locator(".mistakes .heat"), page.locator(".mistakes img:not(.heat)")
        n = heat.count()
        assert (page.locator(".mistakes .heat:visible").count(), page.locator(".mistakes img:visible").count()) == (
            0,
            cold.count(),
        )
        page.get_by_label("Show where it looked").focus()
        page.keyboard.press("Space")
        assert page.locator(".mistakes .heat:visible").count() == n > 0
        assert page.locator(".mistakes img:visible").count() == cold.count()  # each stands in its photo's place
