from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from headway.training.dropout import Dropout
from headway.training.head_layers import build_head

SHAPES = st.sampled_from([(1,), (5, 3), (7, 64), (2, 3, 11), (64, 129)])
SHARES = st.floats(0.001, 0.99)


def dropped(p: float, given: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    out: Tensor = Dropout(p)(given)
    return out


@given(SHAPES, SHARES, st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_each_number_is_dropped_or_scaled(shape: tuple[int, ...], p: float, seed: int, dtype: torch.dtype) -> None:
    images = torch.randn(shape, dtype=dtype) + 10
    out = dropped(p, images, seed)
    assert out.shape == images.shape
    assert out.dtype == dtype
    kept = out != 0
    scale = 65536 / (65536 - round(65536 * p))
    torch.testing.assert_close(out[kept], (images * torch.tensor(scale, dtype=dtype))[kept], rtol=1e-2, atol=0)
    assert scale == pytest.approx(1 / (1 - p), rel=2e-3)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_the_share_is_met_as_by_torch(p: float) -> None:
    # Six standard deviations of a binomial; torch's own is held to the same bound.
    n = 1 << 20
    for out in (dropped(p, torch.ones(1024, 1024)), nn.functional.dropout(torch.ones(1024, 1024), p, True)):
        bound = 6 * (p * (1 - p) / n) ** 0.5 + 1 / 65536
        assert float((out == 0).double().mean()) == pytest.approx(p, abs=bound)
        assert float(out.double().mean()) == pytest.approx(1, abs=bound / (1 - p) + 1e-4)


def test_rows_columns_and_neighbours_are_independent() -> None:
    gone = (dropped(0.3, torch.ones(4096, 256)) == 0).numpy().astype(np.float64)
    for lag in (1, 2, 3, 4, 5, 256, 512, 1024):
        flat = gone.ravel()
        assert np.corrcoef(flat[:-lag], flat[lag:])[0, 1] == pytest.approx(0, abs=6 / len(flat) ** 0.5)
    assert gone.mean(axis=0).std() == pytest.approx((0.21 / 4096) ** 0.5, rel=0.2)
    assert gone.mean(axis=1).std() == pytest.approx((0.21 / 256) ** 0.5, rel=0.2)


def test_bits_follow_torchs_generator_and_one_draw_of_it() -> None:
    images = torch.randn(33, 7)
    assert torch.equal(dropped(0.4, images, 5), dropped(0.4, images, 5))
    assert not torch.equal(dropped(0.4, images, 5), dropped(0.4, images, 6))
    torch.manual_seed(5)
    module = Dropout(0.4)
    first, after = module(images), torch.random.get_rng_state()
    assert not torch.equal(first, module(images))
    torch.manual_seed(5)
    module(torch.randn(1000, 20, generator=torch.Generator()))
    assert torch.equal(torch.random.get_rng_state(), after)  # whatever the size, one number was drawn


def test_gradients_pass_where_numbers_did() -> None:
    images = torch.randn(19, 23, requires_grad=True)
    out = dropped(0.5, images)
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert torch.equal(images.grad, torch.where(out != 0, 2.0, 0.0))


@pytest.mark.parametrize(("p", "value"), [(0.0, 1.0), (1.0, 0.0), (1e-9, 1.0)])
def test_nothing_and_all(p: float, value: float) -> None:
    assert torch.equal(dropped(p, torch.ones(8, 8)), torch.full((8, 8), value))


def test_prediction_and_no_numbers() -> None:
    images = torch.randn(8, 8)
    assert Dropout(0.5).eval()(images) is images
    assert Dropout(0.5)(torch.empty(0, 8)).shape == (0, 8)


def test_heads_use_it() -> None:
    head = build_head(8, (4,), (0.5,), 3)
    assert type(head[0]) is Dropout
    assert head[0].p == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_has_torchs_own() -> None:
    images = torch.ones(64, 64, device="cuda")
    torch.manual_seed(1)
    ours = Dropout(0.3)(images)
    torch.manual_seed(1)
    assert torch.equal(ours, nn.functional.dropout(images, 0.3, True))
