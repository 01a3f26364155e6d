from __future__ import annotations

from dataclasses import replace

import pytest

from headway.errors import Refused
from headway.training.loop import (
    LoopSettings,
    check_settings,
    told_conflicts,
)
from tests.training import nets

QUICK = LoopSettings(batch=12, epochs=3, lr=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adamww"}, "--optimizer adamww is not known. Nearest: adamw. Known: sgd, adam, adamw"),
        (
            {"keep": "val.acc"},
            "--keep val.acc is not known. Nearest: val.accuracy. "
            "Known: val.accuracy, val.balanced_accuracy, val.macro_f1, val.loss, val.log_loss",
        ),
        (
            {"until": ("val.los", 0.1)},
            "--until val.los is not known. Nearest: val.loss. "
            "Known: val.accuracy, val.balanced_accuracy, val.macro_f1, val.loss, val.log_loss",
        ),
        ({"precision": "fp1"}, "--precision fp1 is not known. Nearest: fp16. Known: fp32, bf16, fp16"),
        (
            {"schedule": "cosin"},
            "--schedule cosin is not known. Nearest: cosine. "
            "Known: none, cosine, onecycle, step:EVERY:FACTOR (step:7:0.1 = times 0.1 every 7 epochs)",
        ),
        (
            {"batch": 0},
            "--batch 0 --epochs 3 --patience 0: batch and epochs are 1 or more, patience 0 (never stop early) or more",
        ),
        ({"lr": 0.0}, "--lr 0: expected a number above 0, for example 1e-3"),
        ({"ema": 1.0}, "--ema 1: expected a number from 0 to below 1"),
        ({"mixup": -1.0}, "--mixup -1: expected a number of 0 or more"),
        ({"layer_decay": 0.0}, "--layer-decay 0: expected a number above 0, up to 1"),
        ({"micro_batch": 0}, "--micro-batch 0: expected a whole number of 1 or more (images)"),
        (
            {"schedule": "onecycle", "warmup": 1.0},
            "--schedule onecycle brings its own warm-up: leave out --warmup 1, or take cosine",
        ),
        ({"nesterov": True}, "--nesterov is a kind of momentum: expected --optimizer sgd with --momentum above 0"),
        (
            {"precision": "fp16"},
            "--precision fp16 needs a GPU: on --device cpu take fp32, or bf16 where the processor has it",
        ),
        (
            {"sync_bn": True},
            "--sync-bn needs a GPU: torch has no synchronised BatchNorm on --device cpu. "
            "Leave it out, or keep the statistics still with --freeze-bn",
        ),
    ],
)
def test_check_settings__a_wrong_setting_is_refused(change: dict[str, object], message: str) -> None:
    settings = replace(QUICK, **change)  # type: ignore[arg-type]
    for refuse in (lambda: check_settings(settings), lambda: nets.trained(nets.task(), settings)):
        with pytest.raises(Refused) as caught:
            refuse()
        assert str(caught.value) == message


def test_train__an_empty_subset_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        nets.trained(nets.task(n_val=0), QUICK)
    assert str(caught.value) == (
        "there are no validation images: a model needs some to learn from and some to be chosen by"
    )


def test_told_conflicts__names_what_may_end_before_the_schedule() -> None:
    both = LoopSettings(schedule="onecycle", patience=5, until=("val.accuracy", 0.9), epochs=30)
    assert told_conflicts(both) == [
        "--patience 5 may stop training before --schedule onecycle has brought the learning rate down, which it does "
        "over all 30 epochs; --schedule none or step has no such end",
        "--until val.accuracy=0.9 may stop training before --schedule onecycle has brought the learning rate down, "
        "which it does over all 30 epochs; --schedule none or step has no such end",
    ]
    for quiet in (replace(both, schedule="none"), replace(both, patience=0, until=None)):
        assert told_conflicts(quiet) == []
