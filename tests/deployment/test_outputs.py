"""Answers as JSON, CSV, lines, and copies in folders: nothing is moved, overwritten or led astray."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from headway import files
from headway.deployment.inputs import Inputs, expand
from headway.deployment.outputs import as_json, csv_columns, csv_row, folder_name, line, write_sorted
from headway.deployment.predictor import Item, Prediction
from headway.errors import HeadwayError, Refused
from tests import make


def _answer(path: Path, label: str = "cat") -> Prediction:
    return Prediction(
        str(path), label, 0.75, ((label, 0.75), ("dog", 0.25)), hashlib.sha256(path.read_bytes()).hexdigest()
    )


def _failed(name: str) -> Prediction:
    return Prediction(name, None, None, (), None, "truncated")


def _inputs(*paths: Path) -> Inputs:
    return expand([str(path) for path in paths])


def test_as_json__one_object_with_the_count_of_failures(tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.jpg", b"x")
    value = as_json({"path": "b", "digest": "0"}, [_answer(path), _failed("b.jpg")])
    assert (value["n"], value["failed"], value["bundle"]) == (2, 1, {"path": "b", "digest": "0"})
    assert [item["name"] for item in value["predictions"]] == [str(path), "b.jpg"]
    assert json.loads(json.dumps(value)) == value


def test_csv__rows_fit_the_header_and_are_harmless(tmp_path: Path) -> None:
    evil = make.write(tmp_path / "x", b"x")
    answer = _answer(evil, "=cmd()")
    assert csv_columns(2) == ["name", "label", "probability", "label_2", "probability_2", "error"]
    assert csv_columns(1) == ["name", "label", "probability", "error"]
    assert csv_row(answer, 3) == [str(evil), "=cmd()", "0.75", "dog", "0.25", "", "", ""]
    assert csv_row(_failed("b.jpg"), 2) == ["b.jpg", "", "", "", "", "truncated"]
    (row,) = csv.reader(io.StringIO(files.csv_line(csv_row(answer, 1))))
    assert row == [str(evil), "'=cmd()", "0.75", ""]


def test_line__for_people_and_safe_for_their_terminal(tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.jpg", b"x")
    answer = _answer(path)
    assert line(answer, 2) == f"{path}  cat 0.75 · dog 0.25"
    assert line(_failed("b.jpg"), width=8) == "b.jpg     not read: truncated"
    assert line(_failed("a\x1b[2J\n.jpg")) == "a\\x1b[2J\\n.jpg  not read: truncated"


def test_write_sorted__copies_and_hands_on(tmp_path: Path) -> None:
    a, b = make.write(tmp_path / "in/a.jpg", b"one"), make.write(tmp_path / "in/b.jpg", b"two")
    answers = [_answer(a), _failed("in/c.jpg"), _answer(b, "dog")]
    assert list(write_sorted(answers, tmp_path / "out", _inputs(tmp_path / "in"), ["cat", "dog"])) == answers
    assert (tmp_path / "out/cat/a.jpg").read_bytes() == b"one"
    assert (tmp_path / "out/dog/b.jpg").read_bytes() == b"two"
    assert sorted(str(item.relative_to(tmp_path)) for item in tmp_path.rglob("*") if item.is_file()) == [
        *("in/a.jpg", "in/b.jpg", "out/cat/a.jpg", "out/dog/b.jpg")
    ]


def test_write_sorted__two_files_of_one_name_both_stay(tmp_path: Path) -> None:
    paths = [make.write(tmp_path / f"in/{n}/a.jpg", content) for n, content in enumerate([b"one", b"two", b"one"])]
    inputs = _inputs(tmp_path / "in")
    for _ in range(2):  # again: nothing is added
        list(write_sorted([_answer(path) for path in paths], tmp_path / "out", inputs, ["cat"]))
        second = f"a-{hashlib.sha256(b'two').hexdigest()[:8]}.jpg"
        assert {item.name: item.read_bytes() for item in (tmp_path / "out/cat").iterdir()} == {
            "a.jpg": b"one",
            second: b"two",
        }


def test_write_sorted__a_stranger_of_that_name_is_never_overwritten(tmp_path: Path) -> None:
    path = make.write(tmp_path / "in/a.jpg", b"mine")
    make.write(tmp_path / "out/cat/a.jpg", b"stranger")
    (tmp_path / f"out/cat/a-{hashlib.sha256(b'mine').hexdigest()[:8]}.jpg").symlink_to(tmp_path / "nowhere")
    list(write_sorted([_answer(path)], tmp_path / "out", _inputs(path), ["cat"]))
    assert (tmp_path / "out/cat/a.jpg").read_bytes() == b"stranger"
    assert (tmp_path / f"out/cat/a-{hashlib.sha256(b'mine').hexdigest()}.jpg").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


def test_write_sorted__inputs_are_never_written(tmp_path: Path) -> None:
    path = make.write(tmp_path / "photos/cat/a.jpg", make.jpeg())
    photos = tmp_path / "photos"
    answers = [_answer(path)]

    def refusal(out: Path, *given: Path) -> str:
        with pytest.raises(Refused) as caught:
            write_sorted(answers, out, _inputs(*given), ["cat", "dog"])
        return str(caught.value)

    into = "which is an input, and inputs are never written. Choose an --out outside it."
    assert refusal(photos, photos) == f"{photos} would put copies into {photos}, {into}"
    assert refusal(photos / "new", photos) == f"{photos}/new would put copies into {photos}, {into}"
    assert refusal(photos, photos / "cat") == f"{photos} would put copies into {photos}/cat, {into}"
    (tmp_path / "link").symlink_to(photos)
    assert refusal(tmp_path / "link/x", photos) == f"{tmp_path}/link/x would put copies into {photos}, {into}"
    assert (
        refusal(photos, path)
        == f"{photos} would put copies among the given images in {photos}/cat. Choose another --out."
    )
    assert refusal(path, photos) == f"{path} is a file; --out needs a folder."
    list(write_sorted(answers, photos / "sorted", _inputs(path), ["cat"]))
    assert (photos / "sorted/cat/a.jpg").is_file()


def test_write_sorted__an_image_without_a_file_cannot_be_copied(tmp_path: Path) -> None:
    inputs = Inputs((Item("-", b"..."),), (), 0, {})
    with pytest.raises(Refused) as caught:
        write_sorted([], tmp_path / "out", inputs, ["cat"])
    assert str(caught.value) == "--out copies files, but standard input brought an image. Give its name instead."


def test_write_sorted__a_failed_copy_is_one_readable_line(tmp_path: Path) -> None:
    path = make.write(tmp_path / "in/a.jpg", b"one")
    answer, inputs = _answer(path), _inputs(path)
    path.unlink()
    with pytest.raises(HeadwayError) as caught:
        list(write_sorted([answer], tmp_path / "out", inputs, ["cat"]))
    assert str(caught.value) == f"{path} cannot be copied to {tmp_path}/out: No such file or directory"
    assert list((tmp_path / "out/cat").iterdir()) == []


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *(("cat", "cat"), ("Großer Hund", "Großer Hund"), ("50%", "50%25"), ("a/b", "a%2Fb"), ("..", "%2E%2E")),
        *((".hidden", "%2Ehidden"), ("end.", "end%2E"), ("CON", "%43ON"), ("nul.txt", "%6Eul.txt"), ("", "%")),
        *(("a\\b", "a%5Cb"), ("../../etc", "%2E.%2F..%2Fetc"), ("a\0b", "a%00b"), ("\ud800", "%ED%A0%80")),
    ],
)
def test_folder_name__of_classes_that_are_no_good_names(label: str, name: str) -> None:
    assert folder_name(label) == name


@given(st.text(max_size=300), st.text(max_size=300))
def test_folder_name__is_one_part_of_a_path_and_different_for_different_classes(one: str, other: str) -> None:
    first, second = folder_name(one), folder_name(other)
    assert Path("x", first).parent == Path("x")
    assert Path("x", first).name == first
    assert first not in (".", "..", "")
    assert len(os.fsencode(first)) <= 255
    assert (first == second) == (one == other)
