"""find_images: what is found, what is passed over and counted, whatever the folder holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.images import Found, find_images
from headway.data.sources import load_dataset
from headway.data.walk import extension
from tests import make

PNG = make.png(size=(8, 8))


def plant(root: Path, *names: str, content: bytes = PNG) -> Path:
    for name in names:
        make.write(root / name, content)
    return root


def test_find_images__names_sorted_and_relative(tmp_path: Path) -> None:
    plant(tmp_path, "b/2.png", "b/10.png", "a/deep/er/1.JPG", "top.webp")
    found = find_images(tmp_path)
    assert found == Found(
        ["a/deep/er/1.JPG", "b/10.png", "b/2.png", "top.webp"], {}, ("", "a", "a/deep", "a/deep/er", "b")
    )


def test_find_images__what_is_passed_over(tmp_path: Path) -> None:
    plant(tmp_path, "cats/1.png", "dogs/2.png")
    plant(tmp_path, ".DS_Store", "cats/.DS_Store", "cats/._1.png", ".hidden/3.png", ".ipynb_checkpoints/4.png")
    plant(tmp_path, "cats/.ipynb_checkpoints/5.png", "__MACOSX/cats/6.png", "dogs/Thumbs.db", "dogs/desktop.ini")
    plant(tmp_path, "labels.csv", "notes.txt", "dogs/clip.mp4", content=b"words")
    os.mkfifo(tmp_path / "cats" / "pipe.jpg")
    (tmp_path / "dogs" / "dead.jpg").symlink_to("nowhere.jpg")
    found = find_images(tmp_path)
    assert found.paths == ["cats/1.png", "dogs/2.png"]
    assert found.ignored == {
        ".DS_Store": 2,
        ".ipynb_checkpoints": 2,
        "Thumbs.db": 1,
        "__MACOSX": 1,
        "dead links": 1,
        "desktop.ini": 1,
        "hidden files": 2,
        "other files": 3,
        "pipes and devices": 1,
    }
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("cats", "dogs")
    assert dataset.ignored == found.ignored


def test_find_images__what_counts_as_an_image(tmp_path: Path) -> None:
    plant(tmp_path, "no_extension", "photo.jpg_large", "photo.bak", "shot.PNG", "named.txt")
    plant(tmp_path, "words", "words.data", "words.jpg", "phone.heic", "raw.CR2", content=b"just words, no image")
    found = find_images(tmp_path)
    assert found.paths == [
        "no_extension", "phone.heic", "photo.bak", "photo.jpg_large", "raw.CR2", "shot.PNG", "words.jpg",
    ]  # fmt: skip
    assert found.ignored == {"other files": 3}


def test_find_images__rings_of_links(tmp_path: Path) -> None:
    """One link upwards makes a walk that follows links visit 82 folders for 2; here each is entered once."""
    plant(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "b" / "other").symlink_to("../a")
    found = find_images(tmp_path)
    assert found.paths == ["a/1.png", "b/2.png"]
    assert found.ignored == {"links to folders already read": 3}
    assert found.outside == 0


def test_find_images__links_are_followed_after_folders(tmp_path: Path) -> None:
    plant(tmp_path / "pool", "cats/1.png", "dogs/2.png")
    root = tmp_path / "photos"
    plant(root, "zebras/3.png")
    (root / "cats").symlink_to(tmp_path / "pool" / "cats")
    (root / "animals").symlink_to(root / "zebras")
    (root / "zebras" / "linked.png").symlink_to(tmp_path / "pool" / "dogs" / "2.png")
    found = find_images(root)
    assert found.paths == ["cats/1.png", "zebras/3.png", "zebras/linked.png"]
    assert found.ignored == {"links to folders already read": 1}
    assert found.outside == 2


def test_find_images__hard_links_keep_both_names(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    os.link(tmp_path / "a" / "1.png", tmp_path / "b" / "1.png")
    assert find_images(tmp_path).paths == ["a/1.png", "b/1.png"]


ODD = [
    b"\xff\xfe.png",
    b"two\nlines.png",
    "\N{CAT FACE}.png".encode(),
    b"-rf.png",
    b"=1+1.png",
    "e\N{COMBINING ACUTE ACCENT}.png".encode(),
    "\N{LATIN SMALL LETTER E WITH ACUTE}.png".encode(),
    b"\x1b[31m.png",
    b"a" * 251 + b".png",
    b" .png",
    b"%s{}.png",
]
WALK = """
import os, sys
from headway.data.sources import load_dataset
dataset = load_dataset(sys.argv[1])
for i, name in enumerate(dataset.names):
    print(os.fsencode(name).hex(), len(dataset.source.read(i)))
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names__any_bytes(tmp_path: Path, locale: str) -> None:
    root = os.fsencode(tmp_path)
    for folder in (b"cats", b"d\xffgs"):
        os.mkdir(root + b"/" + folder)  # noqa: PTH102 (a name that is not UTF-8)
        for name in ODD:
            with open(root + b"/" + folder + b"/" + name, "wb") as stream:  # noqa: PTH123
                stream.write(PNG)
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0"}
    run = subprocess.run(
        [sys.executable, "-c", WALK, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in run.stdout.splitlines()]
    assert sorted(bytes.fromhex(name) for name, _ in lines) == sorted(
        folder + b"/" + name for folder in (b"cats", b"d\xffgs") for name in ODD
    )
    assert {size for _, size in lines} == {str(len(PNG))}


def test_load_dataset__the_folder_stays_as_it_was(tmp_path: Path) -> None:
    make.class_folders(tmp_path, {"cats": 3, "dogs": 3})

    def state() -> list[tuple[str, int, int]]:
        items = [tmp_path, *sorted(tmp_path.rglob("*"))]
        return [(str(item), item.stat().st_mtime_ns, item.stat().st_size) for item in items]

    before = state()
    dataset = load_dataset(tmp_path)
    for i in range(len(dataset)):
        dataset.source.read(i)
    assert state() == before


@given(st.text(st.sampled_from("ab./"), max_size=8))
@settings(max_examples=200)
def test_extension__as_the_standard_library(name: str) -> None:
    last = name.rpartition("/")[2]
    if not last.startswith("."):  # hidden files never come so far
        assert extension(name) == os.path.splitext(last)[1].lower()  # noqa: PTH122
