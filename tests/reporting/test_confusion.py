"""Who is taken for whom, as the report shows it: the block of many classes, links to images, bounds, old runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headway.reporting.confusion import MOST_BYTES, MOST_OF_A_BLOCK, most_confused
from headway.reporting.page import draw
from tests.reporting.fixture import PLANS, build_run
from tests.reporting.test_page import change, parsed, words


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: build_run(folder / name, plan) for name, plan in PLANS.items()}


def panels(page: Any) -> dict[str, Any]:
    """The images of each cell, by the key of the cell."""
    return {node.get("id"): node for node in page.iter("div") if node.get("class") in ("behind", "behind open")}


@given(st.integers(3, 40), st.integers(2, 25), st.integers(0, 10**6))
def test_most_confused__holds_the_largest_pairs_side_by_side(n: int, most: int, seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(1.5, (n, n))
    chosen = most_confused(counts.tolist(), most)
    assert len(chosen) == len(set(chosen)) <= most
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    first = np.argwhere(both == both.max())[0].tolist() if both.any() else []
    assert set(first) <= set(chosen)
    outside = [index for index in range(n) if index not in chosen]
    # What was left out is no more confused than the least of what is in, each with whom it is confused most.
    if both.any() and outside and len(chosen) >= most:
        assert both[outside][:, outside].max(initial=0) <= min(both[index].max() for index in chosen)


def test_most_confused__each_stands_beside_the_one_it_is_taken_for() -> None:
    counts = np.zeros((30, 30), int)
    for times, true, said in ((9, 4, 20), (8, 1, 2), (7, 20, 11), (6, 2, 29), (5, 8, 4)):
        counts[true, said] = times
    assert most_confused(counts.tolist(), 20) == [4, 8, 20, 11, 1, 2, 29]


def test_most_confused__none_wrong() -> None:
    assert most_confused(np.diag([5] * 30).tolist(), 20) == list(range(20))


@pytest.mark.parametrize("name", PLANS)
def test_cells__every_link_leads_to_the_images_of_that_cell(runs: dict[str, Path], name: str) -> None:
    evaluation = json.loads((runs[name] / "evaluation.json").read_text())
    e, classes = evaluation["subsets"]["test"], evaluation["classes"]
    page = parsed(draw(runs[name]))
    shown = panels(page)
    assert len(shown) == len(evaluation["cells"])
    assert [node.get("class") for node in shown.values()].count("behind open") == 1
    for cell in evaluation["cells"]:
        row, column = classes.index(cell["label"]), classes.index(cell["predicted"])
        panel = shown[f"cell-{row + 1}-{column + 1}"]
        said = "named right" if row == column else f"taken for {cell['predicted']}"
        n = e["confusion"][row][column]
        assert words(panel.find("h4")) == f"{cell['label']} {said} {n} of {sum(e['confusion'][row])}"
        assert [image.get("alt") for image in panel.iter("img")] == [image["name"] for image in cell["images"]]
        sure = [words(text) for text in panel.iter("p") if text.get("class") == "said"]
        assert sure == [f"sure {image['probability']:.2f}" for image in cell["images"]]
        notes = [words(text) for text in panel.iter("p") if text.get("class") == "note"]
        assert bool(notes) == (len(cell["images"]) < n)

    links = [node for node in page.iter("a") if (node.get("href") or "").startswith("#cell-")]
    of_matrix = [node for node in links if node.find("title") is not None]
    assert len(of_matrix) == len({node.get("href") for node in of_matrix}) > 1
    for node in of_matrix:
        row, column = (int(part) - 1 for part in str(node.get("href")).removeprefix("#cell-").split("-"))
        told = f"{classes[row]} → {classes[column]}: {e['confusion'][row][column]}"
        assert (words(node.find("title")), node.get("aria-label")) == (told, f"{told}, show images")
        assert str(node.get("href"))[1:] in shown


def test_cells__of_many_classes_the_block_says_what_it_holds(runs: dict[str, Path]) -> None:
    e = json.loads((runs["hundred"] / "evaluation.json").read_text())["subsets"]["test"]
    confusion = np.array(e["confusion"])
    chosen = most_confused(e["confusion"])
    block = confusion[np.ix_(chosen, chosen)]
    inside, wrong = block.sum() - np.trace(block), confusion.sum() - np.trace(confusion)
    section = words(parsed(draw(runs["hundred"])).find(".//section[@id='failures']"))
    assert len(chosen) == MOST_OF_A_BLOCK
    told = "The 20 of 100 classes that are most often taken for each other: "
    assert f"{told}{inside} of {wrong:,} mistakes lie among them." in section
    assert "All classes, numbered in order of name" in section


def noisy_jpeg(rng: np.random.Generator) -> bytes:
    """128 pixels of noise: as large as a thumbnail gets."""
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def test_cells__bytes_are_bounded_whatever_the_images_are(runs: dict[str, Path], tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", PLANS["hundred"])
    table = pq.read_table(run / "thumbnails.parquet")
    rng = np.random.default_rng(0)
    content = [noisy_jpeg(rng) for _ in range(table.num_rows)]
    pq.write_table(
        pa.table({"name": table["name"], "jpeg": pa.array(content, pa.binary())}), run / "thumbnails.parquet"
    )
    assert sum(map(len, content)) > 1.5 * MOST_BYTES

    text = draw(run)
    shown = panels(parsed(text))
    pictures = [image for panel in shown.values() for image in panel.iter("img")]
    blank = [node for panel in shown.values() for node in panel.iter("div") if node.get("class") == "blank"]
    assert len(text.encode()) < 5_000_000
    assert sum(len(str(image.get("src"))) for image in pictures) * 3 / 4 <= MOST_BYTES + 32 * len(pictures)
    assert pictures
    assert blank
    # Without its picture an image still has its name and number.
    assert len(pictures) + len(blank) == sum(len(list(panel.iter("li"))) for panel in shown.values())


def test_cells__of_a_run_from_before_there_is_the_matrix_alone(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", PLANS["four"])
    change(run, "evaluation.json", lambda value: value.pop("cells"))
    page = parsed(draw(run))
    assert not panels(page)
    matrix = next(node for node in page.iter("svg") if "Confusion matrix" in node.get("aria-label", ""))
    assert matrix.get("role") == "img"
    assert not list(matrix.iter("a"))
    assert "Choose a cell" not in words(page.find(".//section[@id='failures']"))
