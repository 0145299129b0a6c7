"""Limits, horizons and noise of the quadratic model with late gradients, by brute force."""

import re

import documents
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from tests.late_quadratics import METHODS, late_settings, one, radius
from tests.quadratics import DECAYS
from xgrad_optax.stability import (
    best_horizon,
    effective_horizon,
    max_learning_rate,
    spectral_radius,
    stationary_variance,
    widest_horizon,
)

PAGE = documents.ROOT / "docs" / "late-gradients.md"


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


# --------------------------------------------------------------------------------------------------
# The limit and the widest horizon
# --------------------------------------------------------------------------------------------------

MOMENTA = st.one_of(st.just(0.0), st.floats(0, 0.98), st.floats(-3, -1).map(lambda x: 1 - 10**x))
HORIZONS = st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 2).map(lambda x: 10**x))


@given(METHODS, st.integers(1, 20), HORIZONS, MOMENTA, st.floats(0.1, 10))
def test_limit_separates_decay_from_growth(method, delay, s, mu, h):
    limit = float(max_learning_rate(h, s, mu, method=method, delay=delay))
    for factor in (1e-2, 0.3, 0.9, 1 - 1e-4):
        assert radius(one((h, factor * limit, s, mu, 0.0), delay, method)) < 1
    for factor in (1 + 1e-4, 1.1, 3, 100, 1e4):  # no range above it is stable again
        assert radius(one((h, factor * limit, s, mu, 0.0), delay, method)) > 1


@pytest.mark.parametrize("delay", [1, 2, 7, 40])
def test_limits_that_are_known(delay):
    expected = 2 * np.sin(np.pi / (4 * delay + 2))
    np.testing.assert_allclose(max_learning_rate(1.0, 0.0, 0.0, delay=delay), expected)
    # The horizon that cancels momentum leaves delayed gradient descent.
    np.testing.assert_allclose(max_learning_rate(1.0, 9.0, 0.9, delay=delay), 0.1 * expected)
    for mu in (0.3, 0.9, 0.999):
        np.testing.assert_allclose(max_learning_rate(2.0, 0.0, mu, delay=1), (1 - mu) / 2)
    assert max_learning_rate(-1.0, 1, 0.9, delay=delay) == 0
    assert max_learning_rate(0.0, 1, 0.9, delay=delay) == np.inf


def test_limit_in_single_precision():
    for mu, delay in ((0.9, 1), (0.999, 16), (0.5, 64)):
        exact = max_learning_rate(1.0, 3.0, mu, delay=delay)
        with jax.enable_x64(False):
            single = max_learning_rate(1.0, 3.0, mu, delay=delay)
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, exact, rtol=3e-5)


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("delay", [1, 2, 4, 16])
def test_widest_horizon_beats_a_fine_grid(delay, mu):
    widest = float(widest_horizon(mu, delay=delay))
    grid = max_learning_rate(1.0, np.linspace(0, 2 * delay + 2, 2001), mu, delay=delay)
    limit = float(max_learning_rate(1.0, widest, mu, delay=delay))
    assert float(grid.max()) <= limit * (1 + 1e-9)
    np.testing.assert_allclose(limit, grid.max(), rtol=1e-4)


def test_widest_horizon_without_a_delay_and_for_one_step():
    np.testing.assert_array_equal(widest_horizon(np.array([0.0, 0.9]), delay=0), 0)
    mu = np.array([0.1, 0.9, 0.99])
    limit = max_learning_rate(1.0, widest_horizon(mu, delay=1), mu, delay=1)
    np.testing.assert_allclose(limit, (2 - mu) ** 2 / 4, rtol=1e-9)


def rows_of(page, columns):
    rows = re.findall(r"^\|(.*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [row.replace("τ = ", "").split("|") for row in rows if row.count("|") == columns - 1]
    return [[float(x) for x in row] for row in cells if not re.search(r"[a-z-]", "".join(row))]


def test_the_pages_table_of_limits():
    rows = rows_of(PAGE, 6)
    assert [row[0] for row in rows] == [1, 4, 16]
    for tau, *limits, s in rows:
        delay = int(tau)
        widest = widest_horizon(0.9, delay=delay)
        horizons = np.array([0.0, tau, effective_horizon(tau + 1, 0.9), widest])
        expected = max_learning_rate(1.0, horizons, 0.9, delay=delay)
        np.testing.assert_allclose(limits, expected, atol=5e-5)
        np.testing.assert_allclose(s, widest, atol=5e-3)


def test_the_pages_table_of_steps():
    rows = rows_of(PAGE, 8)
    assert [row[:2] for row in rows] == [[k, t] for k in (100, 10000) for t in (1, 4, 16)]
    for kappa, tau, *cells in rows:
        for predicted, (steps, mu, a) in enumerate((cells[:3], cells[3:])):
            s = effective_horizon(tau + 1, mu) if predicted else 0.0
            spectrum = a * np.geomspace(1 / kappa, 1, 12)
            worst = float(spectral_radius(spectrum, 1.0, s, mu, delay=int(tau)).max())
            np.testing.assert_allclose(-1 / np.log(worst), steps, rtol=0.1)


# --------------------------------------------------------------------------------------------------
# The best horizon, and noise
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [1, 5])
@pytest.mark.parametrize(("decay", "coupled"), [(0.0, False), (0.2, False), (0.2, True)])
def test_best_horizon_beats_a_fine_grid(delay, decay, coupled):
    rng = np.random.default_rng(delay)
    options = {"weight_decay": decay, "coupled": coupled, "delay": delay}
    for _ in range(3):
        mu = rng.uniform(0.1, 0.95)
        spectrum = np.append(rng.uniform(0.01, 1, size=2), 1.0)
        limit = float(max_learning_rate(1.0, rng.uniform(0, 3), mu, delay=delay))
        gamma = limit * rng.uniform(0.1, 1.2)
        best = float(best_horizon(spectrum, gamma, mu, **options))
        grid = np.append(best, np.linspace(0, 30, 1001))
        worst = spectral_radius(spectrum[:, None], gamma, grid, mu, **options).max(axis=0)
        assert worst[0] <= worst.min() + 1e-7


def test_best_horizon_at_its_borders():
    spectrum = np.array([[0.5, 3.0], [0.1, 1.0]])
    rates = np.array([0.01, 0.1])
    free = best_horizon(spectrum, rates, 0.9, delay=2)
    assert free.shape == (2,)
    np.testing.assert_allclose(free[1], best_horizon(spectrum[1], 0.1, 0.9, delay=2), rtol=1e-6)
    np.testing.assert_allclose(best_horizon(spectrum, rates, 0.9, s_max=0.5, delay=2), 0.5)
    # A slow direction that is overdamped already, none to act on, and a way down.
    assert best_horizon([0.1, 1.0], 0.02, 0.9, delay=2) == 0
    assert best_horizon([0.0], 0.1, 0.9, delay=2) == 0
    assert best_horizon([-1.0], 0.1, 0.9, delay=2) == 0


@pytest.mark.parametrize("delay", [1, 2, 5])
def test_variance_solves_the_lyapunov_equation(delay):
    @given(late_settings(delay, decays=DECAYS), METHODS, st.booleans(), st.floats(0.1, 10))
    def check(setting, method, coupled, noise_variance):
        step = one(setting, delay, method, coupled)
        matrix, (h, gamma, s, mu, decay) = step.matrix(), setting
        options = {"method": method, "weight_decay": decay, "coupled": coupled, "delay": delay}
        found = float(stationary_variance(h, gamma, s, mu, noise_variance, **options))
        if radius(step) > 1 + 1e-6:
            assert found == np.inf
        elif radius(step) < 1 - 1e-4:
            noise = np.zeros(len(matrix))
            noise[:2] = np.array([-1, 1]) * gamma * (1 - mu if method == "ema" else 1)
            expected = scipy.linalg.solve_discrete_lyapunov(
                matrix, noise_variance * np.outer(noise, noise)
            )
            np.testing.assert_allclose(found, expected[0, 0], rtol=1e-6)

    check()


def test_variance_of_slow_directions_in_single_precision():
    for h in (1e-6, 1e-3):
        exact = stationary_variance(h, 1.0, 2.0, 0.9, delay=4)
        with jax.enable_x64(False):
            single = stationary_variance(h, 1.0, 2.0, 0.9, delay=4)
        np.testing.assert_allclose(single, exact, rtol=1e-4)
