"""`headway explain` as it is typed: pictures, lines, JSON, refusals; nothing of the user's is written over."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from headway import files
from headway.cli import app
from headway.deployment.bundle import load_bundle
from headway.terminal import outcome
from tests import make, toy
from tests.deployment import toys
from tests.deployment.test_serving_side import _BLOCKED, _python


def headway(*words: str | Path) -> int:
    """Run the program in this process; returns its exit code."""
    return outcome.run(typer.main.get_command(app), [str(word) for word in words])


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return toys.bundle(tmp_path / "toy")


def test_explain__a_picture_of_each_image(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = make.class_folders(tmp_path / "photos", {"a": 3, "b": 3})
    before = toy.tree_digest(photos)

    assert headway("explain", bundle, photos) == 0

    lines = capsys.readouterr().out.splitlines()
    answers = [load_bundle(bundle, threads=1).predict(path) for path in sorted(photos.rglob("*.jpg"))]
    written = sorted((tmp_path / "explained").iterdir())
    assert len(lines) == len(answers) == len(written) == 6
    for line, answer in zip(lines, answers, strict=True):
        assert f"  {answer}  explained/{Path(answer.name).stem}-{answer.label}" in line
    for path in written:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("PNG", (2 * 256 + 8, 256 + 48))
    assert toy.tree_digest(photos) == before


def test_explain__json_holds_the_map(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make.write(tmp_path / "one.png", make.png(seed=3))
    torn = make.write(tmp_path / "torn.png", make.truncated(make.png()))

    assert headway("explain", bundle, image, torn, "--class", "owl", "--check", "--json", "--out", "o") == 1

    found = json.loads(capsys.readouterr().out)
    answer = load_bundle(bundle, threads=1).predict(image, top=3)
    first, second = found.pop("explanations")
    assert found.pop("check").keys() == {"n", "networks", "correlation", "passed"}
    assert found == {
        "bundle": {"path": str(bundle), "digest": load_bundle(bundle).digest},
        "method": "grad-cam",
        "tap": "last",
        "n": 2,
        "failed": 1,
    }
    assert np.shape(first.pop("grid")) == (5, 5)
    assert first.pop("class_probability") == pytest.approx(dict(answer.top)["owl"], abs=1e-6)
    assert first.pop("probability") == pytest.approx(answer.probability, abs=1e-6)
    assert first == {
        "name": str(image),
        "label": answer.label,
        "class": "owl",
        "file": "o/one-owl.png",
        "digest": answer.digest,
    }
    assert second == {"name": str(torn), "error": "truncated at 60 %", "digest": second["digest"]}


def test_explain__what_lies_there_is_kept(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make.write(tmp_path / "in" / "x.png", make.png(seed=4))
    place = tmp_path / "out"
    own = make.write(place / "x-owl.png", b"the user's own")

    digest = files.digest_file(image)
    for _ in range(2):  # the same picture is not written twice
        assert headway("explain", bundle, image, "--class", "owl", "--out", place) == 0
        assert own.read_bytes() == b"the user's own"
        assert {path.name for path in place.iterdir()} == {"x-owl.png", f"x-owl-{digest[:8]}.png"}
    assert f"{place}/x-owl-{digest[:8]}.png" in capsys.readouterr().out


def test_explain__an_image_through_standard_input(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(make.png(seed=5))))
    assert headway("explain", bundle, "-", "--class", "cat") == 0
    assert (tmp_path / "explained" / "standard-input-cat.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--class owls", "--class owls: toy/bundle has no such class. Nearest: owl"),
        ("--class zebra", "--class zebra: toy/bundle has no such class. It has cat, dog, owl"),
        ("--tap stage9", "--tap stage9: the head of toy/bundle reads last."),
        (
            "--out in/more",
            "in/more would put pictures into in, which is an input, and inputs are never written. "
            "Choose an --out outside it.",
        ),
        ("--out in/x.png", "in/x.png is a file; --out needs a folder."),
    ],
)
def test_explain__refusals(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    make.write(tmp_path / "in" / "x.png", make.png())
    assert headway("explain", "toy/bundle", "in", *words.split()) == 2
    assert capsys.readouterr() == ("", f"headway: {said}\n")
    assert not (tmp_path / "explained").exists()


def test_explain__among_the_images_themselves(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make.write(tmp_path / "in" / "x.png", make.png())
    assert headway("explain", "toy/bundle", "in/x.png", "--out", "in") == 2
    assert capsys.readouterr().err == "headway: in would put pictures among the given images. Choose another --out.\n"


def test_explain__works_with_everything_that_trains_blocked(bundle: Path, tmp_path: Path) -> None:
    image = make.write(tmp_path / "x.png", make.png())
    code = "import sys\nfrom headway.cli import main\nsys.argv[0] = 'headway'\nmain()"
    said = _python(_BLOCKED + code, "explain", bundle, image, "--check", "--out", tmp_path / "o")
    assert [line.split()[0] for line in said.splitlines()] == [str(image), "check"]
