"""Figures: what is drawn, and that names stay text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.reporting import curves, figures, svg
from headway.reporting.curves import Line, Mark

HOSTILE = '<script>alert("1")</script>&\'"' + "\udcff\u202e" + "x" * 300


def parsed(figure: str) -> ET.Element:
    return ET.fromstring(figure.encode("utf-8"))


def texts(figure: str) -> list[str]:
    return ["".join(node.itertext()) for node in parsed(figure).iter("text")]


def test_element__children_and_attributes_are_escaped() -> None:
    made = parsed(svg.element("text", HOSTILE, class_=HOSTILE))
    assert [node.tag for node in made.iter()] == ["text"]
    assert made.text == made.get("class") == '<script>alert("1")</script>&\'"\\xff\\u202e' + "x" * 300


@given(st.floats(-1e6, 1e6), st.floats(1e-2, 1e6), st.integers(1, 8))
def test_round_values__lie_inside_in_even_steps(low: float, width: float, n: int) -> None:
    ticks = svg.round_values(low, low + width, n)
    assert all(low - 1e-6 * width <= tick <= low + width * 1.000001 for tick in ticks)
    assert len(ticks) <= 2 * n + 2
    if len(ticks) > 2:
        steps = np.diff(ticks)
        assert np.allclose(steps, steps[0], rtol=1e-4, atol=1e-9 * (abs(low) + width))


@given(st.integers(-9, 3), st.integers(1, 9))
def test_decades__are_powers_of_ten_inside(first: int, span: int) -> None:
    ticks = svg.decades(10.0**first, 10.0 ** (first + span))
    assert ticks[0] == pytest.approx(10.0**first)
    assert all(10.0**first * 0.999 <= tick <= 10.0 ** (first + span) * 1.001 for tick in ticks)


@pytest.mark.parametrize(("value", "expected"), [(1e-5, "10⁻⁵"), (0.001, "0.001"), (10.0, "10")])
def test_tick_text__logarithmic(value: float, expected: str) -> None:
    assert svg.tick_text(value, log=True) == expected


def test_interval_line__places_are_the_numbers() -> None:
    drawn = parsed(figures.interval_line(0.987, [0.966, 0.995], 0.5))
    dot = drawn.find("circle")
    whisker = next(node for node in drawn.iter("line") if "whisker" in node.get("class", ""))
    assert dot is not None
    assert (dot.get("cx"), whisker.get("x1"), whisker.get("x2")) == ("98.7%", "96.6%", "99.5%")
    assert drawn.get("aria-label") == "Accuracy 0.987 [0.966, 0.995]; guessing 0.500; the axis runs from 0 to 1."


@given(st.floats(0, 1), st.floats(0, 1))
def test_interval_line__names_never_overlap(value: float, guess: float) -> None:
    """A name takes at most a quarter of the line from its anchor on."""
    names = [node for node in parsed(figures.interval_line(value, None, guess)).iter("text") if node.get("y") == "14"]
    spans = []
    for node in names:
        at = float(node.get("x", "").rstrip("%")) / 100
        start = {"start": at, "middle": at - 0.125, "end": at - 0.25}[node.get("text-anchor", "")]
        spans.append((start, start + 0.25))
    assert names[0].text == "this model"
    assert names[0].get("x") == svg.percent(value)  # at its own mark, wherever guessing is
    assert all(low >= -0.01 and high <= 1.01 for low, high in spans)
    if len(spans) == 2:
        (first, second) = sorted(spans)
        assert first[1] <= second[0] + 0.001


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 25), st.integers(0, 10**6))
def test_confusion_matrix__every_count_in_reading_order(n: int, seed: int) -> None:
    confusion = np.random.default_rng(seed).integers(0, 9999, (n, n)).tolist()
    drawn = parsed(figures.confusion_matrix(confusion, [HOSTILE] * n))
    cells = [node.text for node in drawn.iter("text") if node.get("class", "").startswith("cell-")]
    assert cells == [f"{value:,}" for row in confusion for value in row if value or n <= 6]
    assert not list(drawn.iter("script"))


@given(st.integers(26, 60), st.integers(0, 10**6))
def test_heat_map__a_square_for_every_count_that_is_not_zero(n: int, seed: int) -> None:
    confusion = np.random.default_rng(seed).poisson(0.4, (n, n))
    drawn = parsed(figures.heat_map(confusion.tolist(), [str(index) for index in range(n)]))
    squares = [
        (int(row), int(column), "right" in path.get("class", ""))
        for path in drawn.iter("path")
        for column, row in re.findall(r"M(\d+) (\d+)h1v1h-1z", path.get("d", ""))
    ]
    assert sorted((row, column) for row, column, _ in squares) == [tuple(at) for at in np.argwhere(confusion).tolist()]
    assert all(right == (row == column) for row, column, right in squares)


def test_reliability__a_dot_for_every_bin_with_images() -> None:
    bins: list[dict[str, Any]] = [
        {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 0.75, "n": 25, "confidence": 0.7, "accuracy": 0.5},
        {"low": 0.75, "high": 1.0, "n": 100, "confidence": 1.0, "accuracy": 1.0},
    ]
    drawn = parsed(figures.reliability(bins, 125))
    dots = [(node.get("cx"), node.get("cy")) for node in drawn.iter("circle")]
    assert dots == [("240", "146"), ("324", "16")]  # the plot runs from (44, 276) to (324, 16)
    assert "100 in the largest group" in texts(figures.reliability(bins, 125))


def test_chart__lines_marks_and_names() -> None:
    lines = [Line("taps all", ((0.001, 0.3), (0.1, 0.2), (10.0, 0.5)), main=True), Line("taps last", ((0.001, 0.4),))]
    drawn = curves.chart("loss", "L2", lines, mark=Mark(0.1, 0.2, "chosen"), log=True)
    assert drawn is not None
    assert {"taps all", "taps last", "chosen", "L2", "loss"} <= set(texts(drawn))
    paths = [node.get("d", "") for node in parsed(drawn).iter("path")]
    assert sorted(path.count("L") for path in paths) == [0, 2]
    ring = next(node for node in parsed(drawn).iter("circle") if node.get("class") == "ring")
    middle = next(path for path in paths if "L" in path).split("L")[1]
    assert middle == f"{ring.get('cx')} {ring.get('cy')}"


def test_chart__epochs_are_whole() -> None:
    drawn = curves.chart("loss", "epoch", [Line("validation", ((0.0, 0.5), (1.0, 0.4), (2.0, 0.3)))])
    assert drawn is not None
    places = [node.text for node in parsed(drawn).iter("text") if node.get("text-anchor") == "middle"]
    assert places == ["0", "1", "2"]


def test_chart__nothing_to_draw() -> None:
    assert curves.chart("loss", "epoch", [Line("training", ())]) is None


@pytest.mark.parametrize(
    "points", [((1.0, 0.5),), ((1.0, 0.0), (2.0, 0.0)), tuple((float(i), 1.0 / i) for i in range(1, 9999))]
)
def test_chart__one_point_flat_and_long(points: tuple[tuple[float, float], ...]) -> None:
    drawn = curves.chart("loss", "epoch", [Line("validation", points, main=True)])
    assert drawn is not None
    assert len(drawn) < 20_000
    assert "nan" not in drawn


def test_chart__a_line_that_others_go_on_from_is_named_at_its_own_end() -> None:
    names = []
    for values in ((0.9, 0.8), (0.8, 0.9)):  # it falls to its end, it rises to it
        own = Line("the head", ((1.0, values[0]), (2.0, values[1])), main=True, inner=True)
        drawn = curves.chart("accuracy", "images", [own, Line("twice", ((2.0, values[1]), (4.0, 0.85)))])
        assert drawn is not None
        name = next(node for node in parsed(drawn).iter("text") if node.text == "the head")
        bead = next(node for node in parsed(drawn).iter("circle") if node.get("cx") == "123.33")
        assert (name.get("x"), name.get("text-anchor")) == ("121.33", "end")
        names.append(float(name.get("y", "")) - float(bead.get("cy", "")))
    assert names == pytest.approx([20, -10])  # under the line, over it


def test_chart__names_at_the_ends_do_not_overlap() -> None:
    lines = [Line(f"line {index}", ((0.0, 0.0), (1.0, 0.5 + index / 1000))) for index in range(4)]
    drawn = curves.chart("loss", "epoch", lines)
    assert drawn is not None
    heights = sorted(
        float(node.get("y", "")) for node in parsed(drawn).iter("text") if (node.text or "").startswith("line")
    )
    assert min(np.diff(heights)) >= 12
