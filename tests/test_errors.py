"""Errors: exit codes, several problems at once, nearest words."""

from __future__ import annotations

import pytest

from headway.errors import HeadwayError, Refused, Stopped, first_line, nearest, refuse_all


def test_exit_codes__one_per_outcome() -> None:
    assert (HeadwayError.exit_code, Refused.exit_code, Stopped.exit_code) == (1, 2, 75)
    assert issubclass(Refused, HeadwayError)
    assert issubclass(Stopped, HeadwayError)


def test_refuse_all__nothing_wrong() -> None:
    try:
        refuse_all([])
    except Refused as error:
        pytest.fail(f"refused with no problem: {error}")


def test_refuse_all__one_problem_stands_alone() -> None:
    with pytest.raises(Refused) as caught:
        refuse_all(["photo/ does not exist."])

    assert str(caught.value) == "photo/ does not exist."


def test_refuse_all__several_at_once() -> None:
    with pytest.raises(Refused) as caught:
        refuse_all(["a is wrong", "b is wrong"])

    assert str(caught.value) == "2 problems:\n  a is wrong\n  b is wrong"


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n one thing\nand another"), "one thing"), (RuntimeError(), "RuntimeError"), (KeyError("a"), "'a'")],
    ids=repr,
)
def test_first_line__says_something(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_nearest__most_like_first() -> None:
    assert nearest("resnet19", ["resnet18", "vgg11", "resnet10t"])[0] == "resnet18"
    assert nearest("onnx", ["anna", "onnxruntime"]) == ["onnxruntime", "anna"]  # what was begun, however long it is
    assert nearest("on", ["anna", "onnxruntime"]) == []


def test_nearest__nothing_close() -> None:
    assert nearest("xyz", ["resnet18", "vgg11"]) == []
