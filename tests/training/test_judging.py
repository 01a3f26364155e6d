from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headway.training.judging import best_of
from headway.training.loop import (
    Epoch,
    LoopSettings,
    Rows,
    Task,
    measure,
    predict,
)
from tests.training import nets

QUICK = LoopSettings(batch=12, epochs=3, lr=1e-2)


def states(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def test_train__keeps_the_best_epoch_and_stops_when_patience_ends() -> None:
    settings = replace(QUICK, epochs=60, patience=3, keep="val.loss", lr=0.1, schedule="none")
    task = nets.task(30)
    trained = nets.trained(task, settings)
    best = min(trained.epochs, key=lambda epoch: epoch.val_loss)
    last = trained.epochs[-1].epoch
    assert last == best.epoch + 3 < 60
    assert [epoch.best for epoch in trained.epochs[best.epoch - 1 :]] == [True, False, False, False]
    assert trained.stopped == "patience"
    assert trained.why == (
        f"Epoch {best.epoch} of {last} has the best val.loss, {best.val_loss:.4f}; "
        "stopped as 3 epochs brought no better one (--patience 3)."
    )
    task.model.load_state_dict(trained.state)
    assert measure(predict(task.model, task.val, 7), task.val.labels)["val.loss"] == pytest.approx(best.val_loss)


@pytest.mark.parametrize(("metric", "value"), [("val.loss", 1.0), ("val.accuracy", 0.6)])
def test_train__stops_at_the_target(metric: str, value: float) -> None:
    settings = replace(QUICK, epochs=60, until=(metric, value), lr=3e-2)
    trained = nets.trained(nets.task(60), settings)
    reached = [
        epoch.val_loss <= value if metric == "val.loss" else epoch.val_accuracy >= value for epoch in trained.epochs
    ]
    assert reached == [False] * (len(reached) - 1) + [True]
    assert trained.stopped == "target"
    assert trained.why.endswith(f"; stopped as the target was reached (--until {metric}={value:g}).")


def epoch(number: int, accuracy: float, loss: float) -> Epoch:
    return Epoch(number, 0.1, 1.0, 0.5, loss, accuracy, accuracy, True)


def test_best_of__a_tie_goes_to_the_lower_loss_then_to_the_earlier() -> None:
    epochs = [epoch(1, 0.8, 0.5), epoch(2, 0.9, 0.4), epoch(3, 0.9, 0.3), epoch(4, 0.9, 0.3), epoch(5, 0.9, 0.6)]
    assert best_of(epochs, "val.accuracy") is epochs[2]
    assert best_of([], "val.accuracy") is None


def test_train__patience_counts_from_the_better_metric_not_from_a_lower_loss() -> None:
    """Accuracy is at its top early, while the loss keeps falling: that is no better epoch by accuracy."""
    settings = replace(QUICK, epochs=60, patience=4, lr=2e-2)
    pixels, labels = nets.images(30)
    pixels[np.arange(30), :, :, labels] = 255
    rows = Rows(nets.feed_of(pixels), labels)
    trained = nets.trained(Task(nets.network(), rows, rows), settings)
    top = max(one.val_accuracy for one in trained.epochs)
    first = next(one.epoch for one in trained.epochs if one.val_accuracy == top)
    assert trained.epochs[-1].epoch == first + 4
    assert [one.epoch for one in trained.epochs if one.best][-1] > first


def test_train__judges_the_start_where_asked() -> None:
    task = nets.task(44)
    before = predict(task.model, task.val, 12)
    misled = replace(task, train=Rows(task.train.feed, (task.train.labels + 1) % 3))
    trained = nets.trained(misled, replace(QUICK, judge_start=True, keep="val.loss", epochs=2))
    start = trained.epochs[0]
    assert (start.epoch, start.lr, start.best) == (0, 0.0, True)
    assert math.isnan(start.train_loss)
    assert start.val_loss == pytest.approx(measure(before, task.val.labels)["val.loss"])
    assert [one.epoch for one in trained.epochs] == [0, 1, 2]
    assert nets.same_bits(trained.state, states(nets.network()))
    assert trained.why == f"The state before the first step of 2 has the best val.loss, {start.val_loss:.4f}."


def test_predict__is_plain_eval_and_restores_the_mode() -> None:
    model, rows = nets.network(), nets.rows(31)
    model.train()
    model.norm.eval()
    logits = predict(model, rows, 8)
    assert model.training
    assert not model.norm.training
    with torch.no_grad():
        expected = model.eval()(nets.images(31)[0])
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-6)


def test_predict__takes_less_at_once_where_memory_ends() -> None:
    model, rows = nets.Heavy(), nets.rows(31)
    logits = predict(model, rows, 16)
    model.holds = 100
    np.testing.assert_allclose(logits, predict(model, rows, 16), atol=1e-6)


def test_measure__agrees_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

    random = np.random.default_rng(0)
    logits, y = random.normal(size=(90, 4)).astype(np.float32), np.arange(90) % 4
    found, predicted = measure(logits, y), logits.argmax(axis=1)
    odds = np.exp(logits.astype(np.float64))
    assert found["val.accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert found["val.balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert found["val.macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    expected = log_loss(y, odds / odds.sum(axis=1, keepdims=True))
    assert found["val.loss"] == found["val.log_loss"] == pytest.approx(expected)
