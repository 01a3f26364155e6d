"""Settings: every option accepted at its default, refused just outside its range, told in whole sentences."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import Refused
from headway.settings import FitSettings, fit_settings, from_yaml, option, to_yaml
from headway.terminal.options import FIT

# Just inside and just outside what each option takes, and what is said then.
_WHOLE = "a whole number of 1 or more"
RANGES: list[tuple[str, list[Any], list[Any], str]] = [
    ("backbone", ["resnet18"], [""], "a name, as headway backbones lists them"),
    ("weights", ["none", "w.pth"], [""], "none, a file, or local-dir:FOLDER"),
    ("image", [16, "2048"], [15, 2049, "x", 20.5, True], "a whole number from 16 to 2048 (pixels)"),
    ("resize", ["none", "224", 4096], [4097, "x", True], "none, or a whole number from 16 to 4096 (pixels)"),
    ("fit", ["crop", "squash", "pad"], ["stretch"], "crop, squash or pad"),
    ("mean", [0.5, "0.4", "0.4,0.5,0.6"], ["x", "1,2", True], "one number, or three with commas between them"),
    ("std", [0.5, "0.2,0.2,0.2"], [0, "1,2,0"], "one number above 0, or three with commas between them"),
    ("taps", ["auto", "last", "all"], ["some"], "auto, last or all"),
    ("views", ["flip", 1, "100"], [0, 101, "x"], "flip, or a whole number from 1 to 100 (random crops)"),
    (
        "head",
        ["linear", "mlp:256", "mlp:1024,256"],
        ["mlp", "mlp:", "mlp:0", "mlp:1,", "x"],
        "linear, or mlp: with the widths of the hidden layers, as mlp:256 or mlp:1024,256",
    ),
    ("l2", ["auto", 0, "0.1"], [-0.1, "x", "nan", "inf", True], "auto, or a number of 0 or more"),
    ("optimizer", ["sgd", "adam", "adamw"], ["rms"], "sgd, adam or adamw"),
    ("lr", [1e-9, "1"], [0, -1, "x", "nan", "inf", True], "a number above 0"),
    ("momentum", [0, 0.99], [1, -0.1], "a number from 0 to below 1"),
    (
        "schedule",
        ["none", "cosine", "step:1:1", "step:7:0.1"],
        ["step", "step:0:0.1", "step:7:0", "step:7:1.1", "step:7:0.1:1", "line:7:0.1"],
        "none, cosine, or step:EPOCHS:FACTOR as step:7:0.1",
    ),
    ("batch", [1, "200"], [0, "x"], _WHOLE),
    ("epochs", [1], [0], _WHOLE),
    ("patience", [1], [0], _WHOLE + " (epochs)"),
    ("keep", ["val.accuracy", "val.loss"], ["x"], "val.accuracy or val.loss"),
    ("class_weights", [True, False], [3, "x"], "true or false"),
    ("val", [0.01, "0.5"], [0, 1, "x"], "a share above 0 and below 1"),
    ("test", [0.01, "0.5"], [0, 1, "x"], "a share above 0 and below 1"),
    ("split", ["runs/a"], [3], "a run folder or a split.csv"),
    ("strategy", ["auto", "probe"], ["magic"], "auto or probe"),
    ("seed", [0, 2**63 - 1], [-1, 2**63, "x"], "a whole number of 0 or more"),
    ("threads", [1], [0, "x"], _WHOLE),
    ("engine", ["auto", "torch", "onnxruntime"], ["gpu"], "auto, torch or onnxruntime"),
    ("precision", ["fp32"], ["int8"], "fp32"),
    ("device", ["auto", "cpu", "mps", "cuda", "cuda:3"], ["gpu", "cuda:"], "auto, cpu, mps, cuda or cuda:NUMBER"),
    ("no_cache", [True, False], [3], "true or false"),
    ("offline", [True, False], [3], "true or false"),
    ("allow_bad", [True, False], [3], "true or false"),
    ("run", ["runs/x"], [3], "a folder"),
]


def message(data: Any = "photos", **options: Any) -> str:
    """What is said when these options are refused."""
    with pytest.raises(Refused) as caught:
        fit_settings(data, **options)
    return str(caught.value)


@pytest.mark.parametrize(("name", "good"), [(name, value) for name, good, _, _ in RANGES for value in good])
def test_settings__inside_the_range(name: str, good: Any) -> None:
    assert getattr(fit_settings("photos", **{name: good}), name) is not None


@pytest.mark.parametrize(
    ("name", "bad", "expected"), [(name, value, text) for name, _, bad, text in RANGES for value in bad]
)
def test_settings__outside_the_range(name: str, bad: Any, expected: str) -> None:
    assert message(**{name: bad}) == f"{option(name)} {bad if bad != '' else repr(bad)}: expected {expected}"


def test_settings__every_option_has_a_range_here() -> None:
    covered = {name for name, _, _, _ in RANGES} | {"data", "dropout"}

    assert covered == set(FitSettings.model_fields)


@pytest.mark.parametrize("bad", [1, -0.1, "0.5,", "", "x", True])
def test_settings__dropout_outside_the_range(bad: Any) -> None:
    expected = "expected numbers from 0 to below 1, as 0.5 or 0.5,0.3"

    assert message(head="mlp:8", dropout=bad) == f"--dropout {bad if bad != '' else repr(bad)}: {expected}"


def test_settings__dropout_for_each_hidden_layer() -> None:
    assert fit_settings("p", head="mlp:8,4", dropout="0.5,0.3").dropouts == (0.5, 0.3)
    assert fit_settings("p", head="mlp:8,4", dropout=0.5).dropouts == (0.5, 0.5)
    assert fit_settings("p").dropouts == ()


def test_settings__all_problems_at_once() -> None:
    said = message(imgae=3, epochs=0, optimizer="sdg", val=0.6, test=0.6, fit="pad", resize=256)

    assert said == (
        "5 problems:\n"
        "  --optimizer sdg: expected sgd, adam or adamw. Did you mean sgd ?\n"
        "  --epochs 0: expected a whole number of 1 or more\n"
        "  no option --imgae. Did you mean --image ?\n"
        "  --val 0.6 and --test 0.6 leave nothing to train on\n"
        "  --resize works with --fit crop only; --fit pad scales to --image"
    )


def test_settings__unknown_and_nothing_near() -> None:
    assert message(xyzzy=1) == "no option --xyzzy. See: headway fit --help"


def test_settings__data_is_no_path() -> None:
    assert message(data=3) == "the data 3: expected the path of a folder or file"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dropout": 0.5}, "--dropout works before hidden layers; a linear head has none. Try --head mlp:256"),
        (
            {"head": "mlp:8,4", "dropout": "0.1,0.2,0.3"},
            "--dropout 0.1,0.2,0.3 has 3 numbers, the hidden layers of --head mlp:8,4 are 2: "
            "expected one number, or one for each",
        ),
        ({"resize": 100}, "--resize 100 is smaller than --image 224, which is cut out of it"),
        ({"fit": "squash", "resize": "none"}, "--resize works with --fit crop only; --fit squash scales to --image"),
        ({"val": 0.5, "test": 0.5}, "--val 0.5 and --test 0.5 leave nothing to train on"),
    ],
)
def test_settings__options_that_exclude_each_other(options: dict[str, Any], expected: str) -> None:
    assert message(**options) == expected


def test_settings__frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        fit_settings("photos").seed = 1


def test_notes__what_does_nothing_is_told() -> None:
    linear = fit_settings("p", lr=0.1, epochs=3)

    assert linear.notes() == ("--lr, --epochs have no effect on a linear head, which is solved, not trained by epochs",)
    assert fit_settings("p", head="mlp:8", lr=0.1).notes() == ()
    assert fit_settings("p").notes() == ()


def test_command__asks_for_the_same_again() -> None:
    settings = fit_settings("my photos", head="mlp:8,4", dropout="0.5,0.3", no_cache=True, mean=0.5, lr=0.1)

    assert settings.command() == (
        "headway fit 'my photos' --mean 0.5,0.5,0.5 --head mlp:8,4 --dropout 0.5,0.3 --lr 0.1 --no-cache"
    )


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "image": st.integers(16, 224),
        "resize": st.one_of(st.just("none"), st.integers(224, 512)),
        "mean": st.tuples(*[st.floats(0, 1)] * 3),
        "views": st.one_of(st.just("flip"), st.integers(1, 9)),
        "head": st.sampled_from(["linear", "mlp:1024,256"]),
        "l2": st.one_of(st.just("auto"), st.floats(0, 10)),
        "seed": st.integers(0, 2**63 - 1),
        "run": st.sampled_from(["runs/a b", os.fsdecode(b"\xff"), "a'b", "none", "1"]),
        "backbone": st.text(min_size=1, max_size=9),
        "offline": st.booleans(),
    },
)


@given(data=st.sampled_from(["photos", "é 'x'", os.fsdecode(b"\xff.csv"), "yes"]), options=OPTIONS)
def test_yaml__comes_back(data: str, options: dict[str, Any]) -> None:
    settings = fit_settings(data, **options)

    assert from_yaml(to_yaml(settings)) == settings


def _typed(words: list[str]) -> dict[str, Any]:
    """The options that a command line gives, by the table that --help shows."""
    switches = {row.flag for row in FIT if not row.metavar}
    given, rest = {}, iter(words)
    for word in rest:
        given[word.removeprefix("--").replace("-", "_")] = True if word in switches else next(rest)
    return given


@given(options=OPTIONS)
def test_command__comes_back(options: dict[str, Any]) -> None:
    settings = fit_settings("photos", **options)
    program, verb, data, *words = shlex.split(settings.command())

    assert (program, verb) == ("headway", "fit")
    assert fit_settings(data, **_typed(words)) == settings


@pytest.mark.parametrize("text", ["", "- 1", "a: 1", "3"])
def test_from_yaml__something_else(text: str) -> None:
    with pytest.raises(Refused) as caught:
        from_yaml(text, "x.yaml")

    assert str(caught.value) == (
        "x.yaml does not hold the settings of a run: expected the names of options, data among them"
    )


def test_from_yaml__runs_no_code() -> None:
    with pytest.raises(Refused, match=r"settings\.yaml is not YAML"):
        from_yaml("data: !!python/object/apply:os.system ['true']")


def test_options__help_and_settings_agree() -> None:
    fields = {name: field for name, field in FitSettings.model_fields.items() if name != "data"}

    assert {row.name for row in FIT} == set(fields)
    for row in FIT:
        default = fields[row.name].default
        if isinstance(default, bool):
            assert not row.metavar, f"{row.flag} is a switch"
        elif default is not None:
            assert getattr(fit_settings("p", **{row.name: row.default}), row.name) == default, row.flag


def test_import__is_quick_and_light() -> None:
    code = "import sys, headway.settings; print(','.join(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"torch", "numpy", "PIL", "yaml", "timm"} & set(done.stdout.strip().split(",")) == set()


def test_settings__accepts_paths(tmp_path: Path) -> None:
    assert fit_settings(tmp_path, split=tmp_path / "split.csv").split == tmp_path / "split.csv"
