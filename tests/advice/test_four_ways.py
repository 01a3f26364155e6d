from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.advice.evidence import Evidence, Share
from headway.advice.four_ways import closeness, four_ways
from headway.advice.learning_curve import Curve, Part

PART = Part(700, np.zeros((1, 10), np.bool_), 0.1)


def curve(gain: float, low: float, high: float) -> Curve:
    return Curve((replace(PART, n=350), PART, replace(PART, n=1400)), gain, (low, high), 0.3)


LIKE = Evidence(
    n_train=1400,
    n_classes=2,
    per_class=(700, 700),
    probe=Share(280, 300),
    neighbours=Share(276, 300),
    guess=Share(150, 300),
    known=1400,
    log_me=0.5,
    measured=1000,
    taps="last",
    earlier={"better": None},
    curve=curve(0.001, -0.01, 0.012),
)
UNLIKE = replace(LIKE, neighbours=Share(200, 300))
RISING, FLAT = curve(0.02, 0.01, 0.03), curve(0.001, -0.002, 0.004)

MANY = "many images (700 a class; twice as many would remove about 2 % of the errors, not certain)"
FEW = "few images (700 a class; twice as many would remove about 30 % of the errors)"


def data(word: str, neighbours: str, more: str = "") -> str:
    numbers = f"head 0.933, neighbours {neighbours}, guessing 0.500 on 300 validation images{more}"
    return f"{word} the pretraining data ({numbers})"


@pytest.mark.parametrize(
    ("evidence", "advice", "likeness", "size"),
    [
        (LIKE, "fine-tune the network (--strategy finetune)", data("like", "0.920"), MANY),
        (replace(LIKE, curve=RISING), "keep the linear head on the frozen features", data("like", "0.920"), FEW),
        (
            UNLIKE,
            "fine-tune the network, all of it, from the pretrained weights (--strategy finetune)",
            data("unlike", "0.667"),
            MANY,
        ),
        (
            replace(UNLIKE, curve=RISING, taps="all"),
            "keep the head on the features of all stages, as taken here",
            data("unlike", "0.667"),
            FEW,
        ),
        (
            replace(UNLIKE, curve=RISING, earlier=None),
            "try a head on earlier features too (--taps all)",
            data("unlike", "0.667"),
            FEW,
        ),
        (
            replace(UNLIKE, curve=RISING),
            "keep the head: that on earlier features too is not shown to be better; label more images",
            data("unlike", "0.667"),
            FEW,
        ),
        (
            replace(LIKE, probe=Share(295, 300), curve=None),
            "keep the head; with 5 wrong of 300 no other road could be shown to be better on these validation images",
            data("like", "0.920").replace("0.933", "0.983"),
            "many images (700 a class)",
        ),
        (
            replace(LIKE, probe=Share(160, 300)),
            "fine-tune the network (--strategy finetune)",
            "likeness to the pretraining data not shown (the head does not beat guessing: head 0.533, neighbours "
            "0.920, guessing 0.500 on 300 validation images)",
            "many images (700 a class; twice as many would remove about 0 % of the errors)",
        ),
        (
            replace(LIKE, curve=RISING, neighbours=Share(92, 100)),
            "keep the linear head on the frozen features",
            data("like", "0.920 (100 of them)"),
            FEW,
        ),
        (
            replace(LIKE, per_class=(3, 10)),
            "keep the linear head on the frozen features",
            data("like", "0.920"),
            "few images (10 a class, 3 in the smallest)",
        ),
        (
            replace(LIKE, neighbours=Share(250, 300), earlier={"better": "a"}, taps="all", curve=RISING),
            "keep the head on the features of all stages, as taken here",
            data("unlike", "0.833", "; earlier stages add to the last layer"),
            FEW,
        ),
        (
            replace(LIKE, earlier={"better": "a"}, taps="all", curve=RISING),
            "keep the head on the features of all stages, as taken here",
            data("half like", "0.920", "; earlier stages add to the last layer"),
            FEW,
        ),
        (
            replace(LIKE, neighbours=Share(250, 300), per_class=(50, 50), curve=FLAT),
            "fine-tune the network (--strategy finetune)",
            data("half like", "0.833"),
            "many images (50 a class; twice as many would remove about 2 % of the errors)",
        ),
    ],
)
def test_rule__in_words(evidence: Evidence, advice: str, likeness: str, size: str) -> None:
    assert four_ways(evidence).sentence == f"{advice}: {likeness}, {size}"


@pytest.mark.parametrize(
    ("neighbours", "curve", "like", "large", "action"),
    [
        (276, RISING, True, False, "head"),
        (276, FLAT, True, True, "finetune"),
        (200, RISING, False, False, "head"),
        (200, FLAT, False, True, "finetune"),
    ],
)
def test_rule__four_ways(neighbours: int, curve: Curve, like: bool, large: bool, action: str) -> None:
    value = four_ways(replace(LIKE, neighbours=Share(neighbours, 300), curve=curve)).to_json()

    assert (value["like"], value["large"], value["action"]) == (like, large, action)


def test_closeness__is_what_both_find_beyond_guessing() -> None:
    assert closeness(LIKE) == pytest.approx((0.92 - 0.5) / (280 / 300 - 0.5))
    assert closeness(replace(LIKE, probe=Share(155, 300))) is None


def test_curve__in_words() -> None:
    assert LIKE.curve_sentence() == (
        "twice the images would bring about +0.1 points [-1.0, +1.2] to this head "
        "(validation accuracy 1.000 from 700, 1.000 from 1,400 images)"
    )
    assert replace(LIKE, curve=None, no_curve="too few").curve_sentence() == "too few"
