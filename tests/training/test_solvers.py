from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.errors import HeadwayError
from headway.training.balance import balanced_weights
from headway.training.curvature import Memory
from headway.training.design import in_memory
from headway.training.solvers import SHRINK, Solution, fit_softmax, pose, shrunk, softmax_path


def some_data(n: int, d: int, c: int, seed: int = 0, noise: float = 2.0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features of uneven scale (n, d) float64 and labels (n,) that depend on them with noise; every class is there."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, d)) * random.uniform(0.1, 10, d) + random.normal(size=d) * 3
    truth = random.normal(size=(c, d)) / np.std(X, axis=0)
    y = np.argmax((X - X.mean(axis=0)) @ truth.T + noise * random.gumbel(size=(n, c)), axis=1)
    y[:c] = np.arange(c)
    return X, y


def standardised(X: NDArray[Any]) -> NDArray[np.float64]:
    X = X.astype(np.float64)
    deviation = X.std(axis=0)
    return np.asarray((X - X.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0))


def probabilities(solution: Solution, X: NDArray[Any]) -> NDArray[np.float64]:
    logits = X.astype(np.float64) @ solution.weight.T.astype(np.float64) + solution.bias
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def objective(weight: torch.Tensor, bias: torch.Tensor, X: NDArray[Any], y: NDArray[Any], l2: float) -> torch.Tensor:
    logits = torch.from_numpy(standardised(X)) @ weight.T + bias
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)) + l2 / 2 * weight.square().sum()


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_softmax__agrees_with_scikit_learn(l2: float, weighted: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = some_data(300, 20, 4)
    weights = balanced_weights(y, 4) if weighted else None
    solution = fit_softmax(X, y, 4, l2=l2, weights=weights, tolerance=1e-8)

    oracle = LogisticRegression(
        C=1 / (l2 * len(y)), tol=1e-10, max_iter=10_000, class_weight="balanced" if weighted else None
    ).fit(standardised(X), y)
    expected = oracle.coef_ / X.std(axis=0)
    assert solution.converged
    np.testing.assert_allclose(solution.weight, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(probabilities(solution, X), oracle.predict_proba(standardised(X)), atol=1e-5)


def test_fit_softmax__float32_agrees_with_float64() -> None:
    X, y = some_data(500, 40, 5)
    exact = fit_softmax(X, y, 5, l2=1e-2, tolerance=1e-9)
    assert exact.iterations < 100  # steepest descent takes several hundred
    single = fit_softmax(X.astype(np.float32), y, 5, l2=1e-2, tolerance=1e-5)
    assert single.converged
    np.testing.assert_allclose(single.weight, exact.weight, atol=1e-4 * np.abs(exact.weight).max())
    assert single.loss == pytest.approx(exact.loss, rel=1e-6)


def test_problem__gradient_is_that_of_autograd() -> None:
    X, y = some_data(50, 7, 3)
    problem = pose(X, y, 3)
    theta = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 8)))
    weight, bias = theta[:, :-1].clone().requires_grad_(), theta[:, -1].clone().requires_grad_()
    objective(weight, bias, X, y, 0.3).backward()  # type: ignore[no-untyped-call]

    found = problem.evaluate(theta).gradient(0.3)

    assert weight.grad is not None
    assert bias.grad is not None
    torch.testing.assert_close(found[:, :-1], weight.grad)
    torch.testing.assert_close(found[:, -1], bias.grad)


def test_fit_softmax__reports_its_own_objective_and_accuracy() -> None:
    X, y = some_data(200, 10, 3)
    solution = fit_softmax(X, y, 3, l2=0.05)
    weight = torch.from_numpy(solution.weight * X.std(axis=0))
    bias = torch.from_numpy(solution.bias + solution.weight.astype(np.float64) @ X.mean(axis=0))
    assert solution.loss == pytest.approx(float(objective(weight, bias, X, y, 0.05)), rel=1e-6)
    own = probabilities(solution, X)
    assert solution.log_loss == pytest.approx(-np.log(own[np.arange(200), y]).mean(), rel=1e-5)
    assert solution.accuracy == (own.argmax(axis=1) == y).mean()


def test_fit_softmax__fewer_rows_than_features() -> None:
    X, y = some_data(12, 200, 3)
    solution = fit_softmax(X.astype(np.float32), y, 3, l2=0.1)
    assert solution.converged
    assert solution.accuracy == 1.0


def test_fit_softmax__separable_data_stays_finite() -> None:
    X = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    solution = fit_softmax(X, np.array([0, 0, 1, 1]), 2, l2=1e-6)
    assert np.isfinite(solution.weight).all()
    assert solution.accuracy == 1.0


def test_fit_softmax__without_a_penalty_separable_data_still_ends() -> None:
    X = np.array([[-1.0], [-2.0], [1.0], [2.0]], np.float32)
    assert np.isfinite(fit_softmax(X, np.array([0, 0, 1, 1]), 2, l2=0.0).weight).all()


def test_fit_softmax__a_constant_feature_gets_no_weight() -> None:
    X, y = some_data(100, 5, 3)
    constant = np.full(100, 0.1, np.float32)
    constant[::3] = np.nextafter(np.float32(0.1), np.float32(1))  # as constant as a network's rounding lets it be
    X = np.column_stack([X, constant]).astype(np.float32)
    with_constant = fit_softmax(X, y, 3, l2=0.01)
    assert (with_constant.weight[:, -1] == 0).all()
    without = fit_softmax(X[:, :-1], y, 3, l2=0.01)
    np.testing.assert_allclose(with_constant.weight[:, :-1], without.weight, atol=1e-4)


def test_fit_softmax__features_without_any_signal_give_class_shares() -> None:
    y = np.array([0, 0, 0, 1])
    solution = fit_softmax(np.ones((4, 3), np.float32), y, 2, l2=0.01)
    assert solution.converged
    np.testing.assert_allclose(probabilities(solution, np.ones((1, 3)))[0], [0.75, 0.25], atol=1e-6)


def test_fit_softmax__every_row_twice_changes_nothing() -> None:
    X, y = some_data(80, 6, 3)
    once, twice = (fit_softmax(np.tile(X, (k, 1)), np.tile(y, k), 3, l2=0.02, tolerance=1e-9) for k in (1, 2))
    np.testing.assert_allclose(once.weight, twice.weight, atol=1e-6)


def test_fit_softmax__a_class_of_one_sample_and_one_without() -> None:
    X, y = some_data(60, 6, 2)
    y[7] = 2
    solution = fit_softmax(X.astype(np.float32), y, 4, l2=1e-3)
    assert np.isfinite(solution.bias).all()
    own = probabilities(solution, X)
    assert own[7].argmax() == 2
    assert own[:, 3].max() < 0.05


def test_fit_softmax__means_far_from_zero_keep_their_digits() -> None:
    """float32 has about three digits left at 10,000 standard deviations from zero; the solver loses none of them."""
    X, y = some_data(200, 8, 3)
    far = (X + 10_000 * X.std(axis=0)).astype(np.float32)
    solution = fit_softmax(far, y, 3, l2=0.01)
    assert solution.converged
    exact = fit_softmax(far.astype(np.float64), y, 3, l2=0.01, tolerance=1e-8)
    np.testing.assert_allclose(solution.weight, exact.weight, atol=1.5e-4 * np.abs(exact.weight).max())


def test_fit_softmax__beyond_the_precision_of_the_features_it_stops_and_says_so() -> None:
    X, y = some_data(200, 8, 3)
    solution = fit_softmax(X.astype(np.float32), y, 3, l2=0.01, tolerance=1e-12)
    assert not solution.converged
    assert solution.gradient < 1e-5
    assert solution.iterations < 200


def test_fit_softmax__leaves_its_input_alone_and_takes_strided_read_only_views() -> None:
    X, y = some_data(100, 12, 3)
    whole = X.astype(np.float32)
    whole.setflags(write=False)
    before = whole.copy()
    part = fit_softmax(whole[:, 3:9], y, 3, l2=0.01)
    np.testing.assert_array_equal(whole, before)
    np.testing.assert_allclose(
        part.weight, fit_softmax(before[:, 3:9].copy(), y, 3, l2=0.01).weight, atol=1e-5 * np.abs(part.weight).max()
    )


def test_fit_softmax__same_input_same_bits() -> None:
    X, y = some_data(400, 30, 5)
    first, second = (fit_softmax(X.astype(np.float32), y, 5, l2=1e-3) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


def test_fit_softmax__class_weights_count_by_their_ratios() -> None:
    X, y = some_data(100, 5, 3)
    one, ten = (fit_softmax(X, y, 3, l2=0.01, weights=np.array([k, 2 * k, 5 * k])) for k in (1.0, 10.0))
    np.testing.assert_allclose(one.weight, ten.weight, atol=1e-5)


def test_fit_softmax__a_feature_that_is_not_finite_is_named() -> None:
    X, y = some_data(20, 5, 2)
    X[13, 4] = np.nan
    with pytest.raises(HeadwayError, match=r"^feature 4 of training row 13 is nan, not a finite number$"):
        fit_softmax(X.astype(np.float32), y, 2, l2=0.1)


def test_softmax_path__ends_where_a_cold_start_ends() -> None:
    X, y = some_data(200, 15, 4)
    l2s = [1.0, 0.1, 0.01]
    path = list(softmax_path(X, y, 4, l2s, tolerance=1e-7))
    assert [solution.l2 for solution in path] == l2s
    cold = fit_softmax(X, y, 4, l2=0.01, tolerance=1e-8)
    np.testing.assert_allclose(path[-1].weight, cold.weight, atol=1e-4 * np.abs(cold.weight).max())


def test_softmax_path__starting_at_the_solution_costs_no_iteration() -> None:
    X, y = some_data(200, 15, 4)
    done = fit_softmax(X, y, 4, l2=0.1, tolerance=1e-6)
    again = fit_softmax(X, y, 4, l2=0.1, start=(done.weight, done.bias), tolerance=1e-4)
    assert again.iterations == 0


def correlated(n: int, d: int, c: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features as networks give them: few directions hold nearly all of what varies."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(d, d)) * np.geomspace(10, 0.01, d)[:, None]
    X = random.normal(size=(n, d)) @ mixing + random.normal(size=d)
    y = np.argmax(standardised(X) @ random.normal(size=(d, c)) + 3 * random.gumbel(size=(n, c)), axis=1)
    return X, y


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_problem__inverse_hessian_is_that_of_the_covariances(far: float) -> None:
    X, y = correlated(95, 12, 5)  # few enough that every row is taken
    found = pose(X + far, y, 5).inverse_hessian(0.03)

    k = 0.1 * 0.2 * 0.8
    expected = np.zeros((13, 13))
    expected[:12, :12] = np.linalg.inv(k * np.cov(standardised(X).T, ddof=0) + (0.03 + 1e-4 * k) * np.eye(12))
    expected[12, 12] = 1 / k
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-3 * expected.max())


@pytest.mark.parametrize(("n", "d", "c"), [(47, 12, 5), (400, 60, 2), (400, 12, 1)])
def test_problem__no_inverse_hessian_where_it_would_not_pay(n: int, d: int, c: int) -> None:
    """Few rows for so many features, hardly any classes for them, or nothing to tell apart."""
    X, y = np.random.default_rng(0).normal(size=(n, d)), np.arange(n) % c
    assert pose(X, y, c).inverse_hessian(0.1) is None


def test_fit_softmax__features_that_go_together_cost_few_iterations() -> None:
    """From the covariances on it ends where it ends without them, in less than half the iterations."""
    X, y = correlated(3000, 60, 10)
    problem = pose(X, y, 10)
    plain = replace(problem, together=None).solve(0.001, tolerance=1e-6)
    quick = problem.solve(0.001, tolerance=1e-6)

    assert plain.converged
    assert quick.converged
    assert quick.loss == pytest.approx(plain.loss, rel=1e-9)
    assert quick.iterations < 0.5 * plain.iterations


def test_memory__a_step_turns_the_gradient_as_the_penalty_says() -> None:
    """Pairs learnt under one L2 are, under another, what they would have been learnt as there."""
    X, y = some_data(80, 6, 3)
    problem = pose(X, y, 3)
    random = np.random.default_rng(2)
    here, there = (problem.evaluate(torch.from_numpy(random.normal(size=(3, 7)))) for _ in range(2))
    gradient = torch.from_numpy(random.normal(size=(3, 7)))

    def learnt(l2: float) -> Memory:
        memory = Memory()
        memory.under(l2, None)
        before = here.gradient(l2)
        memory.direction(before)
        memory.learn(there.theta - here.theta, before, there.gradient(l2))
        return memory

    moved = learnt(0.1)
    moved.under(0.7, None)

    torch.testing.assert_close(moved.direction(gradient), learnt(0.7).direction(gradient), rtol=1e-4, atol=1e-6)


def test_memory__the_path_takes_fewer_passes_and_ends_at_the_same() -> None:
    X, y = correlated(3000, 60, 10)
    problem, l2s = pose(X, y, 10), (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)

    def path(memory: Memory | None) -> list[Solution]:
        found: list[Solution] = []
        for l2 in l2s:
            start = found[-1].point if found else None
            found.append(problem.solve(l2, start=start, tolerance=1e-4, memory=memory))
        return found

    kept, anew = path(Memory()), path(None)
    assert sum(one.passes for one in kept) < 0.8 * sum(one.passes for one in anew)
    for one, other in zip(kept, anew, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)


def test_solve__starting_where_another_fit_ended_costs_no_pass() -> None:
    X, y = some_data(200, 15, 4)
    problem = pose(X, y, 4)
    done = problem.solve(0.1, tolerance=1e-6)
    assert problem.solve(0.1, start=done.point, tolerance=1e-4).passes == 0
    assert problem.solve(0.1, start=(done.weight, done.bias), tolerance=1e-4).passes == 1


def test_balanced_weights__every_class_counts_alike() -> None:
    y = np.array([0, 0, 0, 1, 3, 3])
    weights = balanced_weights(y, 4)
    assert weights.tolist() == [0.5, 1.5, 0.0, 0.75]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), c=st.integers(2, 5))
def test_fit_softmax__order_of_rows_and_names_of_classes_do_not_matter(seed: int, c: int) -> None:
    X, y = some_data(60, 5, c, seed=seed)
    random = np.random.default_rng(seed)
    rows, names = random.permutation(60), random.permutation(c)
    plain = fit_softmax(X, y, c, l2=0.05, tolerance=1e-9)
    moved = fit_softmax(X[rows], names[y[rows]], c, l2=0.05, tolerance=1e-9)
    scale = np.abs(plain.weight).max()
    np.testing.assert_allclose(moved.weight[names], plain.weight, atol=1e-5 * scale)
    np.testing.assert_allclose(probabilities(moved, X)[:, names], probabilities(plain, X), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 40), d=st.integers(1, 30), exponent=st.floats(-4, 1))
def test_fit_softmax__gradient_vanishes_at_the_solution(seed: int, n: int, d: int, exponent: float) -> None:
    X, y = some_data(n, d, 3, seed=seed)
    l2 = 10**exponent
    solution = fit_softmax(X, y, 3, l2=l2, tolerance=1e-6)
    assert solution.converged
    weight = torch.from_numpy(solution.weight * X.std(axis=0)).requires_grad_()
    bias = torch.from_numpy(solution.bias + solution.weight.astype(np.float64) @ X.mean(axis=0)).requires_grad_()
    objective(weight, bias, X, y, l2).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert float(weight.grad.norm()) < 1e-5 * max(1.0, float(weight.detach().norm()))


def test_shrunk__goes_from_the_mean_of_the_tap_to_the_own_deviation() -> None:
    deviation = torch.tensor([1.0, 3.0, 0.0, 100.0, 300.0], dtype=torch.float64)

    few, many = shrunk(deviation, 1, [3, 2]), shrunk(deviation, 10**9, [3, 2])

    assert many.numpy() == pytest.approx(deviation.numpy())
    mean = (1 + 9 + 0) / 3
    assert few[0].item() == pytest.approx(np.sqrt((1 + SHRINK * mean) / (1 + SHRINK)))
    assert few[2].item() == 0  # a feature that does not vary stays out
    assert few[3].item() > 200  # by its own tap, not by the other


def test_pose__shrunk_deviations_find_the_signal_among_many_faint_features() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(10) % 2
    scales = np.concatenate([[5.0], np.full(400, 0.05)])
    rows, asked = (rng.normal(size=(n, 401)) * scales for n in (10, 500))
    truth = np.arange(500) % 2
    rows[:, 0] += 12 * y
    asked[:, 0] += 12 * truth

    def accuracy(widths: list[int]) -> float:
        found = pose(rows.astype(np.float32), y, 2, widths=widths).solve(0.1)
        return float(((asked @ found.weight.T + found.bias).argmax(axis=1) == truth).mean())

    assert accuracy([401]) > accuracy([]) + 0.05


@pytest.mark.parametrize(("n", "d", "c"), [(1023, 24, 16), (1024, 24, 16), (1500, 1, 40), (1200, 33, 15)])
@pytest.mark.parametrize("columns", [None, slice(1, None)])
def test_evaluate__blocks_of_many_rows(n: int, d: int, c: int, columns: slice | None) -> None:
    X, y = some_data(n, d + 2, c)
    X = X.astype(np.float32)
    given = in_memory(X) if columns is None else in_memory(X).part(columns)
    theta = torch.randn(c, given.shape[1] + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 10
    part = X if columns is None else X[:, columns]

    found, expected = (pose(rows, y, c).evaluate(theta) for rows in (given, part.astype(np.float64)))

    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert abs(found.right - expected.right) <= 1
    torch.testing.assert_close(found.slope, expected.slope, rtol=0, atol=1e-5 * float(expected.slope.abs().max()))
