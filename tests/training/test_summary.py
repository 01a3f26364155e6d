"""Networks layer by layer, and what each road trains of them, against figures that were published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.errors import Refused
from headway.training.summary import SummaryRequest, summarise

TINY = SummaryRequest("test_resnet", (), (), 3, 64, 2)


def counts(request: SummaryRequest) -> tuple[int, int]:
    found = summarise(request)
    assert f"Total params: {found['parameters']:,}\n" in found["text"]
    assert f"Trainable params: {found['trainable']:,}\n" in found["text"]
    return found["parameters"], found["trainable"]


def test_summary__of_seed_bs_small_network() -> None:
    request = SummaryRequest("cnn", (256,), (0.0,), 100, 32, 200, "scratch")

    assert counts(request) == (846_308, 846_308)


def test_summary__of_seed_bs_transfer_network() -> None:
    assert counts(SummaryRequest("resnet18.tv_in1k", (256,), (0.0,), 100, 224, 200)) == (11_333_540, 157_028)


def test_summary__of_seed_cs_head_layer_by_layer() -> None:
    found = summarise(SummaryRequest("resnet50.tv_in1k", (1024, 256), (0.5, 0.3), 2, 224, 64, log_softmax=True))

    layers = [
        *("Dropout 0.5", "Linear 2048→1024", "ReLU"),
        *("Dropout 0.3", "Linear 1024→256", "ReLU"),
        *("Linear 256→2", "LogSoftmax"),
    ]
    assert found["head"] == layers
    lines = found["text"].splitlines()
    start = lines.index("Head, layer by layer")
    assert lines[start + 1 : start + 9] == [f"  {layer}" for layer in layers]
    table = [line.split("─")[1].split()[0] for line in lines if line.startswith(("│    └─", "├─"))]
    head = "".join(lines).partition("Sequential (head)")[2]
    assert [name for name in table if name in ("Dropout", "LogSoftmax")] == ["Dropout", "Dropout", "LogSoftmax"]
    assert head.index("Dropout (0)") < head.index("Linear (1)") < head.index("ReLU (2)") < head.index("LogSoftmax (7)")
    assert found["trainable"] == 2048 * 1024 + 1024 + 1024 * 256 + 256 + 256 * 2 + 2


def test_summary__what_each_road_trains() -> None:
    found = summarise(replace(TINY, strategy="finetune", thaw=1))
    head = 96 * 3 + 3

    stages = {row["name"]: row for row in found["stages"]}
    assert found["trains"] == {
        "probe": head,
        "finetune": head + stages["layer4"]["parameters"],
        "scratch": found["parameters"],
    }
    assert found["trainable"] == found["trains"]["finetune"]
    assert sum(row["parameters"] for row in found["stages"]) == found["parameters"] == 372_688 + head
    assert {name: row["trainable"] for name, row in stages.items() if row["trainable"]} == {
        "layer4": stages["layer4"]["parameters"],
        "head": head,
    }


@pytest.mark.parametrize(("strategy", "thaw"), [("probe", None), ("finetune", 0), ("finetune", None), ("scratch", 1)])
def test_summary__strategies(strategy: str, thaw: int | None) -> None:
    found = summarise(replace(TINY, strategy=strategy, thaw=thaw))

    expected = 291 if strategy == "probe" or thaw == 0 else found["parameters"]
    assert found["trainable"] == expected


def test_summary__lines_under_the_table() -> None:
    lines = summarise(TINY)["text"].splitlines()

    assert lines[lines.index("Head, layer by layer") :] == [
        "Head, layer by layer",
        "  Linear 96→3",
        "Trained parameters: probe 291, finetune 372,979, scratch 372,979",
        "Stage     parameters       trained",
        "act1           7,472             0",
        "layer1        18,560             0",
        "layer2        36,384             0",
        "layer3        42,432             0",
        "layer4       267,840             0",
        "head             291           291",
    ]


def test_summary__a_stem_for_small_images_sees_more() -> None:
    own, small = (summarise(replace(TINY, strategy="scratch", small_stem=small)) for small in (False, True))

    assert own["parameters"] == small["parameters"]
    assert small["multiply_adds"] > 4 * own["multiply_adds"]


def test_summary__a_batch_of_any_size_costs_no_memory() -> None:
    assert summarise(replace(TINY, batch=1_000_000))["megabytes"]["forward_backward"] > 1_000_000


def test_summary__an_unknown_network() -> None:
    with pytest.raises(Refused, match="no backbone 'tset_resnet'"):
        summarise(replace(TINY, backbone="tset_resnet"))
