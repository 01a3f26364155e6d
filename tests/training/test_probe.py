from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.errors import Refused
from headway.events import Detail, Measured, Progress
from headway.settings import fit_settings
from headway.training.head_module import HeadShape
from headway.training.head_settings import enough_epochs
from headway.training.loop import LoopSettings
from headway.training.probe import HeadSettings, Probe, ProbeData, Probing, parse_head, probe

TAPS = (("stage1_mean", 4), ("last", 12), ("stage2_mean", 6))


@dataclass
class Cache:
    """Features by tap, and which taps were asked for."""

    blocks: dict[str, NDArray[np.float32]]
    asked: set[str] = field(default_factory=set)

    def columns(self, taps: tuple[str, ...], indices: NDArray[np.intp]) -> NDArray[np.float32]:
        self.asked |= set(taps)
        return np.concatenate([self.blocks[tap][indices] for tap in taps], axis=1)


def some_data(
    n: int = 400, c: int = 3, seed: int = 0, last: float = 0.5, stages: float = 0.0
) -> tuple[ProbeData, Cache]:
    """A third validates. `last` and `stages` say how clearly these taps show the label; 0 = not at all."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % c).astype(np.int32)
    blocks = {}
    for name, dim in TAPS:
        strength = last if name == "last" else stages
        centres = np.random.default_rng(dim).normal(size=(c, dim))
        blocks[name] = (strength * centres[labels] + random.normal(size=(n, dim))).astype(np.float32) * 2 + 1
    cache = Cache(blocks)
    order = random.permutation(n)
    return ProbeData(cache.columns, labels, np.sort(order[n // 3 :]), np.sort(order[: n // 3]), TAPS, c), cache


def run(probing: Probing) -> Probe:
    return run_seen(probing)[1]


def run_seen(probing: Probing) -> tuple[list[Progress | Detail | Measured], Probe]:
    seen: list[Progress | Detail | Measured] = []
    while True:
        try:
            seen.append(next(probing))
        except StopIteration as end:
            return seen, end.value


def same_bits(a: Probe, b: Probe) -> bool:
    pairs = zip(a.head.layers, b.head.layers, strict=True)
    return all(x.weight.tobytes() == y.weight.tobytes() and x.bias.tobytes() == y.bias.tobytes() for x, y in pairs)


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


MLP = HeadSettings("mlp:16", batch=50, epochs=6, lr=1e-2)


def test_probe__mixup_blends_the_features_of_a_head_with_hidden_layers() -> None:
    data, _ = some_data()
    plain, mixed, again = (run(probe(data, replace(MLP, mixup=alpha))) for alpha in (0.0, 0.8, 0.8))

    assert not same_bits(plain, mixed)
    assert same_bits(mixed, again)
    # Blended labels hold the head back: what it learns from, it fits less closely.
    losses = [[row["train_loss"] for row in found.history][-1] for found in (plain, mixed)]
    assert losses[1] > losses[0]


@pytest.mark.parametrize("spec", ["linear", "mlp:16"])
def test_probe__last_never_asks_for_other_columns(spec: str) -> None:
    data, cache = some_data(stages=1.0)
    found = run(probe(data, replace(MLP, spec=spec, taps="last")))
    assert cache.asked == {"last"}
    assert found.head.taps == ("last",)
    assert found.chosen["taps"] == "last"


def test_probe__mlp_with_auto_takes_the_last_tap_and_reads_no_other() -> None:
    data, cache = some_data()
    assert run(probe(data, MLP)).chosen["taps"] == "last"
    assert cache.asked == {"last"}


def test_probe__auto_takes_all_where_the_other_taps_help() -> None:
    data, _ = some_data(last=0.4, stages=1.0)
    found = run(probe(data, HeadSettings()))
    assert found.head.taps == tuple(name for name, _ in TAPS)
    assert found.head.layers[0].weight.shape == (3, 22)
    assert found.chosen["taps"] == "all"
    assert found.chosen["paired"]["better"] == "a"
    assert found.chosen["paired"]["difference"] < 0
    assert "All taps is better than the last tap" in found.chosen["why"]


def test_probe__auto_stays_with_the_last_tap_where_nothing_backs_the_others() -> None:
    for seed in range(5):
        data, _ = some_data(seed=seed, last=0.8, stages=0.0)
        found = run(probe(data, HeadSettings()))
        assert found.head.taps == ("last",), seed
        assert found.chosen["paired"]["better"] != "a"


def test_probe__a_difference_that_chance_explains_is_not_enough() -> None:
    """All taps have the lower log-loss here, but on eight validation images that says little."""
    data, _ = some_data(last=0.8, stages=0.3, seed=7)
    data = replace(data, val=data.val[:8])
    found = run(probe(data, HeadSettings()))
    paired = found.chosen["paired"]
    assert paired["difference"] < 0
    assert paired["p_value"] > 0.05
    assert found.chosen["taps"] == "last"


def test_probe__auto_with_one_tap_compares_nothing() -> None:
    data, cache = some_data()
    found = run(probe(replace(data, taps=(("last", 12),)), HeadSettings()))
    assert found.chosen["paired"] is None
    assert cache.asked == {"last"}


def test_probe__logits_of_the_head_are_those_of_the_right_columns() -> None:
    data, cache = some_data(last=0.4, stages=1.0)
    found = run(probe(data, HeadSettings()))
    again = found.head.logits(cache.columns(found.head.taps, data.val))
    assert again.tobytes() == found.val_logits.tobytes()
    assert (again.argmax(axis=1) == data.labels[data.val]).mean() > 0.85


@pytest.mark.parametrize(("strength", "low", "high"), [(1.0, 1e-3, 0.01), (0.1, 0.3, 1.0)])
def test_probe__l2_follows_what_the_data_bears(strength: float, low: float, high: float) -> None:
    """Clear classes want a weak penalty, faint ones a strong one."""
    data, _ = some_data(n=240, last=strength)
    found = run(probe(data, HeadSettings(taps="last", folds=0)))
    assert low <= found.chosen["l2"] <= high
    candidates = found.chosen["candidates"]
    assert min(candidates, key=lambda one: one["val_log_loss"])["l2"] == found.chosen["l2"]


def test_probe__the_path_has_the_best_l2_of_all_candidates() -> None:
    """Against fitting each candidate by scikit-learn and judging it on the same validation rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    data, cache = some_data(n=300, last=0.5)
    found = run(probe(data, HeadSettings(taps="last")))
    train, val = cache.columns(("last",), data.train), cache.columns(("last",), data.val)
    scaler = StandardScaler().fit(train.astype(np.float64))
    losses = {}
    for l2 in HeadSettings().l2_candidates:
        model = LogisticRegression(C=1 / (l2 * len(train)), tol=1e-8, max_iter=5000)
        model.fit(scaler.transform(train), data.labels[data.train])
        losses[l2] = log_loss(data.labels[data.val], model.predict_proba(scaler.transform(val)))
    assert found.chosen["l2"] == min(losses, key=lambda l2: losses[l2])
    chosen = next(one for one in found.chosen["candidates"] if one["chosen"])
    assert chosen["val_log_loss"] == pytest.approx(losses[found.chosen["l2"]], abs=1e-3)


def test_probe__a_given_l2_is_used_as_it_is() -> None:
    data, _ = some_data()
    found = run(probe(data, HeadSettings(taps="last", l2=0.02)))
    assert found.chosen["l2"] == 0.02
    assert found.chosen["why"] == "L2 0.02 was asked for."
    assert len(found.chosen["candidates"]) == 1


def test_probe__permuted_labels_give_chance() -> None:
    data, _ = some_data(n=900, last=0.0, seed=5)
    found = run(probe(data, HeadSettings(taps="last")))
    accuracy = (found.val_logits.argmax(axis=1) == data.labels[data.val]).mean()
    assert abs(accuracy - 1 / 3) < 4 * np.sqrt(2 / 9 / len(data.val))
    assert found.chosen["l2"] == max(HeadSettings().l2_candidates)


@pytest.mark.parametrize("settings", [HeadSettings(), replace(MLP, dropout=(0.5,)), replace(MLP, taps="all")])
def test_probe__same_input_same_bits_and_nothing_changed(settings: HeadSettings) -> None:
    data, cache = some_data(last=0.4, stages=1.0)
    before = {name: block.copy() for name, block in cache.blocks.items()}
    first, second = run(probe(data, settings)), run(probe(data, settings))
    assert same_bits(first, second)
    assert first.chosen == second.chosen
    assert timeless(first.history) == timeless(second.history)
    assert first.temperature == second.temperature
    assert all((cache.blocks[name] == block).all() for name, block in before.items())


def test_probe__views_are_more_training_rows_only() -> None:
    data, cache = some_data(n=120, last=0.5)
    random = np.random.default_rng(0)
    noise = {name: random.normal(size=block.shape).astype(np.float32) for name, block in cache.blocks.items()}
    seen: list[NDArray[np.intp]] = []

    def view(taps: tuple[str, ...], indices: NDArray[np.intp]) -> NDArray[np.float32]:
        seen.append(indices)
        return np.concatenate([(cache.blocks[tap] + noise[tap])[indices] for tap in taps], axis=1)

    settings = HeadSettings(taps="last", l2=0.01)
    found = run(probe(replace(data, views=(view,)), settings))

    by_hand = Cache({"last": np.concatenate([cache.blocks["last"], cache.blocks["last"] + noise["last"]])})
    doubled = ProbeData(
        by_hand.columns, np.tile(data.labels, 2), np.concatenate([data.train, data.train + 120]), data.val,
        (("last", 12),), 3,
    )  # fmt: skip
    assert same_bits(found, run(probe(doubled, settings)))
    assert all((indices == data.train).all() for indices in seen)


def test_probe__a_view_equal_to_the_images_changes_nothing() -> None:
    data, cache = some_data(last=0.5)
    settings = HeadSettings(taps="last", l2=0.01)
    plain, twice = run(probe(data, settings)), run(probe(replace(data, views=(cache.columns,)), settings))
    np.testing.assert_allclose(plain.head.layers[0].weight, twice.head.layers[0].weight, atol=2e-3)


@pytest.mark.parametrize("spec", ["linear", "mlp:8"])
def test_probe__balanced_weights_find_more_of_the_rare_class(spec: str) -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(600) % 20 == 0).astype(np.int32)
    cache = Cache({"last": (labels[:, None] + 1.5 * random.normal(size=(600, 4))).astype(np.float32)})
    data = ProbeData(cache.columns, labels, np.arange(0, 400), np.arange(400, 600), (("last", 4),), 2)
    settings = replace(MLP, spec=spec, epochs=10, keep="val.loss")
    recalls = []
    for weighted in (False, True):
        found = run(probe(data, replace(settings, balance="weights" if weighted else "none")))
        predicted = found.val_logits.argmax(axis=1)
        recalls.append((predicted == 1)[labels[data.val] == 1].mean())
    assert recalls[1] > recalls[0] + 0.2


def test_probe__temperature_is_fitted_on_validation_logits() -> None:
    from headway.evaluation.calibrate import fit_temperature

    data, _ = some_data(n=60, last=0.5)
    found = run(probe(data, HeadSettings(taps="last", l2=1e-4)))
    assert found.temperature == fit_temperature(found.val_logits, data.labels[data.val])
    assert found.temperature > 1.2  # so few images and so weak a penalty: too sure of itself


def test_probe__records_are_what_the_run_folder_keeps() -> None:
    data, _ = some_data(last=0.4, stages=1.0)
    seen, found = run_seen(probe(data, HeadSettings()))
    columns = ["kind", "step", "taps", "l2", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best"]
    assert [list(row) for row in found.history] == [columns] * len(found.history)
    assert [row["best"] for row in found.history].count(True) == 1
    assert [row["step"] for row in found.history] == list(range(1, len(found.history) + 1))
    assert {row["taps"] for row in found.history} == {"last", "all"}
    assert json.loads(json.dumps(found.chosen, allow_nan=False)) == found.chosen
    assert list(found.chosen) == ["head", "taps", "l2", "why", "candidates", "paired", "folds"]
    best = next(row for row in found.history if row["best"])
    assert (best["taps"], best["l2"]) == (found.chosen["taps"], found.chosen["l2"])
    last = [event for event in seen if isinstance(event, Progress)][-1]
    assert last.done == last.total


def test_probe__history_of_epochs() -> None:
    data, _ = some_data()
    seen, found = run_seen(probe(data, replace(MLP, epochs=30, patience=2)))
    assert len(found.history) < 30
    assert {row["kind"] for row in found.history} == {"epoch"}
    assert [row["best"] for row in found.history].count(True) == 1
    kept = next(row for row in found.history if row["best"])
    assert kept["val_accuracy"] == max(row["val_accuracy"] for row in found.history)
    assert found.chosen["why"] == (
        f"Epoch {kept['step']} of {len(found.history)} has the best val.accuracy, {kept['val_accuracy']:.4f}; "
        "stopped as 2 epochs brought no better one (--patience 2)."
    )
    assert [row["seconds"] for row in found.history] == sorted(row["seconds"] for row in found.history)
    last = [event for event in seen if isinstance(event, Progress)][-1]
    assert last.done == last.total


def test_probe__a_linear_head_by_epochs_comes_near_the_solved_one() -> None:
    data, _ = some_data(n=600, last=0.6)
    solved = run(probe(data, HeadSettings(taps="last")))
    settings = replace(MLP, spec="linear", by_epochs=True, optimizer="sgd", epochs=30, patience=0, keep="val.loss")
    settings = replace(settings, weight_decay=0.01)
    stepped = run(probe(data, settings))
    assert len(stepped.head.layers) == 1
    agree = (solved.val_logits.argmax(axis=1) == stepped.val_logits.argmax(axis=1)).mean()
    assert agree > 0.95


@pytest.mark.parametrize(
    ("n", "batch", "epochs"),
    [
        (1, 200, 30),
        (900, 200, 30),
        (8_000, 200, 30),
        (8_001, 200, 29),
        (20_250, 200, 12),
        (45_000, 200, 5),
        (10**6, 200, 5),
        (45_000, 512, 14),
        (45_000, 1, 5),
    ],
)
def test_epochs__enough_for_1200_steps(n: int, batch: int, epochs: int) -> None:
    assert enough_epochs(n, batch) == epochs
    steps = epochs * -(-n // batch)
    assert epochs in (5, 30) or abs(steps - 1200) <= steps / epochs / 2


def test_probe__epochs_left_open_are_as_many_as_are_enough() -> None:
    data, _ = some_data()
    settings = replace(MLP, epochs="auto", batch=2, patience=0)
    enough = enough_epochs(len(data.train), 2)

    left, said = (run(probe(data, replace(settings, epochs=epochs))) for epochs in ("auto", enough))

    assert len(left.history) == enough
    assert same_bits(left, said)


def test_probe__standardisation_can_be_left_out() -> None:
    """It changes the steps, not what the layers read: raw features in both cases."""
    data, cache = some_data(last=1.0)
    settings = replace(MLP, epochs=10)
    plain, raw = (run(probe(data, replace(settings, standardize=on))) for on in (True, False))
    assert not same_bits(plain, raw)
    for found in (plain, raw):
        logits = found.head.logits(cache.columns(("last",), data.val))
        assert (logits.argmax(axis=1) == data.labels[data.val]).mean() > 0.8


def test_probe__a_rate_can_be_found() -> None:
    data, _ = some_data(last=1.0)
    seen, found = run_seen(probe(data, replace(MLP, lr="auto", epochs=2, schedule="none")))
    said = [event.text for event in seen if isinstance(event, Detail)]
    assert said[0].startswith("The loss falls steepest at ")
    assert f"at {found.history[0]['lr']:.3g} (range test of " in said[0]


def test_probe__goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    data, _ = some_data()
    straight = run(probe(data, MLP))
    probing = probe(data, MLP, tmp_path)
    epochs = 0
    while epochs < 3:
        epochs += isinstance(next(probing), Progress)
    probing.close()
    seen, found = run_seen(probe(data, MLP, tmp_path))
    said = [event.text for event in seen if isinstance(event, Detail)]
    assert said == ["going on from the checkpoint after epoch 3"]
    assert same_bits(found, straight)
    assert timeless(found.history) == timeless(straight.history)
    other, _ = some_data(seed=1)
    assert same_bits(run(probe(other, MLP, tmp_path)), run(probe(other, MLP)))  # other data: from the beginning


def test_probe__an_empty_subset_is_refused() -> None:
    data, _ = some_data()
    with pytest.raises(Refused) as caught:
        run(probe(replace(data, val=data.val[:0]), HeadSettings()))
    assert str(caught.value) == (
        "there are no validation images: a head needs some to learn from and some to be chosen by"
    )


@pytest.mark.parametrize(
    ("spec", "widths"), [("linear", ()), ("prototype", ()), ("mlp:256", (256,)), ("mlp:1024,256", (1024, 256))]
)
def test_parse_head__widths(spec: str, widths: tuple[int, ...]) -> None:
    assert parse_head(spec) == widths


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("mpl:256", "Did you mean mlp:256 ? "),
        ("mlp", "Did you mean mlp:256 ? "),
        ("mlp:1024;256", "Did you mean mlp:1024,256 ? "),
        ("MLP:64", "Did you mean mlp:64 ? "),
        ("liner", "Did you mean linear ? "),
        ("protoype", "Did you mean prototype ? "),
        ("", ""),
        ("forest", ""),
    ],
)
def test_parse_head__a_wrong_word_gets_the_nearest(spec: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_head(spec)
    assert str(caught.value) == (
        f"no head '{spec}'. {hint}Expected linear, prototype, or mlp: with the widths of the hidden layers, "
        "as mlp:256 or mlp:1024,256"
    )


def test_probe__wrong_taps_are_refused() -> None:
    data, _ = some_data()
    with pytest.raises(Refused) as caught:
        run(probe(data, HeadSettings(taps="lst")))
    assert str(caught.value) == "--taps lst is not known. Did you mean last ? Known: auto, last, all"


def test_head_settings__take_over_what_fit_was_told() -> None:
    told: dict[str, Any] = {
        "optimizer": "sgd", "lr": 0.1, "epochs": 7, "keep": "val.loss", "nesterov": True, "weight_decay": 0.2,
        "warmup": 1.5, "micro_batch": 30, "label_smoothing": 0.1, "ema": 0.9, "clip": 2.0, "precision": "bf16",
        "allow_inexact": True, "seed": 3,
    }  # fmt: skip
    head: dict[str, Any] = {"balance": "weights", "standardize": False}
    settings = HeadSettings.from_settings(
        fit_settings("photos", head="mlp:1024,256", dropout="0.5,0.3", until="val.accuracy=0.9", **told, **head)
    )
    assert settings == HeadSettings("mlp:1024,256", (0.5, 0.3), until=("val.accuracy", 0.9), **told, **head)
    assert settings.shape == HeadShape((1024, 256), (0.5, 0.3), standardize=False)
    assert settings.loop == LoopSettings(patience=5, until=("val.accuracy", 0.9), **told)
    assert HeadSettings(lr="auto").loop.lr == LoopSettings().lr
    assert HeadSettings.from_settings(fit_settings("photos")) == HeadSettings()


@pytest.mark.slow
def test_probe__a_linear_head_imports_nothing_heavy_but_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from headway.training.probe import *\n"
        "X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)\n"
        "data = ProbeData(lambda taps, i: X[i], np.arange(60) % 2, np.arange(40), "
        "np.arange(40, 60), (('last', 4),), 2)\n"
        "list(probe(data, HeadSettings()))\n"
        "print([name for name in ('timm', 'torchvision', 'accelerate', 'sklearn', 'scipy', 'torch._dynamo', 'sympy')"
        " if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
