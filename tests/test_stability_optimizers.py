"""The real optimizers are what the quadratic model says, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import xgrad_optax
from tests.quadratics import DECAYS, settings
from xgrad_optax import base_params, with_weight_prediction, xgrad, zero_gradient
from xgrad_optax.stability import (
    companion_matrix,
    effective_horizon,
    max_learning_rate,
    spectral_radius,
    stationary_variance,
)

STEPS = 12


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


# --------------------------------------------------------------------------------------------------
# The real optimizers follow the recurrence
# --------------------------------------------------------------------------------------------------

# Adam's preconditioner is frozen by an ε beside which √v̂ is nothing.
HUGE = 1e12
MANY = 100_000  # steps after which the bias correction is 1 to the last bit


def sgdm(gamma, s, mu, decay):
    return xgrad_optax.sgdm(gamma, s=s, momentum=mu)


def sgdm_coupled(gamma, s, mu, decay):
    return xgrad_optax.sgdm(gamma, s=s, momentum=mu, weight_decay=decay)


def sgdm_decoupled(gamma, s, mu, decay):
    inner = optax.chain(
        optax.trace(decay=mu), optax.add_decayed_weights(decay), optax.scale_by_learning_rate(gamma)
    )
    return with_weight_prediction(inner, s, predictor=xgrad_optax.predictors.sgdm(gamma))


def last_update(gamma, s, mu, decay):
    return with_weight_prediction(optax.sgd(gamma, momentum=mu), s)


def rollout(gamma, s, mu, decay):
    return with_weight_prediction(optax.sgd(gamma, momentum=mu), s, predictor=zero_gradient())


def nesterov(gamma, s, mu, decay):
    return at_params(optax.sgd(gamma, momentum=mu, nesterov=True))


def heavy_ball_ema(gamma, s, mu, decay):
    inner = optax.chain(optax.ema(mu, debias=False), optax.scale_by_learning_rate(gamma))
    return with_weight_prediction(inner, s)


def frozen_adam(gamma, s, mu, decay):
    return xgrad_optax.adam(gamma * HUGE, s=s, b1=mu, eps=HUGE)


def frozen_adamw(gamma, s, mu, decay):
    return xgrad_optax.adamw(gamma * HUGE, s=s, b1=mu, eps=HUGE, weight_decay=decay / HUGE)


def at_params(tx):
    return (lambda params, state: params), tx


def after_many_steps(state):
    """Sets Adam's step count so that its bias correction has died out."""
    return optax.tree.set(state, count=jnp.int32(MANY)) if has_count(state) else state


def has_count(state):
    return optax.tree.get(state, "count") is not None


@functools.cache
def simulation(make, warm=True):
    """Compiles ``STEPS`` steps on ½hθ² once: everything else varies."""

    @jax.jit
    def run(h, gamma, s, mu, decay):
        with jax.numpy_dtype_promotion("standard"):
            lookahead_params, tx = make(gamma, s, mu, decay)
            theta = jnp.array(1.0)
            state = tx.init(theta)
            state = after_many_steps(state) if warm else state

        def step(carry, _):
            theta, state = carry
            with jax.numpy_dtype_promotion("standard"):
                gradient = h * lookahead_params(theta, state)
                updates, state = tx.update(gradient, state, theta)
            theta = optax.apply_updates(theta, updates)
            return (theta, state), theta

        _, thetas = jax.lax.scan(step, (theta, state), None, length=STEPS if warm else 60 * STEPS)
        return jnp.concatenate([jnp.ones(1), thetas])

    return run


def assert_follows(thetas, matrix, rtol=1e-8):
    """θ_{t+1} = T θ_t - D θ_{t-1} at every step, relative to the terms' size."""
    (trace, minus_determinant), _ = np.asarray(matrix)
    now, before, after = thetas[1:-1], thetas[:-2], thetas[2:]
    size = np.abs(trace * now) + np.abs(minus_determinant * before) + np.abs(after) + 1e-6
    np.testing.assert_array_less(
        np.abs(after - trace * now - minus_determinant * before) / size, rtol
    )


OPTIMIZERS = {
    # name: (optimizer, method, coupled, settings)
    "sgdm": (sgdm, "sgdm", False, settings()),
    "sgdm, negative curvature": (sgdm, "sgdm", False, settings(signs=st.just(-1.0))),
    "sgdm, coupled decay": (sgdm_coupled, "sgdm", True, settings(decays=DECAYS)),
    "sgdm, decoupled decay": (sgdm_decoupled, "sgdm", False, settings(decays=DECAYS)),
    "last_update": (last_update, "sgdm", False, settings()),
    "heavy ball, EMA": (heavy_ball_ema, "ema", False, settings()),
    "frozen Adam": (frozen_adam, "ema", False, settings()),
    "frozen AdamW": (frozen_adamw, "ema", False, settings(decays=DECAYS)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_follow_the_recurrence(name):
    make, method, coupled, strategy = OPTIMIZERS[name]

    @given(strategy)
    def check(setting):
        h, gamma, s, mu, decay = setting
        thetas = np.asarray(simulation(make)(h, gamma, s, mu, decay))
        matrix = companion_matrix(
            h, gamma, s, mu, method=method, weight_decay=decay, coupled=coupled
        )
        assert_follows(thetas, matrix)

    check()


@given(settings())
def test_nesterov_is_the_model_at_s_equal_momentum(setting):
    h, gamma, _, mu, _ = setting
    thetas = np.asarray(simulation(nesterov)(h, gamma, 0.0, mu, 0.0))
    assert_follows(thetas, companion_matrix(h, gamma, mu, mu))


@given(settings())
def test_the_rollout_is_the_model_at_its_effective_horizon(setting):
    h, gamma, s, mu, _ = setting
    thetas = np.asarray(simulation(rollout)(h, gamma, s, mu, 0.0))
    assert_follows(thetas, companion_matrix(h, gamma, effective_horizon(s, mu), mu))


@given(settings())
def test_adams_bias_correction_only_delays_the_recurrence(setting):
    h, gamma, s, mu, _ = setting
    h /= 2  # stable, and far from it at the start, where the bias correction makes steps larger
    mu = min(mu, 0.9)
    thetas = np.asarray(simulation(frozen_adam, warm=False)(h, gamma, s, mu, 0.0))
    matrix = companion_matrix(h, gamma, s, mu, method="ema")
    rest = thetas[40 * STEPS :]
    scale = np.abs(rest).max()
    if scale > 1e-200:
        assert_follows(rest / scale, matrix)


@given(settings())
def test_the_drop_in_form_is_the_same_recurrence(setting):
    h, gamma, s, mu, _ = setting
    tx = xgrad(optax.sgd(gamma, momentum=mu), s)
    theta_hat = jnp.array(1.0)
    state, thetas = tx.init(theta_hat), [1.0]
    for _ in range(5):
        updates, state = tx.update(h * theta_hat, state, theta_hat)
        theta_hat = optax.apply_updates(theta_hat, updates)
        thetas.append(float(base_params(theta_hat, state)))
    assert_follows(np.array(thetas), companion_matrix(h, gamma, s, mu))


@given(settings())
def test_a_step_of_sgdm_has_the_eigenvalues_of_the_companion_matrix(setting):
    h, gamma, s, mu, _ = setting
    lookahead_params, tx = xgrad_optax.sgdm(gamma, s=s, momentum=mu)
    leaves, structure = jax.tree.flatten((jnp.array(0.0), tx.init(jnp.array(0.0))))
    columns = []
    for basis in np.eye(len(leaves)):
        theta, state = jax.tree.unflatten(structure, list(jnp.asarray(basis)))
        updates, state = tx.update(h * lookahead_params(theta, state), state, theta)
        columns.append(jax.tree.leaves((theta + updates, state)))
    measured = np.array(columns).T
    assert measured.shape == (2, 2), "θ and v"
    expected = np.asarray(companion_matrix(h, gamma, s, mu))
    # Coefficients of the characteristic polynomial: eigenvalues themselves lose half of the digits
    # where they are double.
    np.testing.assert_allclose(np.trace(measured), np.trace(expected), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.det(measured), np.linalg.det(expected), rtol=1e-10, atol=1e-12
    )


# --------------------------------------------------------------------------------------------------
# Growth, divergence, noise
# --------------------------------------------------------------------------------------------------


@given(settings())
def test_spectral_radius_is_the_growth_of_the_real_optimizer(setting):
    h, gamma, s, mu, _ = setting
    lookahead_params, tx = xgrad_optax.sgdm(gamma, s=s, momentum=mu)

    @jax.jit
    def grow(theta, state):
        def step(carry, _):
            theta, state, logarithm = carry
            updates, state = tx.update(h * lookahead_params(theta, state), state, theta)
            theta = theta + updates
            size = optax.tree.norm((theta, state))
            rescaled = jax.tree.map(lambda x: x / size, (theta, state))
            return (*rescaled, logarithm + jnp.log(size)), None

        (_, _, logarithm), _ = jax.lax.scan(
            step, (theta, state, jnp.array(0.0)), None, length=20_000
        )
        return logarithm

    growth = np.exp(grow(jnp.array(1.0), tx.init(jnp.array(1.0))) / 20_000)
    # The logarithm of the norm wanders within a constant, polynomially near double roots.
    np.testing.assert_allclose(growth, spectral_radius(h, gamma, s, mu), rtol=2e-3)


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0, 3.0])
def test_the_real_optimizer_diverges_just_above_the_limit_and_not_below(s):
    limit = float(max_learning_rate(2.0, s, 0.9))
    ends = [
        np.abs(simulation(sgdm, warm=False)(2.0, factor * limit, s, 0.9, 0.0)[-1])
        for factor in (0.98, 1.02)
    ]
    assert ends[0] < 0.1 < 10 < ends[1]


@pytest.mark.parametrize("s", [0.0, 2.0])
def test_stationary_variance_is_that_of_the_real_optimizer(s):
    chains, h, gamma, mu = 20_000, 1.0, 0.2, 0.9
    lookahead_params, tx = xgrad_optax.sgdm(gamma, s=s, momentum=mu)

    @jax.jit
    def run(key):
        def step(carry, key):
            theta, state = carry
            gradient = h * lookahead_params(theta, state) + jax.random.normal(key, (chains,))
            updates, state = tx.update(gradient, state, theta)
            return (theta + updates, state), None

        theta = jnp.zeros(chains)
        return jax.lax.scan(step, (theta, tx.init(theta)), jax.random.split(key, 300))[0][0]

    theta = np.asarray(run(jax.random.key(0)))
    # Independent chains of Gaussian variables: their sum of squares is χ² distributed.
    low, high = scipy.stats.chi2.ppf([0.0005, 0.9995], chains) / chains
    expected = float(stationary_variance(h, gamma, s, mu))
    assert low < np.mean(theta**2) / expected < high
