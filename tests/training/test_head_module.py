from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headway.errors import HeadwayError, Refused
from headway.training.head_layers import Standardise, build_head, head_layers, set_layers
from headway.training.head_module import HeadShape, TrainedHead, head_task, moments, train_head
from headway.training.heads import Head, Layer
from headway.training.loop import Epoch, Feed, LoopSettings, Rows, measure
from tests.training import nets

QUICK = LoopSettings(batch=20, epochs=4, lr=1e-2)
HIDDEN = HeadShape((16,))


def run(
    train: Rows,
    val: Rows,
    settings: LoopSettings = QUICK,
    shape: HeadShape = HIDDEN,
    weights: NDArray[np.float64] | None = None,
    folder: Path | None = None,
) -> tuple[list[Epoch], tuple[Layer, ...]]:
    training = train_head(head_task(train, val, 3, shape, settings.seed, weights), settings, folder)
    seen: list[Epoch] = []
    while True:
        try:
            one = next(training)
        except StopIteration as end:
            found: TrainedHead = end.value
            return list(found.trained.epochs), found.layers
        assert isinstance(one, Epoch)
        seen.append(one)


def cached(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Rows:
    return Rows(nets.feed_of(torch.from_numpy(features)), labels)


def some_features(n: int, d: int = 12, c: int = 3, seed: int = 0, noise: float = 0.7) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(c, d))
    return (centres[np.arange(n) % c] + noise * random.normal(size=(n, d))).astype(np.float32) * 3 + 5


def some_rows(n: int, seed: int = 0, noise: float = 0.7) -> Rows:
    return cached(some_features(n, seed=seed, noise=noise), np.arange(n) % 3)


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


@pytest.mark.parametrize(
    ("shape", "settings"),
    [(HIDDEN, QUICK), (HeadShape((16, 8), (0.5, 0.3)), replace(QUICK, optimizer="sgd"))],
)
def test_train_head__cached_features_and_the_frozen_network_give_the_same_bits(
    shape: HeadShape, settings: LoopSettings
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Toy().eval()
        images = torch.randn(70, 3, 16, 16)  # 70 = three batches and a half
    labels = np.arange(70) % 3

    @torch.no_grad()
    def padded(positions: NDArray[np.intp]) -> Tensor:
        """The network always sees 20 images, as when the cache was filled: torch's bits depend on how many."""
        filled = np.concatenate([positions, np.repeat(positions[:1], -len(positions) % 20)])
        parts = [network(images[torch.from_numpy(part)]) for part in filled.reshape(-1, 20)]
        return torch.cat(parts)[: len(positions)]

    def forwarded(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        return (padded(batch) for batch in batches)

    features = padded(np.arange(70)).numpy()
    feeds: tuple[Feed, Feed] = (nets.feed_of(torch.from_numpy(features)), forwarded)
    from_cache, from_network = (run(Rows(feed, labels), Rows(feed, labels), settings, shape) for feed in feeds)

    assert nets.curve(from_cache[0]) == nets.curve(from_network[0])
    for one, other in zip(from_cache[1], from_network[1], strict=True):
        assert one.weight.tobytes() == other.weight.tobytes()
        assert one.bias.tobytes() == other.bias.tobytes()


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_train_head__takes_the_steps_of_a_plain_torch_loop(optimizer: str, standardize: bool) -> None:
    """One batch an epoch, so the order cannot matter: the same losses as a torch.nn.Linear started alike."""
    rows, shape = some_rows(30), HeadShape(standardize=standardize)
    settings = LoopSettings(optimizer=optimizer, lr=1e-2, batch=30, epochs=5, schedule="step:2:0.5", weight_decay=5.0)
    epochs, layers = run(rows, rows, settings, shape)

    raw = torch.from_numpy(some_features(30))
    mean, deviation = raw.mean(dim=0), raw.std(dim=0, correction=0)
    X = (raw - mean) / deviation if standardize else raw
    linear = nn.Linear(12, 3)
    set_layers(linear, head_layers(head_task(rows, rows, 3, HeadShape(standardize=False), 0).model))
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
        if epoch.best:
            logits = linear(X).detach().numpy()
    np.testing.assert_allclose(Head("linear", ("last",), layers).logits(raw.numpy()), logits, atol=1e-3)


def test_train_head__layers_read_raw_features() -> None:
    train, val = some_rows(60, noise=3.0), some_rows(60, seed=1, noise=3.0)
    epochs, layers = run(train, val, replace(QUICK, epochs=8, keep="val.loss", lr=5e-2))
    best = min(epochs, key=lambda epoch: epoch.val_loss)
    logits = Head("mlp:16", ("last",), layers).logits(some_features(60, seed=1, noise=3.0))
    assert measure(logits, val.labels)["val.loss"] == pytest.approx(best.val_loss, rel=1e-4)


def test_train_head__depends_on_its_seed_only() -> None:
    rows, shape = some_rows(45), HeadShape((16,), (0.4,))
    torch.manual_seed(1)
    first = run(rows, rows, QUICK, shape)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = run(rows, rows, QUICK, shape)
    other = run(rows, rows, replace(QUICK, seed=1), shape)
    assert nets.curve(first[0]) == nets.curve(second[0]) != nets.curve(other[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_train_head__a_step_costs_nothing_for_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed does: a stack trace for each, for when a GPU comes. It took as long as the step itself."""
    rows, counts = some_rows(60), list[int]()
    stacks: list[int] = []

    def format_stack(*_: object) -> list[str]:
        stacks.append(1)
        return []

    monkeypatch.setattr("traceback.format_stack", format_stack)
    for epochs in (1, 3):
        stacks.clear()
        run(rows, rows, replace(QUICK, epochs=epochs), HeadShape((16,), (0.4,)))
        counts.append(len(stacks))
    assert counts[0] == counts[1]


def test_train_head__dropout_changes_training_not_judgement() -> None:
    rows = some_rows(45)
    plain, dropped = (run(rows, rows, replace(QUICK, epochs=12), HeadShape((16,), share))[0] for share in ((), (0.9,)))
    assert dropped[-1].train_loss > 1.5 * plain[-1].train_loss
    assert dropped[-1].val_loss < 0.95 * dropped[-1].train_loss


def test_train_head__a_constant_feature_does_no_harm() -> None:
    wide = np.column_stack([some_features(40), np.full(40, 7.0, np.float32)])
    rows = cached(wide, np.arange(40) % 3)
    _, layers = run(rows, rows)
    assert (layers[0].weight[:, -1] == 0).all()


def test_train_head__a_loss_that_is_not_finite_is_an_error() -> None:
    rows = some_rows(50)

    def broken(batches: Sequence[NDArray[np.intp]], epoch: int) -> Iterator[Tensor]:
        for number, tensor in enumerate(rows.feed(batches, epoch), start=1):
            yield tensor * torch.nan if epoch and number == 2 else tensor

    with pytest.raises(HeadwayError, match=r"in epoch 1, batch 2 of 3 \(loss nan; 20 training images, at positions "):
        run(Rows(broken, rows.labels), rows)


def test_train_head__goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    rows = some_rows(45)
    shape, settings = HeadShape((16,), (0.4,)), replace(QUICK, checkpoint_seconds=0)
    broken = Rows(nets.interrupting(rows.feed, 5, KeyboardInterrupt), rows.labels)
    with pytest.raises(KeyboardInterrupt):
        run(broken, rows, settings, shape, folder=tmp_path)
    training = train_head(head_task(rows, rows, 3, shape, 0), settings, tmp_path)
    next(training)  # Resumed
    while True:
        try:
            next(training)
        except StopIteration as end:
            layers = end.value.layers
            break
    for one, other in zip(layers, run(rows, rows, settings, shape)[1], strict=True):
        assert one.weight.tobytes() == other.weight.tobytes()


@pytest.mark.parametrize(("dropout", "told"), [((0.5, 0.3), "0.5,0.3"), ((1.0,), "1"), ((-0.1,), "-0.1")])
def test_head_task__dropout_that_does_not_fit_is_refused(dropout: tuple[float, ...], told: str) -> None:
    rows = some_rows(10)
    with pytest.raises(Refused) as caught:
        head_task(rows, rows, 3, HeadShape((16,), dropout), 0)
    assert str(caught.value) == (
        f"--dropout {told}: expected at most 1 numbers from 0 to below 1, one before each hidden layer"
    )


def test_build_head__has_dropout_before_hidden_layers_only() -> None:
    head = build_head(2048, (1024, 256), (0.5, 0.3), 2)
    assert [str(layer) for layer in head] == [
        "Dropout(p=0.5, inplace=False)",
        "Linear(in_features=2048, out_features=1024, bias=True)",
        "ReLU()",
        "Dropout(p=0.3, inplace=False)",
        "Linear(in_features=1024, out_features=256, bias=True)",
        "ReLU()",
        "Linear(in_features=256, out_features=2, bias=True)",
    ]
    assert [type(layer) for layer in build_head(5, (), (), 3)] == [nn.Linear]
    assert sum(part.numel() for part in build_head(512, (256,), (0.0,), 100).parameters()) == 157_028


def test_head_layers__give_what_the_module_gives_and_come_back() -> None:
    features = some_features(20)
    head = build_head(12, (7,), (0.5,), 3).eval()
    layers = head_layers(head)
    with torch.no_grad():
        expected = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(Head("mlp:7", ("last",), layers).logits(features), expected, atol=1e-4)
    other = build_head(12, (7,), (0.0,), 3)
    set_layers(other, layers)
    for one, same in zip(head_layers(other), layers, strict=True):
        assert one.weight.tobytes() == same.weight.tobytes()
        assert one.bias.tobytes() == same.bias.tobytes()
    kept = layers[0].weight.copy()
    with torch.no_grad():
        next(iter(head.parameters())).zero_()
    assert (layers[0].weight == kept).all()  # a copy
    with pytest.raises(ValueError, match="shapes"):
        set_layers(build_head(12, (8,), (0.0,), 3), layers)


def test_head_layers__standardisation_is_folded() -> None:
    features = some_features(50)
    mean, scale = moments(cached(features, np.arange(50) % 3), 7)
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(1 / scale, features.std(axis=0), rtol=1e-5)
    model = nn.Sequential(Standardise(mean, scale), build_head(12, (7,), (0.0,), 3)).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(Head("mlp:7", ("last",), head_layers(model)).logits(features), expected, atol=1e-4)
