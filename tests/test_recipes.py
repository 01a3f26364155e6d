"""Recipes: each says to the letter what its system says, marks who says so, and gives way to what is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

import headway
from headway.cli import app
from headway.defaults import understands
from headway.errors import Refused
from headway.recipes import book
from headway.settings import FitSettings, fit_settings, to_yaml
from headway.terminal import outcome

# What the three systems say: A the tutorial on dogs and cats, B CIFAR-100, C dogs and cats with a deep head.
_A = {
    "strategy": "finetune",
    "backbone": "resnet18.tv_in1k",
    "head": "linear",
    "head_init": "random",
    "image": 224,
    "resize": 256,
    "fit": "crop",
    "augment": "crop",
    "optimizer": "sgd",
    "lr": 1e-4,
    "schedule": "step:7:0.1",
    "epochs": 25,
    "batch": 8,
    "keep": "val.accuracy",
    "patience": 0,
    "label_smoothing": 0.0,
}
_B_CNN = {
    "strategy": "scratch",
    "backbone": "cnn",
    "head": "mlp:256",
    "image": 32,
    "mean": (0.5071, 0.4867, 0.4408),
    "std": (0.2675, 0.2565, 0.2761),
    "batch": 200,
    "val": 5_000 / 50_000,
}
SEEDS: dict[str, dict[str, Any]] = {
    "seed-a-finetune": {**_A, "thaw": "all", "momentum": 0.9, "freeze_bn": False},
    "seed-a-probe": {**_A, "thaw": 0},
    "seed-b-cnn": {**_B_CNN, "epochs": 10},
    "seed-b-cnn-until": {**_B_CNN, "until": "val.accuracy=0.4737", "patience": 5},
    "seed-b-transfer": {
        "strategy": "probe",
        "backbone": "resnet18.tv_in1k",
        "head": "mlp:256",
        "taps": "last",
        "standardize": False,
        "image": 224,
        "epochs": 10,
        "val": 5_000 / 50_000,
    },
    "seed-c": {
        "backbone": "resnet50.tv_in1k",
        "head_init": "random",
        "head": "mlp:1024,256",
        "dropout": (0.5, 0.3),
        "log_softmax": True,
        "label_smoothing": 0.0,
        "val": pytest.approx(2_002 / 25_000),
        "test": pytest.approx(4_600 / 25_000),
    },
}
# Where they are silent, what was agreed on.
_PLAIN = {"weight_decay": 0.0, "clip": 0.0, "warmup": 0.0, "ema": 0.0}
_RAW = {**_PLAIN, "mixup": 0.0, "cutmix": 0.0, "erase": 0.0, "views": None}
OURS: dict[str, dict[str, Any]] = {
    "seed-a-finetune": {**_RAW, "crop_scale": 0.08, "layer_decay": 1.0},
    "seed-a-probe": {**_RAW, "crop_scale": 0.08, "layer_decay": 1.0, "momentum": 0.0},
    "seed-b-cnn": {**_PLAIN, "optimizer": "adam", "lr": 1e-3, "schedule": "none", "augment": "none", "patience": 0},
    "seed-b-cnn-until": {
        **_PLAIN,
        "optimizer": "adam",
        "lr": 1e-3,
        "schedule": "none",
        "augment": "none",
        "epochs": 100,
    },
    "seed-b-transfer": {
        **_PLAIN,
        "optimizer": "adam",
        "lr": 1e-3,
        "schedule": "none",
        "batch": 200,
        "views": None,
        "patience": 0,
        "fit": "squash",
    },
    "seed-c": {
        **_RAW,
        "strategy": "finetune",
        "thaw": 0,
        "optimizer": "adam",
        "lr": 1e-3,
        "schedule": "none",
        "batch": 64,
        "epochs": 10,
        "image": 224,
        "resize": 256,
        "fit": "crop",
        "augment": "crop",
        "crop_scale": 0.08,
    },
}
EXPECTED = {
    "seed-b-cnn": {"train_accuracy": 0.4813, "val_accuracy": 0.3629, "test_accuracy": 0.3611, "seconds": 89.83},
    "seed-b-cnn-until": {"train_accuracy": 0.7227, "val_accuracy": 0.3629, "test_accuracy": 0.3712, "epochs": 17},
    "seed-b-transfer": {
        "train_accuracy": 0.4744,
        "val_accuracy": 0.4737,
        "test_accuracy": 0.4734,
        "seconds": 745.74,
        "parameters": 11_333_540,
        "trainable": 157_028,
    },
    "seed-c": {
        "test_accuracy": 0.9828,
        "cat_precision": 0.9728,
        "cat_recall": 0.9935,
        "dog_precision": 0.9933,
        "dog_recall": 0.9722,
    },
}
# What does not belong to a recipe: where data and results are, and what the machine can do.
_ELSEWHERE = {"data", "run", "recipe", "split", "threads", "workers", "micro_batch", "engine", "device", "no_cache"} | {
    *("offline", "allow_bad", "allow_inexact", "sync_bn", "log_softmax", "checkpoint_every", "portable", "budget"),
    *("map", "track"),
}
ALL = book.names()


def settings(name: str, **options: Any) -> FitSettings:
    return fit_settings("photos", recipe=name, **options)


def refusal(**options: Any) -> str:
    with pytest.raises(Refused) as caught:
        fit_settings("photos", **options)
    return str(caught.value)


def written(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return str(folder / "mine.yaml")


# Those that come with headway


def test_names__what_was_promised() -> None:
    assert {*SEEDS, "fast", "best"} == set(ALL)


@pytest.mark.parametrize("name", SEEDS)
def test_seed__says_what_its_system_says(name: str) -> None:
    made = settings(name)
    marks = book.read_recipe(name).marks

    assert {key: getattr(made, key) for key in SEEDS[name]} == SEEDS[name]
    assert {key for key in SEEDS[name] if marks[key] != "seed"} == set()


@pytest.mark.parametrize("name", SEEDS)
def test_seed__what_is_ours_is_marked_so(name: str) -> None:
    made = settings(name)
    marks = book.read_recipe(name).marks

    assert {key: getattr(made, key) for key in OURS[name]} == OURS[name]
    assert {key for key in OURS[name] if marks[key] != "ours"} == set()


@pytest.mark.parametrize("name", EXPECTED)
def test_seed__figures_to_expect(name: str) -> None:
    expect = book.read_recipe(name).expect

    assert {key: expect.get(key) for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", ["seed-a-finetune", "seed-a-probe", "seed-b-transfer", "seed-c"])
def test_seed__the_weights_ask_for_mean_and_std_of_imagenet(name: str) -> None:
    import timm

    cfg = timm.get_pretrained_cfg(settings(name).backbone)

    assert settings(name).mean is None
    assert cfg is not None
    assert (cfg.mean, cfg.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", ALL)
def test_recipe__names_every_setting_that_does_something(name: str) -> None:
    made, recipe = settings(name), book.read_recipe(name)
    random_head = {"l2", "standardize"} if made.strategy == "finetune" and made.head_init == "random" else set()
    heard = {key for key in FitSettings.model_fields if understands(key, made.strategy, made.head)}

    assert heard - _ELSEWHERE - random_head <= set(recipe.values)
    assert set(recipe.marks.values()) <= {"seed", "ours"}
    assert recipe.about
    assert recipe.expect
    assert made.notes() == ()


@pytest.mark.parametrize("name", ALL)
def test_recipe__is_nothing_but_what_can_be_typed(name: str) -> None:
    made = settings(name)
    plain = made.model_copy(update={"recipe": None})

    assert made.asked() == {"recipe": name}
    assert made.command() == f"headway fit photos --recipe {name}"
    assert fit_settings("photos", **plain.asked()) == plain


@pytest.mark.parametrize("name", ALL)
def test_recipe__survives_a_round_trip_without_being_read_again(name: str) -> None:
    from headway.settings import from_yaml

    made = settings(name)

    assert from_yaml(to_yaml(made)) == made
    assert from_yaml(to_yaml(made).replace(f"recipe: {name}", "recipe: gone")).recipe == "gone"


# What is typed goes before it


@pytest.mark.parametrize(
    ("name", "typed", "becomes"),
    [
        ("seed-a-finetune", {"epochs": 2, "lr": "auto"}, {"epochs": 2, "lr": "auto", "batch": 8, "momentum": 0.9}),
        ("seed-a-finetune", {"backbone": "tf_efficientnet_lite0"}, {"resize": 256, "mean": None}),
        ("seed-a-finetune", {"image": 288}, {"image": 288, "resize": None}),
        ("seed-a-finetune", {"fit": "pad"}, {"fit": "pad", "resize": None}),
        ("seed-a-finetune", {"thaw": 1}, {"thaw": 1, "augment": "crop"}),
        ("seed-a-finetune", {"thaw": 1, "augment": "auto"}, {"augment": "none"}),
        ("seed-a-probe", {"thaw_every": 2}, {"thaw": "all"}),
        ("seed-a-finetune", {"freeze_bn": True}, {"freeze_bn": True}),
        ("seed-a-finetune", {"strategy": "probe"}, {"strategy": "probe", "thaw": 0, "augment": "none", "resize": 256}),
        ("seed-a-finetune", {"strategy": "scratch"}, {"thaw": "all", "head_init": "random", "lr": 1e-4}),
        ("best", {"schedule": "onecycle"}, {"warmup": 0, "schedule": "onecycle"}),
        ("seed-c", {"head": "linear"}, {"head": "linear", "dropout": (0.0,)}),
        ("seed-c", {"head": "mlp:64,32"}, {"dropout": (0.5, 0.3)}),
        ("seed-c", {"head": "mlp:64,32,8"}, {"dropout": (0.0,)}),
        ("seed-c", {"log_softmax": False}, {"log_softmax": False}),
    ],
)
def test_typed__goes_before_the_recipe(name: str, typed: dict[str, Any], becomes: dict[str, Any]) -> None:
    made = settings(name, **typed)

    assert {key: getattr(made, key) for key in becomes} == becomes
    assert fit_settings("photos", **made.asked()) == made


def test_typed__only_what_differs_is_told() -> None:
    assert settings("seed-b-cnn", batch=200, epochs=3).command() == (
        "headway fit photos --recipe seed-b-cnn --epochs 3"
    )


# Names and files


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("seed-b-cn", "no recipe seed-b-cn. Did you mean seed-b-cnn or seed-b-cnn-until or seed-c ?"),
        ("xyzzy", f"no recipe xyzzy. There are: {', '.join(ALL)}"),
        ("x/y", f"--recipe x/y: no such file. Expected a file, or one of {', '.join(ALL)}"),
        ("y.yaml", f"--recipe y.yaml: no such file. Expected a file, or one of {', '.join(ALL)}"),
    ],
)
def test_unknown__the_near_ones_are_told(asked: str, said: str) -> None:
    assert refusal(recipe=asked) == said


def test_unknown__other_problems_are_told_beside_it() -> None:
    assert refusal(recipe="xyzzy", thaw=2, epochs=0) == (
        "2 problems:\n"
        "  --epochs 0: expected auto, or a whole number of 1 or more\n"
        f"  no recipe xyzzy. There are: {', '.join(ALL)}"
    )


def test_file__with_marks_and_without(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "about: mine\nexpect: {test_accuracy: 0.9}\nsettings:\n"
        "  strategy: {ours: finetune, why: why not}\n  lr: 2e-5\n  thaw: {seed: 2}\n",
    )

    recipe = book.read_recipe(file)

    assert (recipe.about, recipe.expect) == ("mine", {"test_accuracy": 0.9})
    assert recipe.marks == {"strategy": "ours", "lr": "", "thaw": "seed"}
    assert recipe.whys == {"strategy": "why not"}
    assert (settings(file).lr, settings(file).thaw, settings(file).augment) == (2e-5, 2, "none")
    assert settings(file).command() == f"headway fit photos --recipe {file}"


def test_file__settings_of_a_run_are_a_recipe(tmp_path: Path) -> None:
    old = fit_settings("elsewhere", strategy="finetune", thaw=2, epochs=9, run="runs/x", seed=4)

    made = settings(written(tmp_path, to_yaml(old)))

    assert made.model_copy(update={"recipe": None}) == old.model_copy(update={"data": Path("photos"), "run": None})


def test_file__that_is_gone_leaves_the_command_whole(tmp_path: Path) -> None:
    file = written(tmp_path, "epochs: 9\nhead: mlp:8\n")
    made = settings(file)
    Path(file).unlink()

    assert made.command() == "headway fit photos --head mlp:8 --epochs 9"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "{file} is not a recipe: expected settings, as lr: 0.001"),
        ("- 1", "{file} is not a recipe: expected settings, as lr: 0.001"),
        ("1: 2", "{file} is not a recipe: expected settings, as lr: 0.001"),
        ("settings: 3", "{file}: settings: expected names of options and their values, as lr: 0.001"),
        ("lr: -1", "{file}: lr -1: expected auto, or a number above 0"),
        ("lrr: 1", "{file}: no setting lrr. Did you mean lr ?"),
        (
            "settings: {lr: {they: 3}}",
            "{file}: lr: expected a value, or one with its mark, as {{seed: 0.001}} or {{ours: 0.001}}",
        ),
        ("settings: {run: x}", "{file}: run belongs to a run, not to a recipe"),
        (
            "settings: {epochs: 0, optimizer: sdg, lrr: 1}\n",
            "3 problems:\n  {file}: optimizer sdg: expected sgd, adam or adamw. Did you mean sgd ?\n"
            "  {file}: epochs 0: expected auto, or a whole number of 1 or more\n"
            "  {file}: no setting lrr. Did you mean lr ?",
        ),
        (
            "about: x\nexpected: 3\nsettings: {data: x}\nexpect: 3\n",
            "3 problems:\n  {file}: no part expected: expected about, expect, settings\n"
            "  {file}: expect: expected figures by their names, and words after says:\n"
            "  {file}: data belongs to a run, not to a recipe",
        ),
        (
            "thaw: 3",
            "--thaw 3 does not go with --strategy probe, which trains the head alone. Thawing needs "
            "--strategy finetune",
        ),
    ],
)
def test_file__that_cannot_work(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)

    assert refusal(recipe=file) == said.format(file=file)


def test_file__runs_no_code(tmp_path: Path) -> None:
    file = written(tmp_path, "lr: !!python/object/apply:os.system ['true']")

    assert refusal(recipe=file).startswith(f"{file} is not YAML: could not determine a constructor")


def test_file__no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")

    assert refusal(recipe=str(tmp_path / "x.yaml")).startswith(f"{tmp_path / 'x.yaml'} is not YAML: ")


# Shown


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert outcome.run(typer.main.get_command(app), words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_recipes__as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "recipes").splitlines()

    assert lines[0].split() == ["recipe", "what", "it", "is", "expect"]
    assert [line.split()[0] for line in lines[1:-2]] == list(ALL)
    assert "test accuracy 0.3611" in lines[1 + ALL.index("seed-b-cnn")]
    assert lines[-1] == "headway recipes NAME shows one; headway fit DATA --recipe NAME follows it"


def test_recipes__as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "recipes", "--json"))["recipes"]

    assert [one["name"] for one in found] == list(ALL)
    assert found[ALL.index("seed-c")]["expect"]["test_accuracy"] == 0.9828


def test_recipe__shows_who_says_what(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "recipes", "seed-a-probe")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}

    assert rows["lr"] == ["0.0001", "seed"]
    assert rows["momentum"] == ["0", "ours", "none", "is", "stated"]
    assert rows["mean"][:6] == ["as", "the", "weights", "ask", "seed", "ImageNet's,"]
    assert "  headway fit DATA --strategy finetune --thaw 0 --head-init random" in text


@pytest.mark.parametrize("name", ALL)
def test_recipe__the_command_shown_asks_for_the_same(capsys: pytest.CaptureFixture[str], name: str) -> None:
    shown = json.loads(said(capsys, "recipes", name, "--json"))
    made = fit_settings("DATA", recipe=name).model_copy(update={"recipe": None})

    assert shown["command"] == made.command()
    assert "--recipe" not in shown["command"]
    assert {key: told["value"] for key, told in shown["settings"].items()} == {
        key: value for key, value in made.model_dump(mode="json").items() if key in shown["settings"]
    }


def test_list_recipes__for_python() -> None:
    assert tuple(recipe.source for recipe in headway.list_recipes()) == ALL
