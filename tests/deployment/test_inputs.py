"""From words on the command line to the images that are meant."""

from __future__ import annotations

import io
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from headway.deployment.inputs import Inputs, expand
from headway.errors import Refused
from tests import make


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/{a.jpg, b.png, deep/c.jpg, notes.txt}, d.jpg, odd[1].jpg; the current folder."""
    for name in ("photos/a.jpg", "photos/b.png", "photos/deep/c.jpg", "d.jpg", "odd[1].jpg"):
        make.write(tmp_path / name, make.jpeg())
    make.write(tmp_path / "photos/notes.txt", b"text")
    make.write(tmp_path / "photos/Thumbs.db", b"text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(found: Inputs) -> list[str]:
    return [item.name for item in found.items]


def _refusal(*words: str, stdin: bytes | None = None) -> str:
    with pytest.raises(Refused) as caught:
        expand(words, None if stdin is None else io.BytesIO(stdin))
    return str(caught.value)


def test_expand__files_folders_and_patterns_in_their_order(here: Path) -> None:
    found = expand(["d.jpg", "photos", "odd*.jpg"])
    assert _names(found) == ["d.jpg", "photos/a.jpg", "photos/b.png", "photos/deep/c.jpg", "odd[1].jpg"]
    assert found.folders == (Path("photos"),)
    assert found.repeated == 0
    assert found.ignored == {"Thumbs.db": 1, "other files": 1}
    assert _names(expand(["photos/**/*.jpg"])) == ["photos/a.jpg", "photos/deep/c.jpg"]
    assert _names(expand([f"{here}/photos/?.*"])) == [f"{here}/photos/a.jpg", f"{here}/photos/b.png"]


def test_expand__a_file_that_is_named_like_a_pattern_is_that_file(here: Path) -> None:
    assert _names(expand(["odd[1].jpg"])) == ["odd[1].jpg"]


def test_expand__an_image_counts_once_however_often_it_is_named(here: Path) -> None:
    found = expand(["photos/a.jpg", "./photos/a.jpg", f"{here}/photos/a.jpg", "photos/", "photos/*.jpg"])
    assert _names(found) == ["photos/a.jpg", "photos/b.png", "photos/deep/c.jpg"]
    assert found.repeated == 4


def test_expand__two_dots_behind_a_link_are_not_folded_away(here: Path) -> None:
    make.write(here / "far/inner/x", b"")
    make.write(here / "far/d.jpg", make.jpeg(1))
    (here / "link").symlink_to(here / "far/inner")
    found = expand(["d.jpg", "link/../d.jpg"])
    assert _names(found) == ["d.jpg", "link/../d.jpg"]


def test_expand__what_is_not_there_stays_an_item_as_long_as_something_is(here: Path) -> None:
    assert _names(expand(["d.jpg", "e.jpg"])) == ["d.jpg", "e.jpg"]
    assert _refusal("e.jpg") == "e.jpg does not exist. Did you mean d.jpg ?"
    assert _refusal("photo/") == "photo/ does not exist. Did you mean photos ?"
    assert _refusal("qqq", "./qqq") == "./qqq does not exist."
    assert _refusal("qqq", "zzzz") == "2 problems:\n  qqq does not exist.\n  zzzz does not exist."


def test_expand__patterns_and_folders_that_hold_nothing(here: Path) -> None:
    (here / "empty").mkdir()
    assert _refusal("empty", "*.gif", "d.jpg") == "2 problems:\n  empty holds no images.\n  *.gif matches no file."
    assert _refusal() == "no image named. Name files, folders or patterns, or - for standard input."


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_expand__names_through_standard_input(here: Path, end: bytes) -> None:
    stdin = io.BytesIO(end.join([b"photos/a.jpg", b"", b"d.jpg", "\u00e9.jpg".encode()]) + end)
    assert _names(expand(["photos/b.png", "-", "odd[1].jpg"], stdin)) == [
        *("photos/b.png", "photos/a.jpg", "d.jpg", "\u00e9.jpg", "odd[1].jpg")
    ]


def test_expand__names_that_are_no_utf8(here: Path) -> None:
    (item,) = expand(["-"], io.BytesIO(b"d.jpg\n")).items
    assert item.name == "d.jpg"
    name = os.fsdecode(b"caf\xe9.jpg")
    make.write(here / name, make.jpeg())
    assert _names(expand(["-"], io.BytesIO(b"caf\xe9.jpg\n"))) == [name]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_expand__one_image_through_standard_input(here: Path, form: str) -> None:
    content = make.encode(make.image(), form)
    found = expand(["-", "d.jpg"], io.BytesIO(content))
    assert _names(found) == ["-", "d.jpg"]
    assert found.items[0].image == content


def test_expand__nothing_through_standard_input(here: Path) -> None:
    said = "standard input is empty; expected names of images, one per line, or one image."
    assert _refusal("-", stdin=b"") == said
    assert _refusal("-", stdin=b"\n \n") == said
    assert _refusal("-") == said


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n", codec="ascii"), min_size=1), min_size=1))
def test_expand__names_are_never_taken_for_an_image(names: list[str]) -> None:
    stdin = io.BytesIO("\n".join(names).encode())
    try:
        found = expand(["-"], stdin)
    except Refused:
        return
    assert all(isinstance(item.image, Path) for item in found.items)
