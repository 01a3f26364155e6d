from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from headway.advice.evidence import gather_evidence
from headway.events import drain
from headway.training.probe import HeadSettings, Probe, ProbeData, probe

TAPS = (("stage1_mean", 4), ("last", 10), ("stage2_mean", 3))


def some(n: int = 300, c: int = 3, clear: float = 0.6, seed: int = 0) -> tuple[ProbeData, Probe]:
    """Two thirds train, a sixth validates; a sixth (the test) is of no subset here, its labels and features wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % c).astype(np.int32)
    blocks = {name: rng.normal(size=(n, dim)) + clear * rng.normal(size=(c, dim))[labels] for name, dim in TAPS}
    train, val, _ = np.split(rng.permutation(n), [n * 4 // 6, n * 5 // 6])

    def columns(taps: tuple[str, ...], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        assert np.isin(rows, np.concatenate([train, val])).all(), "a test image was looked at"
        return np.concatenate([blocks[tap][rows] for tap in taps], axis=1).astype(np.float32)

    data = ProbeData(columns, labels, np.sort(train), np.sort(val), TAPS, c)
    return data, drain(probe(data, HeadSettings()))


def test_evidence__of_clear_features() -> None:
    data, found = some(clear=1.5)

    evidence = gather_evidence(data, found, seed=0)

    assert evidence.n_train == 200
    assert evidence.probe.accuracy > 0.9
    assert evidence.neighbours.accuracy > 0.9
    assert evidence.guess.accuracy == pytest.approx(1 / 3, abs=0.1)
    assert evidence.curve is not None
    assert [part.n for part in evidence.curve.parts] == [6, 12, 25, 50, 100, 200]
    assert evidence.curve.parts[-1].accuracy == evidence.probe.accuracy


def test_evidence__same_data_same_evidence() -> None:
    data, found = some()

    assert gather_evidence(data, found, seed=1).to_json() == gather_evidence(data, found, seed=1).to_json()


def test_evidence__test_labels_change_nothing() -> None:
    data, found = some()
    test = np.setdiff1d(np.arange(300), np.concatenate([data.train, data.val]))
    poisoned = data.labels.copy()
    poisoned[test] = 1_000_000

    told = [gather_evidence(own, found, seed=0).to_json() for own in (data, replace(data, labels=poisoned))]

    assert told[0] == told[1]


def test_evidence__neighbours_and_log_me_are_of_the_last_tap_whatever_the_head_took() -> None:
    data, _ = some()
    heads = [drain(probe(data, HeadSettings(taps=taps))) for taps in ("last", "all")]

    one, other = (gather_evidence(data, head, seed=0) for head in heads)

    assert (one.taps, other.taps) == ("last", "all")
    assert one.neighbours == other.neighbours
    assert one.log_me == pytest.approx(other.log_me, abs=1e-9)


@pytest.mark.parametrize(("n", "c"), [(15, 3), (36, 2)])
def test_evidence__of_five_or_ten_images_a_class_is_there_and_wide(n: int, c: int) -> None:
    data, found = some(n=n, c=c)

    evidence = gather_evidence(data, found, seed=0)

    low, high = evidence.probe.interval
    assert high - low > 0.3
    if evidence.curve is None:
        assert evidence.no_curve == "there are too few training images for a learning curve"
    else:
        assert evidence.curve.interval[1] - evidence.curve.interval[0] > 0.1


def test_evidence__of_a_head_with_hidden_layers_has_no_curve() -> None:
    data, _ = some()
    found = drain(probe(data, HeadSettings("mlp:8", epochs=2)))

    evidence = gather_evidence(data, found, seed=0)

    assert evidence.curve is None
    assert evidence.curve_sentence() == "a learning curve is drawn of linear heads only"


def test_evidence__neighbours_of_some_validation_images_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data, found = some(clear=1.5)
    monkeypatch.setattr("headway.advice.evidence._MOST_COMPARED", 20)

    evidence = gather_evidence(data, found, seed=0)

    assert (evidence.neighbours.n, evidence.probe.n) == (20, 50)
    assert evidence.neighbours.accuracy > 0.8
