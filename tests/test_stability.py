"""The quadratic model against the real optimizers, in float64, and against brute force."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import xgrad_optax
from xgrad_optax import (
    base_params,
    stability,
    with_weight_prediction,
    xgrad,
    zero_gradient,
)
from xgrad_optax.stability import (
    best_horizon,
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


class Setting(NamedTuple):
    """What the model is a function of."""

    curvature: float
    learning_rate: float
    s: float
    momentum: float
    weight_decay: float = 0.0


PLAIN, POSITIVE = st.just(0.0), st.just(1.0)


def settings(decays=PLAIN, signs=POSITIVE):
    """Settings around the limit: where both the optimizer and rounding behave."""

    def make(share, gamma, s, mu, decay, sign):
        h = sign * share * 2 * (1 + mu) / (gamma * (1 + 2 * s))
        return Setting(h, gamma, s, mu, decay / gamma)

    share, gamma, mu = st.floats(0.01, 1.2), st.floats(1e-3, 1.0), st.floats(0.01, 0.98)
    return st.builds(make, share, gamma, st.floats(0, 6), mu, decays, signs)


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


DECAYS = st.floats(0, 0.5)
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
# Spectral radius and limits
# --------------------------------------------------------------------------------------------------

METHODS = pytest.mark.parametrize("method", ["sgdm", "ema"])
COUPLED = pytest.mark.parametrize("coupled", [False, True])
ANY = settings(decays=DECAYS, signs=st.sampled_from([-1.0, 1.0]))


@METHODS
@COUPLED
def test_spectral_radius_is_that_of_the_companion_matrix(method, coupled):
    @given(ANY)
    def check(setting):
        *arguments, decay = setting
        options = {"method": method, "weight_decay": decay, "coupled": coupled}
        matrix = np.asarray(companion_matrix(*arguments, **options))
        expected = np.abs(np.linalg.eigvals(matrix)).max()
        double = abs(np.trace(matrix) ** 2 / 4 - np.linalg.det(matrix)) < 1e-8
        np.testing.assert_allclose(
            spectral_radius(*arguments, **options), expected, rtol=1e-4 if double else 1e-8
        )

    check()


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


@METHODS
@COUPLED
def test_max_learning_rate_is_the_border_from_both_sides(method, coupled):
    @given(ANY)
    def check(setting):
        h, gamma, s, mu, decay = setting
        options = {"method": method, "weight_decay": decay, "coupled": coupled}
        limit = float(max_learning_rate(h, s, mu, **options))
        if limit == 0:  # none is stable
            assert np.all(spectral_radius(h, gamma * np.logspace(-4, 1, 50), s, mu, **options) >= 1)
        elif np.isinf(limit):  # none diverges, however large
            assert np.all(spectral_radius(h, gamma * np.logspace(-4, 6, 50), s, mu, **options) < 1)
        else:
            below = limit * np.append(np.linspace(1e-3, 0.999, 50), 1 - 1e-8)
            assert np.all(spectral_radius(h, below, s, mu, **options) < 1)
            assert spectral_radius(h, limit * (1 + 1e-8), s, mu, **options) > 1

    check()


@given(settings())
def test_max_learning_rate_in_the_plain_case(setting):
    h, _, s, mu, _ = setting
    np.testing.assert_allclose(max_learning_rate(h, s, mu), 2 * (1 + mu) / (h * (1 + 2 * s)))
    np.testing.assert_allclose(
        max_learning_rate(h, s, mu, method="ema"), 2 * (1 + mu) / ((1 - mu) * h * (1 + 2 * s))
    )


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0, 3.0])
def test_the_real_optimizer_diverges_just_above_the_limit_and_not_below(s):
    limit = float(max_learning_rate(2.0, s, 0.9))
    ends = [
        np.abs(simulation(sgdm, warm=False)(2.0, factor * limit, s, 0.9, 0.0)[-1])
        for factor in (0.98, 1.02)
    ]
    assert ends[0] < 0.1 < 10 < ends[1]


def test_flat_and_downhill_directions():
    assert max_learning_rate(0.0, 1, 0.9) == np.inf
    assert max_learning_rate(-1.0, 1, 0.9) == 0
    np.testing.assert_allclose(spectral_radius(0.0, 0.1, 1, 0.9), 1)


@given(settings())
def test_prediction_speeds_up_the_escape_from_negative_curvature(setting):
    h, gamma, s, mu, _ = setting
    radii = spectral_radius(-h, gamma, np.array([s, s + 1]), mu)
    assert radii[1] > radii[0] > 1


# --------------------------------------------------------------------------------------------------
# The best horizon
# --------------------------------------------------------------------------------------------------


def worst_radius(curvatures, gamma, s, mu, **options):
    radii = spectral_radius(np.asarray(curvatures)[:, None], gamma, np.asarray(s), mu, **options)
    return np.asarray(radii).max(axis=0)


SPECTRA = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=4)


@METHODS
def test_best_horizon_beats_a_fine_grid(method):
    @given(SPECTRA, settings(decays=DECAYS))
    def check(shares, setting):
        h, gamma, _, mu, decay = setting
        spectrum, options = h * np.array(shares), {"method": method, "weight_decay": decay}
        best = float(best_horizon(spectrum, gamma, mu, **options))
        grid = np.linspace(0, max(10.0, 2 * best), 4_001)
        radii = worst_radius(spectrum, gamma, grid, mu, **options)
        at_best = float(worst_radius(spectrum, gamma, [best], mu, **options)[0])
        assert at_best <= radii.min() + 1e-7
        # The radius has kinks: near its minimum it may rise like a root.
        nearest = grid[np.argmin(np.abs(radii - radii.min()))]
        flat = radii[np.abs(grid - best) < 2 * (grid[1] - grid[0])].min() <= radii.min() + 1e-9
        assert flat or abs(best - nearest) <= 2 * (grid[1] - grid[0])

    check()


@given(settings())
def test_best_horizon_of_one_curvature_is_critical_damping(setting):
    h, gamma, _, mu, _ = setting
    a = gamma * h
    expected = max(0.0, (mu - (1 - np.sqrt(a)) ** 2) / a)
    best = best_horizon(h, gamma, mu)
    np.testing.assert_allclose(best, expected, rtol=1e-8, atol=1e-8)
    if expected:
        np.testing.assert_allclose(
            spectral_radius(h, gamma, best, mu), abs(1 - np.sqrt(a)), atol=1e-5
        )


@given(st.floats(0.01, 1.0), settings())
def test_only_the_ends_of_the_spectrum_count(ratio, setting):
    h, gamma, _, mu, _ = setting
    spectrum = h * np.geomspace(ratio, 1.0, 40)
    best = float(best_horizon(spectrum[[0, -1]], gamma, mu))
    np.testing.assert_allclose(best_horizon(spectrum, gamma, mu), best, rtol=1e-6, atol=1e-8)
    radii = np.asarray(spectral_radius(spectrum, gamma, best, mu))
    assert radii.max() <= radii[[0, -1]].max() + 1e-7


def test_best_horizon_respects_its_bound_and_broadcasts():
    spectrum = np.array([[0.5, 3.0], [0.1, 1.0]])
    free = best_horizon(spectrum, 0.05, 0.9)
    assert free.shape == (2,)
    np.testing.assert_allclose(free[1], best_horizon(spectrum[1], 0.05, 0.9))
    bounded = best_horizon(spectrum, np.array([0.05, 0.1]), 0.9, s_max=0.5)
    np.testing.assert_allclose(bounded, 0.5)


# --------------------------------------------------------------------------------------------------
# Noise
# --------------------------------------------------------------------------------------------------


def model_in_theta_and_velocity(h, gamma, s, mu, decay, method, coupled):
    """The step as it is defined, in (θ, γv): a derivation of its own."""
    share = (1 - mu) if method == "ema" else 1.0
    l2, decoupled = (decay, 0.0) if coupled else (0.0, decay)
    # γv' = μ γv + share·γ·(h(θ - s γv) + l2 θ), θ' = (1 - γ·decoupled) θ - γv'
    velocity = np.array([share * gamma * (h + l2), mu - share * gamma * h * s])
    theta = np.array([1 - gamma * decoupled, 0.0]) - velocity
    noise = share * gamma * np.array([-1.0, 1.0])
    return np.array([theta, velocity]), noise


@METHODS
@COUPLED
def test_stationary_variance_solves_the_lyapunov_equation(method, coupled):
    @given(settings(decays=DECAYS), st.floats(0.1, 10))
    def check(setting, noise_variance):
        matrix, noise = model_in_theta_and_velocity(*setting, method, coupled)
        *arguments, decay = setting
        options = {"method": method, "weight_decay": decay, "coupled": coupled}
        found = float(stationary_variance(*arguments, noise_variance, **options))
        radius = np.abs(np.linalg.eigvals(matrix)).max()
        if radius > 1 + 1e-9:
            assert found == np.inf
        elif radius < 1 - 1e-4:
            expected = scipy.linalg.solve_discrete_lyapunov(
                matrix, noise_variance * np.outer(noise, noise)
            )
            np.testing.assert_allclose(found, expected[0, 0], rtol=1e-8)

    check()


@pytest.mark.parametrize("s", [0.0, 1.0, 3.0])
def test_stationary_variance_is_the_limit_of_the_covariance_recursion(s):
    matrix, noise = model_in_theta_and_velocity(1.0, 0.2, s, 0.9, 0.0, "sgdm", False)
    covariance = np.zeros((2, 2))
    for _ in range(2000):
        covariance = matrix @ covariance @ matrix.T + np.outer(noise, noise)
    np.testing.assert_allclose(stationary_variance(1.0, 0.2, s, 0.9), covariance[0, 0], rtol=1e-10)


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


# --------------------------------------------------------------------------------------------------
# Arrays, transformations, errors
# --------------------------------------------------------------------------------------------------


def test_effective_horizon_is_the_sum_of_the_rollout():
    for s in range(6):
        expected = sum(0.8**k for k in range(1, s + 1))
        np.testing.assert_allclose(effective_horizon(s, 0.8), expected, rtol=1e-12)
    np.testing.assert_allclose(effective_horizon(2.25, 0.8), 0.8 + 0.64 + 0.25 * 0.512, rtol=1e-12)
    assert effective_horizon(1e4, 0.8) <= 0.8 / (1 - 0.8) + 1e-12
    assert effective_horizon(3, 0.0) == 0


def test_arguments_broadcast_and_results_are_those_of_the_elements():
    h, s = np.array([[0.5], [2.0], [8.0]]), np.array([0.0, 1.0])
    radii = spectral_radius(h, 0.1, s, 0.9)
    assert radii.shape == (3, 2)
    assert companion_matrix(h, 0.1, s, 0.9).shape == (3, 2, 2, 2)
    np.testing.assert_allclose(radii[2, 1], spectral_radius(8.0, 0.1, 1.0, 0.9))


def test_all_functions_work_under_jit_vmap_and_grad():
    for function in (spectral_radius, stationary_variance, best_horizon):
        arguments = (1.0, 0.1, 0.9) if function is best_horizon else (1.0, 0.1, 2.0, 0.9)
        compiled = jax.jit(function)(*arguments)
        np.testing.assert_allclose(compiled, function(*arguments), rtol=1e-12)
    limits = jax.vmap(max_learning_rate, (0, None, None))(jnp.array([1.0, 2.0]), 1.0, 0.9)
    np.testing.assert_allclose(limits, 3.8 / 3 / np.array([1.0, 2.0]))
    for a in (0.01, 0.1, 3.0):  # real positive, complex, real negative roots
        slope = jax.grad(spectral_radius, argnums=1)(1.0, a, 0.1, 0.9)
        step = 1e-6
        difference = spectral_radius(1.0, np.array([a + step, a - step]), 0.1, 0.9)
        np.testing.assert_allclose(slope, (difference[0] - difference[1]) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_arrays(dtype):
    h = np.array([1.0, 2.0], dtype)
    assert spectral_radius(h, 0.1, 1, 0.9).dtype == dtype
    assert best_horizon(h, 0.1, 0.9).dtype == dtype
    assert max_learning_rate(h, 1, 0.9).dtype == dtype


VALID = {"curvature": 1.0, "learning_rate": 0.1, "s": 1.0, "momentum": 0.9, "weight_decay": 0.0}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("curvature", np.nan, "finite"),
        ("curvature", np.inf, "finite"),
        ("learning_rate", -0.1, "finite and >= 0"),
        ("learning_rate", [0.1, np.nan], "finite and >= 0"),
        ("s", -1, "finite and >= 0"),
        ("s", np.inf, "finite and >= 0"),
        ("momentum", 1.0, ">= 0 and < 1"),
        ("momentum", -0.1, ">= 0 and < 1"),
        ("momentum", np.nan, ">= 0 and < 1"),
        ("weight_decay", -1e-4, "finite and >= 0"),
    ],
)
def test_values_outside_their_range_are_named(name, value, rule):
    offender = np.ravel(value)[-1]
    with pytest.raises(ValueError, match=rf"^{name} must be {rule}, got {offender}\.$"):
        spectral_radius(**{**VALID, name: value})


@pytest.mark.parametrize("value", [True, "0.1", 1j, None])
def test_what_is_no_real_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^momentum must be a real number or array, got "):
        max_learning_rate(1.0, 1, value)
    with pytest.raises(TypeError, match=r"^momentum must be a real number or array, got "):
        best_horizon([1.0], 0.1, value)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"method must be 'sgdm' .* or 'ema' .*, got 'adam'"):
        spectral_radius(**VALID, method="adam")
    with pytest.raises(ValueError, match="at least one curvature, got an empty spectrum"):
        best_horizon([], 0.1, 0.9)
    with pytest.raises(ValueError, match=r"s_max must be >= 0, got -1"):
        best_horizon([1.0], 0.1, 0.9, s_max=-1.0)
    with pytest.raises(ValueError, match=r"noise_variance must be finite and >= 0, got -1"):
        stationary_variance(1.0, 0.1, 1, 0.9, -1.0)


def test_traced_values_are_left_alone():
    assert np.isnan(jax.jit(spectral_radius)(np.nan, 0.1, 1.0, 0.9))


def test_the_public_names():
    assert stability.__all__ == sorted(stability.__all__)
    assert all(callable(getattr(stability, name)) for name in stability.__all__)
