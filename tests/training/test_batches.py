from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from headway.errors import Refused
from headway.training.batches import count_batches, cut_batches, own_part, shuffle
from headway.training.loop import (
    LoopSettings,
    Rows,
    Task,
)
from headway.training.mixing import Mix, blend, draw
from headway.world import World
from tests.training import nets

QUICK = LoopSettings(batch=12, epochs=3, lr=1e-2)


@pytest.mark.parametrize(("n", "size", "fewest"), [(10, 4, 1), (9, 4, 1), (9, 4, 2), (8, 4, 2), (3, 4, 4), (1, 4, 2)])
def test_cut_batches__all_are_there_once_and_none_is_too_small(n: int, size: int, fewest: int) -> None:
    order = shuffle(n, 3, 1)
    batches = cut_batches(order, size, fewest)
    assert np.concatenate(batches).tolist() == order.tolist()
    assert len(batches) == count_batches(n, size, fewest)
    assert all(len(batch) >= min(fewest, n) for batch in batches)
    assert all(len(batch) == size for batch in batches[:-1])


def test_train__a_last_batch_of_one_image_does_not_stop_batch_norm() -> None:
    """Its statistics would be none: torch refuses them."""
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3))
    pixels, labels = nets.images(25)
    rows = Rows(nets.feed_of(pixels.float()), labels)
    assert len(nets.trained(Task(model, rows, rows), QUICK).epochs) == 3


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 5, 6])
def test_own_part__together_they_are_the_batch(n: int, size: int) -> None:
    parts = [own_part(n, World(rank, size)) for rank in range(size)]
    assert [position for part in parts for position in range(n)[part]] == list(range(n))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_blend__mixup_is_the_weighted_mean() -> None:
    one, other = nets.images(4)[0], nets.images(4, seed=1)[0]
    mixed, share = blend(Mix(False, 0.3, (0.5, 0.5), np.arange(4)), one, other)
    assert share == 0.3
    torch.testing.assert_close(mixed, 0.3 * one.float() + 0.7 * other.float())


@pytest.mark.parametrize("last", [True, False])
def test_blend__cutmix_pastes_a_rectangle_and_counts_its_area(last: bool) -> None:
    one, other = torch.zeros(2, 8, 12, 3), torch.ones(2, 8, 12, 3)
    if not last:
        one, other = one.permute(0, 3, 1, 2), other.permute(0, 3, 1, 2)
    mixed, share = blend(Mix(True, 0.75, (0.5, 0.5), np.arange(2)), one, other)
    plane = mixed[0, :, :, 0] if last else mixed[0, 0]
    assert plane.sum() == 4 * 6  # a quarter of 8 x 12
    assert plane[2:6, 3:9].eq(1).all()
    assert share == 0.75
    corner, share = blend(Mix(True, 0.75, (0.0, 0.99), np.arange(2)), one, other)
    assert share == pytest.approx(1 - float(corner.mean()))
    assert float(one.sum()) == 0


def test_blend__cutmix_needs_images() -> None:
    with pytest.raises(Refused) as caught:
        blend(Mix(True, 0.5, (0.5, 0.5), np.arange(2)), torch.zeros(2, 5), torch.zeros(2, 5))
    assert str(caught.value) == "--cutmix cuts rectangles out of images, but was given (2, 5). Try --mixup"


def test_draw__is_a_function_of_its_parts() -> None:
    one, same, other = (draw(0.4, 0.0, 20, 0, 1, batch) for batch in (1, 1, 2))
    assert one is not None
    assert same is not None
    assert other is not None
    assert (one.share, one.partners.tolist()) == (same.share, same.partners.tolist())
    assert (one.share, one.partners.tolist()) != (other.share, other.partners.tolist())
    assert sorted(one.partners) == list(range(20))
    assert draw(0.0, 0.0, 20, 0, 1, 1) is None
    kinds = [drawn.cut for number in range(400) if (drawn := draw(1.0, 1.0, 2, number)) is not None]
    assert abs(np.mean(kinds) - 0.5) < 0.1
    shares = [drawn.share for number in range(400) if (drawn := draw(0.2, 0.0, 2, number)) is not None]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.4), abs=0.03)  # of Beta(0.2, 0.2)
