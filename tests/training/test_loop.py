from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.errors import HeadwayError, Refused
from headway.training.heads import Head, Layer
from headway.training.loop import Epoch, LoopSettings, Rows, learning_rate, measure, train_head


def run(training: Generator[Epoch, None, tuple[Layer, ...]]) -> tuple[list[Epoch], tuple[Layer, ...]]:
    epochs: list[Epoch] = []
    while True:
        try:
            epochs.append(next(training))
        except StopIteration as end:
            return epochs, end.value


def cached(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Rows:
    return Rows(lambda positions: torch.from_numpy(features[positions]), labels)


def some_rows(n: int, d: int = 12, c: int = 3, seed: int = 0, noise: float = 0.7) -> Rows:
    random = np.random.default_rng(seed)
    labels = np.arange(n) % c
    centres = np.random.default_rng(99).normal(size=(c, d))
    return cached((centres[labels] + noise * random.normal(size=(n, d))).astype(np.float32) * 3 + 5, labels)


def every(rows: Rows) -> NDArray[np.float32]:
    return np.asarray(rows.batch(np.arange(len(rows))))


QUICK = LoopSettings(hidden=(16,), batch=20, epochs=4, lr=1e-2)


class Toy(nn.Module):
    """A frozen convolutional network: (B, 3, 16, 16) → (B, 24)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.body(images).mean(dim=(2, 3))
        return pooled


@pytest.mark.parametrize("settings", [QUICK, replace(QUICK, hidden=(16, 8), dropout=(0.5, 0.3), optimizer="sgd")])
def test_train_head__cached_features_and_the_frozen_network_give_the_same_bits(settings: LoopSettings) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Toy().eval()
        images = torch.randn(70, 3, 16, 16)  # 70 = three batches and a half
    labels = np.arange(70) % 3

    @torch.no_grad()
    def forwarded(positions: NDArray[np.intp]) -> Tensor:
        return network(images[torch.from_numpy(positions)])  # type: ignore[no-any-return]

    # The cache is filled in order, in batches of the same size, its tail padded.
    in_order = np.resize(np.arange(70), 80).reshape(4, 20)
    features = torch.cat([forwarded(batch) for batch in in_order])[:70].numpy()

    from_cache = run(train_head(cached(features, labels), cached(features, labels), 3, settings))
    from_network = run(train_head(Rows(forwarded, labels), Rows(forwarded, labels), 3, settings))

    assert from_cache[0] == from_network[0]
    for one, other in zip(from_cache[1], from_network[1], strict=True):
        assert one.weight.tobytes() == other.weight.tobytes()
        assert one.bias.tobytes() == other.bias.tobytes()


def test_train_head__asks_for_batches_of_one_size_only() -> None:
    sizes: set[int] = set()
    rows = some_rows(45)

    def watched(positions: NDArray[np.intp]) -> Tensor:
        sizes.add(len(positions))
        return rows.batch(positions)

    run(train_head(Rows(watched, rows.labels), Rows(watched, rows.labels), 3, QUICK))
    assert sizes == {20}


def test_train_head__padding_does_not_count() -> None:
    """One batch of 30 padded to 64, and one of exactly 30, take the same steps."""
    rows = some_rows(30)
    padded, exact = (run(train_head(rows, rows, 3, replace(QUICK, batch=size))) for size in (64, 30))
    for one, other in zip(padded[1], exact[1], strict=True):
        np.testing.assert_allclose(one.weight, other.weight, atol=1e-5)
    assert padded[0][-1].train_loss == pytest.approx(exact[0][-1].train_loss, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_train_head__takes_the_steps_of_a_plain_torch_loop(optimizer: str) -> None:
    """One batch an epoch, so the order cannot matter: the same losses as torch.nn modules started alike."""
    rows = some_rows(30)
    settings = LoopSettings(optimizer=optimizer, lr=1e-2, batch=30, epochs=5, schedule="step:2:0.5", weight_decay=5.0)
    epochs, _ = run(train_head(rows, rows, 3, settings))

    X = torch.from_numpy(every(rows))
    X = (X - X.mean(dim=0)) / X.std(dim=0, correction=0)
    start = run(train_head(rows, rows, 3, replace(settings, lr=1e-30, epochs=1)))[1][0]
    linear = nn.Linear(12, 3)
    raw = torch.from_numpy(every(rows))
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(start.weight) * raw.std(dim=0, correction=0))
        linear.bias.copy_(torch.from_numpy(start.bias) + torch.from_numpy(start.weight) @ raw.mean(dim=0))
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    extra = {"momentum": 0.9} if optimizer == "sgd" else {}
    groups = [{"params": [linear.weight], "weight_decay": 5.0}, {"params": [linear.bias], "weight_decay": 0.0}]
    steps = kinds[optimizer](groups, lr=1e-2, **extra)
    schedule = torch.optim.lr_scheduler.StepLR(steps, 2, 0.5)
    for epoch in epochs:
        loss = nn.functional.cross_entropy(linear(X), torch.from_numpy(rows.labels))
        steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        steps.step()
        schedule.step()
        assert epoch.train_loss == pytest.approx(float(loss.detach()), rel=1e-4)


def test_learning_rate__is_that_of_torch() -> None:
    def rates(make: type, **options: float) -> list[float]:
        steps = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
        schedule = make(steps, **options)
        found = []
        for _ in range(20):
            found.append(steps.param_groups[0]["lr"])
            steps.step()
            schedule.step()
        return found

    ours = {name: [learning_rate(name, 0.2, epoch, 20) for epoch in range(20)] for name in ("cosine", "step:7:0.1")}
    assert ours["cosine"] == pytest.approx(rates(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20))
    assert ours["step:7:0.1"] == pytest.approx(rates(torch.optim.lr_scheduler.StepLR, step_size=7, gamma=0.1))
    assert {learning_rate("none", 0.2, epoch, 20) for epoch in range(20)} == {0.2}


def test_train_head__keeps_the_best_epoch_and_stops_when_patience_ends() -> None:
    train, val = some_rows(60, noise=3.0), some_rows(60, seed=1, noise=3.0)
    settings = replace(QUICK, epochs=40, patience=3, keep="val.loss", lr=5e-2)
    epochs, layers = run(train_head(train, val, 3, settings))

    best = min(epochs, key=lambda epoch: epoch.val_loss)
    assert epochs[-1].epoch == best.epoch + 3 < 40
    assert [epoch.best for epoch in epochs[best.epoch :]] == [False] * 3
    assert best.best
    logits = Head("mlp:16", ("last",), layers).logits(every(val))
    assert measure(logits, val.labels)["val.loss"] == pytest.approx(best.val_loss, rel=1e-4)


def test_train_head__of_equals_the_first_is_kept() -> None:
    rows = some_rows(60, noise=0.01)
    epochs, _ = run(train_head(rows, rows, 3, replace(QUICK, epochs=8, patience=0, lr=0.1)))
    first = next(epoch for epoch in epochs if epoch.val_accuracy == 1.0)
    assert [epoch.best for epoch in epochs[first.epoch :]] == [False] * (8 - first.epoch)


def test_train_head__without_patience_runs_all_epochs() -> None:
    rows = some_rows(30)
    assert len(run(train_head(rows, rows, 3, replace(QUICK, epochs=9, patience=0)))[0]) == 9


def test_train_head__depends_on_its_seed_only() -> None:
    rows = some_rows(45)
    settings = replace(QUICK, dropout=(0.4,))
    torch.manual_seed(1)
    first = run(train_head(rows, rows, 3, settings))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = run(train_head(rows, rows, 3, settings))
    other = run(train_head(rows, rows, 3, replace(settings, seed=1)))
    assert first[0] == second[0] != other[0]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_train_head__dropout_changes_training_not_judgement() -> None:
    rows = some_rows(45)
    plain, dropped = (run(train_head(rows, rows, 3, replace(QUICK, dropout=share)))[0] for share in ((), (0.9,)))
    assert dropped[-1].train_loss > 1.5 * plain[-1].train_loss
    assert dropped[-1].val_loss < 0.95 * dropped[-1].train_loss


def test_train_head__class_weights_move_the_answer_to_the_rare_class() -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(200) < 10).astype(np.int64)
    rows = cached((labels[:, None] + 1.5 * random.normal(size=(200, 3))).astype(np.float32), labels)
    settings = LoopSettings(batch=50, epochs=15, lr=0.05, keep="val.balanced_accuracy", patience=0)
    recalls = []
    for weights in (None, np.array([1.0, 19.0])):
        _, layers = run(train_head(rows, rows, 2, settings, weights))
        predicted = Head("linear", ("last",), layers).logits(every(rows)).argmax(axis=1)
        recalls.append(float((predicted == 1)[labels == 1].mean()))
    assert recalls[1] > recalls[0] + 0.3


def test_train_head__a_constant_feature_does_no_harm() -> None:
    rows = some_rows(40)
    wide = np.column_stack([every(rows), np.full(40, 7.0, np.float32)])
    _, layers = run(train_head(cached(wide, np.asarray(rows.labels)), cached(wide, np.asarray(rows.labels)), 3, QUICK))
    assert (layers[0].weight[:, -1] == 0).all()


def test_train_head__a_loss_that_is_not_finite_stops_before_the_step() -> None:
    rows = some_rows(50)
    asked: list[int] = []

    def broken(positions: NDArray[np.intp]) -> Tensor:
        asked.append(1)
        batch = rows.batch(positions)
        return batch * torch.nan if len(asked) == 3 + 2 else batch  # 3 batches for the means, then the second

    with pytest.raises(HeadwayError) as caught:
        run(train_head(Rows(broken, rows.labels), rows, 3, QUICK))
    assert str(caught.value) == (
        "the loss or its gradient is not a finite number in epoch 1, batch 2 of 3 (loss nan); that step was not taken. "
        "Try a lower learning rate: --lr 0.001 (it was 0.01)"
    )


def test_train_head__a_huge_learning_rate_ends_in_one_readable_line() -> None:
    rows = some_rows(50)
    with pytest.raises(HeadwayError, match=r"--lr"):
        run(train_head(rows, rows, 3, replace(QUICK, optimizer="sgd", lr=1e30, schedule="none")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"optimizer": "adamww"},
            "--optimizer adamww is not known. Nearest: adamw. Known: sgd, adam, adamw",
        ),
        (
            {"keep": "val.acc"},
            "--keep val.acc is not known. Nearest: val.accuracy. "
            "Known: val.accuracy, val.balanced_accuracy, val.macro_f1, val.loss, val.log_loss",
        ),
        (
            {"schedule": "cosin"},
            "--schedule cosin is not known. Nearest: cosine. "
            "Known: none, cosine, step:EVERY:FACTOR (step:7:0.1 = times 0.1 every 7 epochs)",
        ),
        (
            {"schedule": "step:0:0.1"},
            "--schedule step:0:0.1 is not known. Nearest: step:7:0.1. "
            "Known: none, cosine, step:EVERY:FACTOR (step:7:0.1 = times 0.1 every 7 epochs)",
        ),
        (
            {"batch": 0},
            "--batch 0 --epochs 4 --patience 5: batch and epochs are 1 or more, patience 0 (never stop early) or more",
        ),
        ({"lr": 0.0}, "--lr 0: expected a number above 0, for example 1e-3"),
        (
            {"dropout": (0.5, 0.3)},
            "--dropout 0.5,0.3: expected at most 1 numbers from 0 to below 1, one before each hidden layer",
        ),
    ],
)
def test_train_head__a_wrong_setting_is_refused(change: dict[str, object], message: str) -> None:
    rows = some_rows(10)
    with pytest.raises(Refused) as caught:
        run(train_head(rows, rows, 3, replace(QUICK, **change)))  # type: ignore[arg-type]
    assert str(caught.value) == message


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
