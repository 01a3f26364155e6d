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

from headway.conflicts import option
from headway.defaults import STRATEGIES, by_strategy
from headway.errors import Refused
from headway.settings import FitSettings, fit_settings, from_yaml, to_yaml
from headway.terminal.options import FIT
from headway.training.head_settings import HeadSettings

# Just inside and just outside what each option takes, and what is said then.
_WHOLE = "a whole number of 1 or more"
_SCHEDULE = "none, cosine, onecycle, or step:EPOCHS:FACTOR as step:7:0.1"
_UNTIL = "METRIC=VALUE, as val.accuracy=0.9 (a share above 0, up to 1) or val.loss=0.1 (a number above 0)"
RANGES: list[tuple[str, list[Any], list[Any], str]] = [
    ("strategy", ["auto", "probe", "finetune", "scratch"], ["magic", 1], "auto, probe, finetune or scratch"),
    ("budget", ["90s", "10m", "1.5h", 30, "45"], ["0", "-1m", "x", "2d", "m", True], "a time as 90s, 10m or 2h"),
    ("thaw", ["all", 0, "12"], [-1, 13, "x", 1.5, True], "all, or a whole number from 0 to 12 (stages)"),
    ("thaw_every", [0, "3"], [-1, "x", True], "a whole number of 0 or more (epochs)"),
    ("head_init", ["probe", "random"], ["zzz"], "probe or random"),
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
        "augment",
        ["auto", "none", "flip", "crop", "trivial", "rand"],
        ["zzz"],
        "auto, none, flip, crop, trivial or rand",
    ),
    ("crop_scale", [0.01, "1"], [0, 1.1, "x", True], "a share above 0, up to 1"),
    ("erase", [0, "1"], [-0.1, 1.1, "x"], "a share from 0 to 1"),
    ("mixup", [0, "0.2", 9], [-0.1, "inf", "x"], "a number of 0 or more"),
    ("cutmix", [0, "1"], [-0.1, "nan", "x"], "a number of 0 or more"),
    (
        "head",
        ["linear", "prototype", "mlp:256", "mlp:1024,256"],
        ["mlp", "mlp:", "mlp:0", "mlp:1,", "x"],
        "linear, prototype, or mlp: with the widths of the hidden layers, as mlp:256 or mlp:1024,256",
    ),
    ("l2", ["auto", 0, "0.1"], [-0.1, "x", "nan", "inf", True], "auto, or a number of 0 or more"),
    ("standardize", [True, False], [3, "x"], "true or false"),
    ("balance", ["none", "weights", "logit"], ["x", True], "none, weights or logit"),
    ("log_softmax", [True, False], [3, "x"], "true or false"),
    ("optimizer", ["sgd", "adam", "adamw"], ["rms"], "sgd, adam or adamw"),
    ("lr", ["auto", 1e-9, "1"], [0, -1, "x", "nan", "inf", True], "auto, or a number above 0"),
    ("momentum", [0, 0.99], [1, -0.1], "a number from 0 to below 1"),
    ("nesterov", [True, False], [3, "x"], "true or false"),
    ("weight_decay", [0, "0.05"], [-0.1, "x", "inf"], "a number of 0 or more"),
    ("layer_decay", [0.1, "1"], [0, 1.1, "x"], "a number above 0, up to 1"),
    (
        "schedule",
        ["none", "cosine", "onecycle", "step:1:1", "step:7:0.1"],
        ["step:0:0.1", "step:7:0", "step:7:1.1", "line:x"],
        _SCHEDULE,
    ),
    ("warmup", [0, "0.5", 3], [-0.1, "x", "inf"], "a number of 0 or more (epochs)"),
    ("batch", [1, "200"], [0, "x"], _WHOLE),
    ("micro_batch", [1, "200"], [0, "x"], _WHOLE),
    ("epochs", [1, "200", "auto"], [0, -1, 1.5, "x", "1.5", True], "auto, or a whole number of 1 or more"),
    ("patience", [0, 1], [-1], "a whole number of 0 or more (epochs)"),
    (
        "until",
        ["val.accuracy=0.4737", "val.accuracy=1", "val.loss=2"],
        ["val.accuracy", "val.accuracy=0", "val.accuracy=1.1", "val.accuracy=x", "val.loss=-1", "val.loss=inf", "x=1"],
        _UNTIL,
    ),
    ("keep", ["val.accuracy", "val.loss"], ["x"], "val.accuracy or val.loss"),
    ("freeze_bn", [True, False], [3, "x"], "true or false"),
    ("sync_bn", [True, False], [3, "x"], "true or false"),
    ("label_smoothing", [0, 0.1], [1, -0.1], "a number from 0 to below 1"),
    ("ema", [0, 0.999], [1, -0.1], "a number from 0 to below 1"),
    ("clip", [0, "1.5"], [-1, "x", "nan"], "a number of 0 or more"),
    ("val", [0.01, "0.5"], [0, 1, "x"], "a share above 0 and below 1"),
    ("test", [0.01, "0.5"], [0, 1, "x"], "a share above 0 and below 1"),
    ("split", ["runs/a"], [3], "a run folder or a split.csv"),
    ("seed", [0, 2**63 - 1], [-1, 2**63, "x"], "a whole number of 0 or more"),
    ("threads", [1], [0, "x"], _WHOLE),
    ("workers", [0, "2"], [-1, "x"], "a whole number of 0 or more"),
    (
        "engine",
        ["auto", "torch", "compiled", "onnxruntime", "openvino", "native"],
        ["gpu"],
        "auto, torch, compiled, onnxruntime, openvino or native",
    ),
    ("precision", ["fp32", "int8", "auto", "bf16", "fp16"], ["half"], "fp32, int8, auto, bf16 or fp16"),
    ("portable", [True, False], ["perhaps"], "true or false"),
    ("device", ["auto", "cpu", "mps", "cuda", "cuda:3"], ["gpu", "cuda:"], "auto, cpu, mps, cuda or cuda:NUMBER"),
    ("no_cache", [True, False], [3], "true or false"),
    ("offline", [True, False], [3], "true or false"),
    ("checkpoint_every", [0, "60"], [-1, "x"], "a whole number of 0 or more (seconds)"),
    ("allow_bad", [True, False], [3], "true or false"),
    ("allow_inexact", [True, False], [3], "true or false"),
    ("map", ["none", "pca", "umap"], ["zzz", True], "none, pca or umap"),
    ("track", ["none", "tensorboard", "mlflow"], ["wandb", True], "none, tensorboard or mlflow"),
    ("run", ["runs/x"], [3], "a folder"),
]
# The strategy under which a value is right, where it is not under all of them, and what else it needs.
COMPANY: dict[str, dict[str, Any]] = {
    **{key: {"strategy": "finetune"} for key in ("thaw", "thaw_every", "augment", "erase", "mixup", "cutmix")},
    "nesterov": {"optimizer": "sgd"},
}


def message(data: Any = "photos", **options: Any) -> str:
    """What is said when these options are refused."""
    with pytest.raises(Refused) as caught:
        fit_settings(data, **options)
    return str(caught.value)


@pytest.mark.parametrize(("name", "good"), [(name, value) for name, good, _, _ in RANGES for value in good])
def test_settings__inside_the_range(name: str, good: Any) -> None:
    assert getattr(fit_settings("photos", **{**COMPANY.get(name, {}), name: good}), name) is not None


@pytest.mark.parametrize(
    ("name", "bad", "expected"), [(name, value, text) for name, _, bad, text in RANGES for value in bad]
)
def test_settings__outside_the_range(name: str, bad: Any, expected: str) -> None:
    assert message(**{name: bad}) == f"{option(name)} {bad if bad != '' else repr(bad)}: expected {expected}"


def test_settings__every_option_has_a_range_here() -> None:
    covered = {name for name, _, _, _ in RANGES} | {"data", "dropout", "recipe"}

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
        "  --epochs 0: expected auto, or a whole number of 1 or more\n"
        "  no option --imgae. Did you mean --image ?\n"
        "  --val 0.6 and --test 0.6 leave nothing to train on\n"
        "  --resize works with --fit crop only; --fit pad scales to --image"
    )


def test_settings__unknown_and_nothing_near() -> None:
    assert message(xyzzy=1) == "no option --xyzzy. See: headway fit --help"


def test_settings__data_is_no_path() -> None:
    assert message(data=3) == "the data 3: expected the path of a folder or file"


_TAPS = "which hands on the last features of the network, as --taps last"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dropout": 0.5}, "--dropout works before hidden layers; a linear head has none. Try --head mlp:256"),
        (
            {"head": "prototype", "dropout": 0.5},
            "--dropout works before hidden layers; a prototype head has none. Try --head mlp:256",
        ),
        ({"head": "prototype", "l2": 0.1}, "--l2 0.1 has no place in --head prototype: take linear"),
        (
            {"head": "prototype", "strategy": "scratch"},
            "--head prototype is made of features, and there are none before a network is trained: take linear",
        ),
        (
            {"head": "prototype", "strategy": "finetune", "head_init": "random"},
            "--head prototype is made of features, and there are none before a network is trained: take linear",
        ),
        (
            {"head": "mlp:8,4", "dropout": "0.1,0.2,0.3"},
            "--dropout 0.1,0.2,0.3 has 3 numbers, the hidden layers of --head mlp:8,4 are 2: "
            "expected one number, or one for each",
        ),
        (
            {"head": "mlp:8", "l2": 0.1, "weight_decay": 0.5},
            "--l2 0.1 and --weight-decay 0.5 are two names of one thing for a head with hidden layers: leave one out",
        ),
        ({"resize": 100}, "--resize 100 is smaller than --image 224, which is cut out of it"),
        ({"fit": "squash", "resize": "none"}, "--resize works with --fit crop only; --fit squash scales to --image"),
        ({"val": 0.5, "test": 0.5}, "--val 0.5 and --test 0.5 leave nothing to train on"),
        (
            {"head": "mlp:8", "schedule": "onecycle", "warmup": 1},
            "--schedule onecycle brings its own warm-up: leave out --warmup 1, or take cosine",
        ),
        (
            {"strategy": "finetune", "nesterov": True},
            "--nesterov is a kind of momentum, which --optimizer adamw has not: "
            "expected --optimizer sgd with --momentum above 0",
        ),
        (
            {"strategy": "finetune", "optimizer": "sgd", "nesterov": True, "momentum": 0},
            "--nesterov is a kind of momentum, which --momentum 0 has not: "
            "expected --optimizer sgd with --momentum above 0",
        ),
        (
            {"strategy": "finetune", "micro_batch": 64},
            "--micro-batch 64 is more than --batch 32, of which it is a part",
        ),
        (
            {"strategy": "finetune", "thaw_every": 2, "thaw": 3},
            "--thaw-every 2 thaws one stage after the other until all are trained; --thaw 3 keeps the others frozen: "
            "leave one out",
        ),
        (
            {"thaw": 2},
            "--thaw 2 does not go with --strategy probe, which trains the head alone. Thawing needs "
            "--strategy finetune",
        ),
        (
            {"thaw_every": 1},
            "--thaw-every 1 does not go with --strategy probe, which trains the head alone. Thawing needs "
            "--strategy finetune",
        ),
        (
            {"strategy": "scratch", "thaw": 2},
            "--thaw 2 does not go with --strategy scratch, which trains all of the network. Try --strategy finetune",
        ),
        (
            {"strategy": "scratch", "head_init": "probe"},
            "--head-init probe does not go with --strategy scratch, which has no features yet to solve a head on: "
            "it is random",
        ),
        (
            {"strategy": "scratch", "freeze_bn": True},
            "--freeze-bn does not go with --strategy scratch, which has no statistics yet that could be kept: "
            "BatchNorm must learn them",
        ),
        (
            {"mixup": 0.2},
            "--mixup 0.2 does not go with --strategy probe, which mixes no images, as it looks once at each. "
            "Try --strategy finetune",
        ),
        (
            {"cutmix": 1},
            "--cutmix 1 does not go with --strategy probe, which mixes no images, as it looks once at each. "
            "Try --strategy finetune",
        ),
        (
            {"augment": "crop"},
            "--augment crop does not go with --strategy probe, which looks once at each image. "
            "Try --views flip or --views 4",
        ),
        (
            {"erase": 0.5},
            "--erase 0.5 does not go with --strategy probe, which looks once at each image. Try --strategy finetune",
        ),
        ({"strategy": "finetune", "taps": "all"}, f"--taps all does not go with --strategy finetune, {_TAPS}"),
        ({"strategy": "scratch", "taps": "all"}, f"--taps all does not go with --strategy scratch, {_TAPS}"),
        (
            {"strategy": "scratch", "views": 3},
            "--views 3 does not go with --strategy scratch, which shows every image anew in each epoch. "
            "Try --augment crop",
        ),
        (
            {"strategy": "scratch", "weights": "w.pth"},
            "--weights w.pth does not go with --strategy scratch, which begins with random ones. "
            "Try --strategy finetune",
        ),
        (
            {"strategy": "finetune", "backbone": "cnn"},
            "--backbone cnn comes with no weights that --strategy finetune could begin with: "
            "train it by --strategy scratch, or take random ones by --weights none",
        ),
        (
            {"strategy": "finetune", "views": 3},
            "--views 3 keeps what a frozen part of the network sees, and none stays frozen: "
            "leave it out, or give --thaw 1 or more",
        ),
        (
            {"strategy": "finetune", "views": "flip", "thaw": 1},
            "--views flip is for --strategy probe. Try --augment flip",
        ),
        (
            {"strategy": "finetune", "views": 3, "thaw": 1, "augment": "none"},
            "--views 3 are so many random changes of each image, and --augment none has none",
        ),
        (
            {"strategy": "finetune", "precision": "fp16", "device": "cpu"},
            "--precision fp16 needs a GPU: on --device cpu take fp32, or bf16 where the processor has it",
        ),
        (
            {"strategy": "finetune", "precision": "int8"},
            "--precision int8 is for a frozen network, and --strategy finetune trains it: take fp32, bf16 or fp16",
        ),
        (
            {"precision": "auto", "engine": "onnxruntime"},
            "--precision auto runs in openvino alone: leave out --engine onnxruntime",
        ),
    ],
)
def test_settings__options_that_exclude_each_other(options: dict[str, Any], expected: str) -> None:
    assert message(**options) == expected


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"schedule": "onecyle"}, f"--schedule onecyle: expected {_SCHEDULE}. Did you mean onecycle ?"),
        ({"until": "val.acc=0.4"}, f"--until val.acc=0.4: expected {_UNTIL}. Did you mean val.accuracy=0.4 ?"),
        (
            {"strategy": "fintune"},
            "--strategy fintune: expected auto, probe, finetune or scratch. Did you mean finetune ?",
        ),
        ({"thaw": "al"}, "--thaw al: expected all, or a whole number from 0 to 12 (stages). Did you mean all ?"),
    ],
)
def test_settings__the_nearest_right_value(options: dict[str, Any], near: str) -> None:
    assert message(**options) == near


# What is taken where nothing was said


# As they are documented; the first of three is the probe's, then finetune's, then scratch's.
DEFAULTS: dict[str, tuple[Any, Any, Any]] = {
    "thaw": (0, "all", "all"),
    "head_init": ("probe", "probe", "random"),
    "taps": ("auto", "last", "last"),
    "augment": ("none", "crop", "crop"),
    "optimizer": ("adamw", "adamw", "adamw"),
    "lr": (2e-3, 1e-5, 3e-3),
    "weight_decay": (1.0, 0.01, 0.05),
    "layer_decay": (1, 0.8, 1),
    "schedule": ("cosine", "cosine", "onecycle"),
    "warmup": (0, 0.5, 0),
    "batch": (200, 32, 128),
    "epochs": ("auto", 5, 30),
    "patience": (5, 0, 0),
    "keep": ("val.accuracy", "val.loss", "val.accuracy"),
    "freeze_bn": (True, True, False),
    "clip": (0, 1, 0),
    "image": (224, 224, 224),
    "crop_scale": (0.35, 0.35, 0.35),
    "standardize": (True, True, True),
    "precision": ("fp32", "fp32", "fp32"),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_defaults__of_each_strategy(strategy: str) -> None:
    settings = fit_settings("p", strategy=strategy)

    assert settings.strategy == strategy
    assert {name: getattr(settings, name) for name in DEFAULTS} == {
        name: values[STRATEGIES.index(strategy)] for name, values in DEFAULTS.items()
    }
    assert settings.asked() == ({} if strategy == "probe" else {"strategy": strategy})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"strategy": "probe"}),
        ({"strategy": "auto"}, {"strategy": "probe"}),
        ({"backbone": "cnn"}, {"strategy": "scratch", "image": 32, "augment": "flip", "lr": 3e-3}),
        ({"backbone": "cnn", "image": 96}, {"image": 96, "augment": "crop"}),
        ({"backbone": "cnn", "weights": "none", "strategy": "probe"}, {"strategy": "probe", "image": 32}),
        ({"strategy": "scratch", "schedule": "cosine"}, {"lr": 1e-3, "warmup": 0}),
        ({"strategy": "scratch", "schedule": "cosine", "lr": 0.1}, {"lr": 0.1}),
        ({"strategy": "scratch", "optimizer": "sgd"}, {"weight_decay": 0}),
        ({"strategy": "finetune", "schedule": "onecycle"}, {"warmup": 0, "lr": 1e-5}),
        ({"strategy": "finetune", "thaw": 2}, {"augment": "none", "layer_decay": 0.8}),
        ({"strategy": "finetune", "thaw": 2, "views": 4}, {"augment": "crop"}),
        ({"strategy": "finetune", "thaw_every": 1}, {"thaw": "all", "augment": "crop"}),
        ({"strategy": "finetune", "taps": "auto", "augment": "auto"}, {"taps": "last", "augment": "crop"}),
        ({"head": "mlp:8", "l2": 0.3}, {"weight_decay": 0.3, "l2": 0.3}),
        ({"head": "mlp:8", "optimizer": "adam"}, {"weight_decay": 0}),
    ],
)
def test_defaults__depend_on_what_was_said(options: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = fit_settings("p", **options)

    assert {name: getattr(settings, name) for name in expected} == expected


def test_target__is_what_until_says() -> None:
    assert fit_settings("p", head="mlp:8", until="val.loss=0.25").target == ("val.loss", 0.25)
    assert fit_settings("p").target is None


def test_by_epochs__all_but_a_linear_head() -> None:
    assert [fit_settings("p", strategy=strategy).by_epochs for strategy in STRATEGIES] == [False, True, True]
    assert fit_settings("p", head="mlp:8").by_epochs


def test_for_head__is_the_probe_that_fine_tuning_begins_with() -> None:
    asked = {"image": 96, "seed": 3, "head": "mlp:8", "balance": "weights", "standardize": False, "l2": 0.1}
    tuned = {"epochs": 2, "lr": "auto", "batch": 8, "until": "val.loss=1", "precision": "bf16", "ema": 0.9, "views": 2}

    settings = fit_settings("p", strategy="finetune", thaw=1, **asked, **tuned)

    assert settings.for_head() == fit_settings("p", taps="last", **asked)


@pytest.mark.parametrize(("balance", "start"), [("none", "none"), ("weights", "weights"), ("logit", "none")])
def test_for_head__logits_are_shifted_once_after_training(balance: str, start: str) -> None:
    assert fit_settings("p", strategy="finetune", balance=balance).for_head().balance == start


def test_settings__frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        fit_settings("photos").seed = 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"head": "mlp:8", "lr": 0.1}, []),
        ({"recipe": "fast"}, []),
        (
            {"lr": 0.1, "epochs": 3},
            ["--lr, --epochs have no effect on a linear head, which is solved, not trained by epochs"],
        ),
        (
            {"until": "val.loss=1"},
            ["--until has no effect on a linear head, which is solved, not trained by epochs"],
        ),
        (
            {"standardize": False, "freeze_bn": False, "layer_decay": 0.5},
            [
                "--standardize has no effect on a linear head, which is solved, not trained by epochs",
                "--layer-decay, --freeze-bn have no effect with --strategy probe",
            ],
        ),
        (
            {"head": "prototype", "balance": "logit"},
            ["--balance has no effect on prototypes, which count classes alike"],
        ),
        ({"head": "prototype", "strategy": "finetune", "balance": "logit"}, []),
        (
            {"head": "prototype", "lr": 0.1},
            ["--lr has no effect on a prototype head, which is solved, not trained by epochs"],
        ),
        ({"strategy": "scratch", "l2": 0.1}, ["--l2 has no effect with --strategy scratch"]),
        ({"strategy": "finetune", "momentum": 0.5}, ["--momentum has no effect with --optimizer adamw"]),
        ({"strategy": "finetune", "momentum": 0.5, "optimizer": "sgd"}, []),
        (
            {"strategy": "finetune", "augment": "flip", "crop_scale": 0.1},
            ["--crop-scale has no effect with --augment flip"],
        ),
        ({"strategy": "finetune", "head_init": "random", "l2": 0.1}, ["--l2 has no effect with --head-init random"]),
        (
            {"strategy": "finetune", "thaw": 0, "layer_decay": 0.5, "freeze_bn": False},
            ["--layer-decay, --freeze-bn have no effect with --thaw 0"],
        ),
        ({"strategy": "finetune", "standardize": False}, ["--standardize has no effect on a linear head"]),
    ],
)
def test_notes__what_does_nothing_is_told(options: dict[str, Any], said: list[str]) -> None:
    assert list(fit_settings("p", **options).notes()) == said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"head": "mlp:8,4", "dropout": "0.5,0.3", "no_cache": True, "mean": 0.5, "lr": 0.1},
            "--mean 0.5,0.5,0.5 --head mlp:8,4 --dropout 0.5,0.3 --lr 0.1 --no-cache",
        ),
        (
            {"strategy": "finetune", "freeze_bn": False, "epochs": 5, "clip": 0},
            "--strategy finetune --no-freeze-bn --clip 0",
        ),
        ({"backbone": "cnn", "strategy": "scratch", "image": 32}, "--backbone cnn"),
        ({"strategy": "scratch", "schedule": "cosine", "lr": 1e-3}, "--strategy scratch --schedule cosine"),
    ],
)
def test_command__says_what_differs(options: dict[str, Any], words: str) -> None:
    assert fit_settings("my photos", **options).command() == f"headway fit 'my photos' {words}"


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
# Options of training, for the strategies that train a network.
TRAINED = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["finetune", "scratch"])},
    optional={
        "image": st.sampled_from([32, 64, 96, 224]),
        "augment": st.sampled_from(["auto", "none", "flip", "crop", "trivial", "rand"]),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "schedule": st.sampled_from(["none", "cosine", "onecycle", "step:3:0.5"]),
        "lr": st.one_of(st.just("auto"), st.floats(1e-9, 1)),
        "weight_decay": st.sampled_from([0, 0.01, 0.05, 0.5]),
        "epochs": st.sampled_from([1, 5, 30]),
        "until": st.sampled_from(["val.accuracy=0.5", "val.loss=1e-3"]),
        "taps": st.sampled_from(["auto", "last"]),
        "standardize": st.booleans(),
        "balance": st.sampled_from(["none", "weights", "logit"]),
        "sync_bn": st.booleans(),
        "recipe": st.sampled_from(["seed-a-finetune", "seed-b-transfer", "seed-c", "best"]),
        "workers": st.integers(0, 4),
    },
)


@given(data=st.sampled_from(["photos", "é 'x'", os.fsdecode(b"\xff.csv"), "yes"]), options=st.one_of(OPTIONS, TRAINED))
def test_yaml__comes_back(data: str, options: dict[str, Any]) -> None:
    settings = fit_settings(data, **options)

    assert from_yaml(to_yaml(settings)) == settings


def _typed(words: list[str]) -> dict[str, Any]:
    """The options that a command line gives, by the table that --help shows."""
    switches = {row.flag for row in FIT if not row.metavar}
    given: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        taken_back = word.replace("--no-", "--", 1) in switches and word not in switches
        name = (word.replace("--no-", "--", 1) if taken_back else word).removeprefix("--").replace("-", "_")
        given[name] = False if taken_back else True if word in switches else next(rest)
    return given


@given(options=st.one_of(OPTIONS, TRAINED))
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
        shown = dict(zip(STRATEGIES, row.default.split(" | "), strict=True)) if " | " in row.default else {}
        for strategy, word in shown.items():
            assert str(by_strategy(row.name, strategy)) in (word, f"{word}.0", _SWITCH.get(word)), row.flag
        if isinstance(default, bool):
            assert not row.metavar, f"{row.flag} is a switch"
            assert shown or row.default in ("", "on" if default else "off"), row.flag
        elif default is not None and not shown:
            word = row.default.split(";")[0]
            assert getattr(fit_settings("p", **{row.name: word}), row.name) == default, row.flag


_SWITCH = {"on": "True", "off": "False"}


def test_import__is_quick_and_light() -> None:
    code = "import sys, headway.settings; print(','.join(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"torch", "numpy", "PIL", "yaml", "timm"} & set(done.stdout.strip().split(",")) == set()


def test_settings__accepts_paths(tmp_path: Path) -> None:
    assert fit_settings(tmp_path, split=tmp_path / "split.csv").split == tmp_path / "split.csv"


def test_scratch__begins_with_random_weights() -> None:
    """Though the default network's own lie at hand."""
    assert fit_settings("photos", strategy="scratch").start_weights == "none"
    assert fit_settings("photos", strategy="finetune").start_weights is None


def test_mixup__is_for_heads_with_hidden_layers_under_a_probe() -> None:
    settings = fit_settings("photos", head="mlp:64", mixup=0.4)

    assert (settings.strategy, settings.mixup, settings.notes()) == ("probe", 0.4, ())
    assert HeadSettings.from_settings(settings).loop.mixup == 0.4
    assert settings.for_head().mixup == 0.0
