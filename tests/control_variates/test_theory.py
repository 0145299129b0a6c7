"""Every formula of the cost theory, by simulation, by enumeration or on a grid."""

import itertools
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xgrad_optax.control_variates import (
    break_even_alignment,
    control_variate_gradient,
    cost_variance_ratio,
    optimal_coefficient,
    optimal_control_fraction,
    relative_cost,
    sampling_ratio,
    selection_variance,
    speedup,
    theory,
    variance_ratio,
)

RHO = st.floats(-1, 1)
COST = st.floats(0, 1.5)
SAMPLING = st.floats(0.05, 1.5)
FRACTION = st.floats(0.01, 1)
EACH_ORDER = pytest.mark.parametrize("chosen_after_forward", [False, True])


# --- the variance of the estimator ----------------------------------------------------------------

BATCH, SIZE, TRIALS = 8, 2, 40_000


def simulated_variance(f, rho, kappa, coefficient):
    """Var G over σ_g²/B by simulation, and the standard error of that.

    Gaussian gradients of 8 examples with two entries of variance ½ each, so that σ_g² = 1.
    """
    rng = np.random.default_rng(0)
    g, noise = rng.normal(scale=math.sqrt(0.5), size=(2, TRIALS, BATCH, SIZE))
    h = kappa * (rho * g + math.sqrt(1 - rho**2) * noise)
    n = round(f * BATCH)
    means = (g[:, :n].mean(1), h[:, :n].mean(1), h[:, n:].mean(1))
    estimates = control_variate_gradient(
        *(jnp.asarray(mean, jnp.float32) for mean in means),
        control_fraction=f,
        coefficient=coefficient,
    )
    ratio = BATCH * np.asarray(estimates, float).var(0, ddof=1).sum()
    return ratio, ratio * math.sqrt(2 / (SIZE * (TRIALS - 1)))


@pytest.mark.parametrize("f", [0.125, 0.25, 0.75])
@pytest.mark.parametrize(("rho", "kappa"), [(0.0, 1.0), (0.8, 0.8), (0.6, 1.5), (-0.5, 0.4)])
@pytest.mark.parametrize("coefficient", [None, 0.3, 1.2])
def test_variance_of_simulated_gradients(f, rho, kappa, coefficient):
    measured, error = simulated_variance(f, rho, kappa, coefficient)
    expected = variance_ratio(f, rho, kappa, coefficient)
    assert abs(measured - expected) < 4.5 * error
    assert error < 0.01 * expected, "the simulation tells one per cent"


def test_the_simulation_would_notice_a_wrong_formula():
    measured, error = simulated_variance(0.25, 0.8, 0.8, None)
    assert abs(measured - variance_ratio(0.25, 0.75, 0.8)) > 10 * error


@given(FRACTION, RHO, st.floats(0, 3))
def test_variance_as_the_design_writes_it(f, rho, kappa):
    design = (1 + (1 - f) * kappa**2 - 2 * (1 - f) * rho * kappa) / f
    np.testing.assert_allclose(variance_ratio(f, rho, kappa), design, rtol=1e-9, atol=1e-9)
    best = (1 - (1 - f) * rho**2) / f
    np.testing.assert_allclose(variance_ratio(f, rho), best, rtol=1e-9)


@given(st.floats(0.01, 0.99), RHO, st.floats(0.05, 3), st.floats(-2, 2))
def test_the_optimal_coefficient_is_the_minimum(f, rho, kappa, other):
    best = variance_ratio(f, rho, kappa, optimal_coefficient(f, rho, kappa))
    assert best <= variance_ratio(f, rho, kappa, other) * (1 + 1e-9)
    np.testing.assert_allclose(best, (1 - (1 - f) * rho**2) / f, rtol=1e-9)


@given(RHO, st.floats(0, 3), st.floats(-2, 2), SAMPLING)
def test_nothing_is_predicted_at_fraction_one(rho, kappa, coefficient, eta):
    assert variance_ratio(1.0, rho, kappa, coefficient, sampling_ratio=eta) == 1
    for after in (False, True):
        assert relative_cost(1.0, 0.7, chosen_after_forward=after) == 1
        assert cost_variance_ratio(1.0, rho, 0.7, chosen_after_forward=after) == 1


# --- cost and the best fraction -------------------------------------------------------------------


@given(FRACTION, RHO, COST)
def test_cost_variance_as_the_design_writes_it(f, rho, c):
    design = (1 - (1 - f) * rho**2) * (c + f * (1 - c)) / f
    np.testing.assert_allclose(cost_variance_ratio(f, rho, c), design, rtol=1e-9)


@EACH_ORDER
@given(st.floats(0.01, 0.99), COST)
def test_cost_ratio_is_recovered_from_the_relative_cost(chosen_after_forward, f, c):
    how = {"chosen_after_forward": chosen_after_forward}
    relative = relative_cost(f, c, **how)
    np.testing.assert_allclose(theory.cost_ratio_of(f, relative, **how), c, rtol=1e-6, atol=1e-9)


@EACH_ORDER
@given(RHO, COST, SAMPLING)
def test_no_fraction_beats_the_optimal_one(chosen_after_forward, rho, c, eta):
    how = {"sampling_ratio": eta, "chosen_after_forward": chosen_after_forward}
    best = optimal_control_fraction(rho, c, **how)
    grid = np.geomspace(1e-3, 1, 4000)
    ratios = cost_variance_ratio(grid, rho, c, **how)
    smallest = 1 / speedup(rho, c, **how)
    assert smallest <= ratios.min() * (1 + 1e-9)
    if best > 1e-3:
        np.testing.assert_allclose(cost_variance_ratio(best, rho, c, **how), smallest, rtol=1e-9)
        # The grid is fine enough to come as near to the minimum as its spacing says.
        np.testing.assert_allclose(ratios.min(), smallest, rtol=1e-4)


@EACH_ORDER
@given(RHO, COST, SAMPLING)
def test_break_even_best_fraction_and_speedup_agree(chosen_after_forward, rho, c, eta):
    how = {"sampling_ratio": eta, "chosen_after_forward": chosen_after_forward}
    gains = abs(rho) > break_even_alignment(c, **how)
    assert (optimal_control_fraction(rho, c, **how) < 1) == gains
    assert speedup(rho, c, **how) >= 1 - 1e-12
    if abs(abs(rho) - break_even_alignment(c, **how)) > 1e-3:
        assert (speedup(rho, c, **how) > 1) == gains


@given(st.floats(-0.999, 0.999), st.floats(0.001, 0.999))
def test_even_choice_as_the_design_writes_it(rho, c):
    np.testing.assert_allclose(break_even_alignment(c), math.sqrt(c), rtol=1e-9)
    if rho**2 > c * (1 + 1e-9):
        fraction = math.sqrt((1 - rho**2) * c / (rho**2 * (1 - c)))
        np.testing.assert_allclose(optimal_control_fraction(rho, c), fraction, rtol=1e-7)
        root = math.sqrt(rho**2 * (1 - c)) - math.sqrt((1 - rho**2) * c)
        np.testing.assert_allclose(speedup(rho, c), 1 / (1 - root**2), rtol=1e-7)
    elif rho**2 < c * (1 - 1e-9):
        assert optimal_control_fraction(rho, c) == speedup(rho, c) == 1


def test_perfect_and_free_predictions():
    assert optimal_control_fraction(1.0, 0.3) == 0
    np.testing.assert_allclose(speedup(1.0, 0.3), 1 / 0.3)
    np.testing.assert_allclose(speedup(0.9, 0.0), 1 / (1 - 0.9**2))
    assert speedup(1.0, 0.0) == math.inf
    assert break_even_alignment(1.0) >= 1


def test_arguments_broadcast():
    rho, c = np.linspace(0, 1, 5), np.array([[0.1], [0.4]])
    for function in (optimal_control_fraction, speedup):
        values = function(rho, c)
        assert values.shape == (2, 5)
        for (i, j), value in np.ndenumerate(values):
            assert value == function(rho[j], c[i, 0])


# --- importance -----------------------------------------------------------------------------------


def example_residuals(count, seed=0):
    rng = np.random.default_rng(seed)
    residuals = rng.normal(size=(count, 2)) * rng.gamma(1.0, size=(count, 1)) + 0.5
    probabilities = rng.dirichlet(np.full(count, 2.0))
    return residuals, probabilities


def enumerated_variance(residuals, probabilities, n):
    """Over all orders of the rows and all draws, with their probabilities."""
    count = len(residuals)
    mean, total = residuals.mean(0), 0.0
    orders = list(itertools.permutations(range(count)))
    for order in orders:
        blocks = np.reshape(order, (n, -1))
        for rows in itertools.product(*blocks):
            shares = [probabilities[block].sum() for block in blocks]
            chance = np.prod([probabilities[i] / s for i, s in zip(rows, shares, strict=True)])
            estimate = sum(
                residuals[i] * s / probabilities[i] for i, s in zip(rows, shares, strict=True)
            )
            total += chance * np.sum((estimate / count - mean) ** 2)
    return total / len(orders)


@pytest.mark.parametrize(("count", "n"), [(4, 1), (4, 2), (4, 4), (6, 2), (6, 3)])
def test_selection_variance_by_enumeration(count, n):
    residuals, probabilities = example_residuals(count)
    expected = enumerated_variance(residuals, probabilities, n)
    norms, mean = np.linalg.norm(residuals, axis=1), np.linalg.norm(residuals.mean(0))
    np.testing.assert_allclose(
        selection_variance(norms, probabilities, n, mean), expected, rtol=1e-12, atol=1e-15
    )


def test_selection_variance_and_sampling_ratio_agree():
    """η is by what the variance of the choice shrinks, at any number of control examples."""
    residuals, probabilities = example_residuals(12)
    norms, mean = np.linalg.norm(residuals, axis=1), np.linalg.norm(residuals.mean(0))
    eta = sampling_ratio(norms, probabilities, mean)
    for n in (1, 3, 6):
        even = selection_variance(norms, np.full(12, 1 / 12), n, mean)
        # An even choice: the textbook variance of sampling without replacement.
        variance = np.sum(np.var(residuals, axis=0, ddof=1))
        np.testing.assert_allclose(even, variance * (1 / n - 1 / 12))
        np.testing.assert_allclose(selection_variance(norms, probabilities, n, mean), eta * even)


@given(st.integers(0, 1000), st.lists(st.floats(0.1, 10), min_size=6, max_size=6))
def test_sampling_ratio_is_smallest_in_proportion_to_the_residuals(seed, others):
    residuals, _ = example_residuals(6, seed)
    norms, mean = np.linalg.norm(residuals, axis=1), np.linalg.norm(residuals.mean(0))
    best = sampling_ratio(norms, norms / norms.sum(), mean)
    other = np.array(others) / np.sum(others)
    assert best <= sampling_ratio(norms, other, mean) * (1 + 1e-9)
    np.testing.assert_allclose(sampling_ratio(norms, np.full(6, 1 / 6), mean), 1.0)


def test_sampling_ratio_by_rows_of_a_stack():
    norms, p = np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([[0.25, 0.75], [0.4, 0.6]])
    each = [sampling_ratio(n, q, m) for n, q, m in zip(norms, p, [0.5, 1.0], strict=True)]
    np.testing.assert_allclose(sampling_ratio(norms, p, [0.5, 1.0]), each)


def test_sampling_ratio_is_one_where_nothing_is_missed():
    assert sampling_ratio([0.0, 0.0], [0.3, 0.7]) == 1


# --- errors ---------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize("f", [0, -0.1, 1.01, NAN])
@pytest.mark.parametrize("function", [variance_ratio, relative_cost])
def test_fraction_out_of_range(function, f):
    with pytest.raises(ValueError, match=re.escape("must lie in (0, 1], got")):
        function(f, 0.5)


@pytest.mark.parametrize("rho", [-1.01, 1.01, NAN])
@pytest.mark.parametrize(
    "call",
    [
        lambda rho: variance_ratio(0.5, rho),
        lambda rho: optimal_coefficient(0.5, rho, 1.0),
        lambda rho: optimal_control_fraction(rho, 0.3),
        lambda rho: speedup(rho, 0.3),
    ],
)
def test_correlation_out_of_range(call, rho):
    with pytest.raises(ValueError, match=re.escape("rho must lie in [-1, 1], got")):
        call(rho)


@pytest.mark.parametrize("c", [-0.1, NAN])
@pytest.mark.parametrize(
    "call",
    [
        lambda c: relative_cost(0.5, c),
        lambda c: optimal_control_fraction(0.5, c),
        lambda c: speedup(0.5, c),
        break_even_alignment,
    ],
)
def test_cost_ratio_out_of_range(call, c):
    with pytest.raises(ValueError, match=re.escape("cost_ratio must lie in [0, inf], got")):
        call(c)


def test_other_arguments_out_of_range():
    with pytest.raises(ValueError, match="kappa must lie in"):
        variance_ratio(0.5, 0.5, -1.0)
    with pytest.raises(ValueError, match="kappa must be positive: a constant prediction"):
        optimal_coefficient(0.5, 0.5, 0.0)
    for eta in (0.0, -1.0, NAN, math.inf):
        with pytest.raises(ValueError, match="sampling_ratio must be a positive number"):
            variance_ratio(0.5, 0.5, sampling_ratio=eta)


def test_bad_probabilities_and_counts():
    with pytest.raises(ValueError, match="probabilities must be positive and sum to 1"):
        sampling_ratio([1.0, 1.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="probabilities must be positive and sum to 1"):
        sampling_ratio([1.0, 1.0], [0.0, 1.0])
    with pytest.raises(ValueError, match=re.escape("got shapes (2,) and (3,)")):
        sampling_ratio([1.0, 1.0], [0.2, 0.4, 0.4])
    with pytest.raises(ValueError, match="residual_norms must lie in"):
        sampling_ratio([-1.0, 1.0], [0.5, 0.5])
    for n in (0, 2, -3):
        with pytest.raises(ValueError, match="control_count must divide the 3 examples"):
            selection_variance([1.0, 1.0, 1.0], [0.2, 0.4, 0.4], n)
