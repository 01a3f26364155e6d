"""Training that ends when someone says that it is enough: at a step, with the best epoch so far. No clock is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.training.judging import best_of
from headway.training.loop import LoopSettings, Resumed, Trained, train
from headway.world import ALONE
from tests.training import nets

QUICK = LoopSettings(batch=12, epochs=3, lr=1e-2, keep="val.loss")  # 44 images: 4 batches an epoch


def after(steps: int) -> Callable[[], bool]:
    """Enough at the so many-th question."""
    asked = iter(range(1, 1_000))
    return lambda: next(asked) >= steps


def ended(enough: Callable[[], bool], folder: Path | None = None) -> tuple[list[Any], Trained]:
    return nets.finish(train(nets.task(44), QUICK, ALONE, folder, "key", enough))


@pytest.mark.parametrize(
    ("questions", "epochs"),
    [
        (1, 1),  # nothing is asked before there is an epoch to keep
        (2, 1),  # within epoch 2: what it did counts for nothing
        (4, 1),
        (5, 2),
    ],
)
def test_enough__the_best_epoch_so_far_is_kept(questions: int, epochs: int) -> None:
    whole = nets.trained(nets.task(44), QUICK)
    _, stopped = ended(after(questions))

    assert stopped.stopped == "time"
    assert nets.curve(stopped.epochs) == nets.curve(whole.epochs[:epochs])
    best = best_of(stopped.epochs, "val.loss")
    assert best is not None
    assert stopped.why == (
        f"Epoch {best.epoch} of {epochs} has the best val.loss, {best.score:.4f}; "
        "stopped as the time for it was used up (--budget)."
    )


def test_enough__half_an_epoch_changes_no_bit_of_what_is_kept() -> None:
    first, later = (ended(after(questions))[1] for questions in (1, 4))

    assert nets.same_bits(first.state, later.state)


def test_enough__goes_on_to_the_same_end(tmp_path: Path) -> None:
    """What time had ended stays ended: nobody is asked again."""
    _, stopped = ended(after(3), tmp_path)

    seen, again = ended(lambda: pytest.fail("asked again"), tmp_path)
    assert [type(value) for value in seen] == [Resumed]
    assert again.why == stopped.why
    assert nets.same_bits(again.state, stopped.state)


def test_enough__an_epoch_that_is_all_but_judged_is_judged() -> None:
    """After the last batch comes the judgement, whatever the clock says: four batches, three questions."""
    questions = iter(range(100))
    _, trained = ended(lambda: next(questions) < 0)

    assert trained.stopped == "epochs"
    assert next(questions) == 1 + 4 + 3  # after epoch 1; in and after epoch 2; in epoch 3
