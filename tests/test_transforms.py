"""AdaM3 and AdaBound without prediction: what Optax lacks."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import reference
from xgrad_optax import scale_by_adabound, scale_by_adam3
from xgrad_optax.transforms import adabound, adam3

pytestmark = pytest.mark.usefixtures("quickly_compiled")
STEPS = 40
BETAS = {"b1": 0.8, "b2": 0.95}
ADABOUND = {**BETAS, "eps": 1e-3, "final_scale": 3.0, "gamma": 0.05}
REFERENCES = {
    "adam3": partial(reference.AdaM3, β1=0.8, β2=0.95, ε=1e-4),
    "adabound": partial(reference.AdaBound, β1=0.8, β2=0.95, ε=1e-3, final_scale=3.0, κ=0.05),
}
SCALINGS = {
    "adam3": partial(scale_by_adam3, **BETAS, eps=1e-4),
    "adabound": partial(scale_by_adabound, **ADABOUND),
}
OPTIMIZERS = {
    "adam3": partial(adam3, **BETAS, eps=1e-4),
    "adabound": partial(adabound, **ADABOUND),
}
EACH = pytest.mark.parametrize("name", SCALINGS)


@pytest.fixture(autouse=True)
def standard_promotion():
    """These are written like Optax's own transforms, which rely on it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(tx, gradients, params=None):
    """All updates and states, stacked, for a given sequence of gradients."""
    params = jax.tree.map(lambda g: jnp.zeros_like(g[0]), gradients) if params is None else params

    def step(state, gradient):
        updates, state = tx.update(gradient, state, params)
        return state, (updates, state)

    return jax.jit(partial(jax.lax.scan, step))(tx.init(params), gradients)[1]


def gradients_of_all_sizes():
    """From 0.01 to 10, so that AdaBound clips from above, from below and not at all."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(STEPS, 7)) * np.logspace(-2, 1, 7)


def reference_run(optimizer, gradients, γ):
    """Updates and moments of the NumPy optimizer; θ plays no part in them."""
    updates, moments = [], []
    for t, g in enumerate(gradients):
        optimizer.step(g, np.zeros_like(g), γ(t))
        updates.append(optimizer.u)
        moments.append([getattr(optimizer, name) for name in optimizer.moments])
    return np.array(updates), *np.array(moments).swapaxes(0, 1)


def assert_close(actual, expected, tolerance=1e-12):
    """Column by column, since the gradients of each have another size."""
    assert actual.dtype == expected.dtype
    scale = np.max(np.abs(expected), axis=0)
    assert np.max(np.abs(actual - expected) / scale) <= tolerance


# --------------------------------------------------------------------------------------------------
# Against the papers
# --------------------------------------------------------------------------------------------------


@EACH
def test_scaling_follows_the_paper(name):
    gradients = gradients_of_all_sizes()
    u, m, v = reference_run(REFERENCES[name](), gradients, lambda t: 1.0)
    with jax.enable_x64(True):
        directions, state = run(SCALINGS[name](), jnp.asarray(gradients))
    assert_close(np.asarray(directions), -u)  # γ = 1: the direction is minus the update
    assert_close(np.asarray(state.mu), m)
    assert_close(np.asarray(state.nu), v)
    np.testing.assert_array_equal(state.count, np.arange(1, STEPS + 1))


def halved_at_20(t):
    return 0.1 * (0.5 if t >= 20 else 1.0)


@EACH
@pytest.mark.parametrize(
    ("learning_rate", "γ"),
    [(0.1, lambda t: 0.1), (optax.piecewise_constant_schedule(0.1, {20: 0.5}), halved_at_20)],
    ids=["constant", "schedule"],
)
def test_optimizer_follows_the_paper(name, learning_rate, γ):
    # The reference clips γ_t's step sizes to bounds that are multiples of γ_t, as AdaBound's
    # authors do; ours clips before the learning rate.
    gradients = gradients_of_all_sizes()
    u, _, _ = reference_run(REFERENCES[name](), gradients, γ)
    with jax.enable_x64(True):
        updates, _ = run(OPTIMIZERS[name](learning_rate), jnp.asarray(gradients))
    assert_close(np.asarray(updates), u)


@EACH
def test_defaults_are_the_papers(name):
    paper, scaling = {
        "adam3": (reference.AdaM3(), scale_by_adam3()),
        "adabound": (reference.AdaBound(), scale_by_adabound()),
    }[name]
    gradients = gradients_of_all_sizes()
    u, _, _ = reference_run(paper, gradients, lambda t: 1.0)
    with jax.enable_x64(True):
        directions, _ = run(scaling, jnp.asarray(gradients))
    assert_close(np.asarray(directions), -u)


def test_gradients_reach_all_regimes_of_adabound():
    optimizer = REFERENCES["adabound"]()
    below = above = within = 0
    for g in gradients_of_all_sizes():
        optimizer.step(g, np.zeros_like(g), 1.0)
        η, η_l, η_u = optimizer.step_sizes(1.0)
        below, above = below + np.sum(η < η_l), above + np.sum(η > η_u)
        within += np.sum((η_l < η) & (η < η_u))
    assert min(below, above, within) >= 20


# --------------------------------------------------------------------------------------------------
# AdaBound's bounds
# --------------------------------------------------------------------------------------------------


def test_schedule_scales_the_bounds_of_adabound():
    # With every step size clipped, a learning rate of a tenth must make a tenth of the step.
    gradients = jnp.full((1, 2), jnp.array([1e3, 1e-3]))
    step_size = lambda rate: run(adabound(optax.constant_schedule(rate)), gradients)[0][0]  # noqa: E731
    np.testing.assert_allclose(step_size(0.01), step_size(0.1) / 10, rtol=1e-6)


@pytest.mark.parametrize("t", [10, 1_000, 100_000])
@pytest.mark.parametrize("gradient", [1e-6, 1.0, 1e6], ids="gradient={:g}".format)
def test_adabound_turns_into_sgd_with_its_final_step_size(t, gradient):
    γ, final_scale, gamma = 0.01, 2.0, 0.1
    tx = adabound(γ, final_scale=final_scale, gamma=gamma)
    state = optax.tree.set(tx.init(jnp.zeros(())), count=jnp.asarray(t - 1, jnp.int32))
    updates, state = tx.update(jnp.asarray(gradient), state)
    step_size = -float(updates) / float(optax.tree.get(state, "mu"))
    # The bounds leave ± 1/(gamma t) around final_scale γ, whatever the gradient's size.
    assert abs(step_size / (final_scale * γ) - 1) <= 1.001 / (gamma * t) + 1e-6


# --------------------------------------------------------------------------------------------------
# AdaM3 where its second moment is zero
# --------------------------------------------------------------------------------------------------


def test_adam3_makes_no_update_from_zero_gradients_without_eps():
    updates, _ = run(scale_by_adam3(eps=0.0), jnp.zeros((3, 2)))
    np.testing.assert_array_equal(updates, np.zeros((3, 2)))


def test_adam3_makes_no_update_where_float16_underflows():
    # m₁² = (0.1 · 1e-4)² and eps = 1e-16 are both below 6e-8, the smallest number of float16.
    gradients = jnp.asarray([[1e-4, 1.0]], jnp.float16)
    updates, state = run(scale_by_adam3(), gradients)
    assert float(state.nu[0, 0]) == 0.0
    assert float(state.mu[0, 0]) > 0.0
    np.testing.assert_allclose(updates, [[0.0, 10.0]], rtol=1e-2)  # m̂₁ = g, √v̂₁ = 0.1 |g|


# --------------------------------------------------------------------------------------------------
# Trees, dtypes, complex numbers
# --------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtypes_are_kept(name, dtype):
    params = {"w": jnp.ones((2, 3), dtype), "b": jnp.ones((), dtype), "none": None}
    tx = SCALINGS[name]()
    state = jax.eval_shape(tx.init, params)
    updates, next_state = jax.eval_shape(tx.update, params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(next_state, state)
    assert (state.mu["w"].dtype, state.nu["w"].dtype) == (dtype, dtype)


@EACH
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_follows_float32(name, dtype):
    gradients = jax.random.normal(jax.random.key(0), (STEPS, 8), dtype)
    low, _ = run(SCALINGS[name](), gradients)
    full, _ = run(SCALINGS[name](), gradients.astype(jnp.float32))
    error = jnp.abs(low.astype(jnp.float32) - full).max() / jnp.abs(full).max()
    assert error < 4 * float(jnp.finfo(dtype).eps)


@EACH
def test_complex_gradients_keep_their_phase(name):
    # The second moment is that of |g|: real gradients times a phase make real updates times it.
    phase = np.exp(0.7j).astype(np.complex64)
    gradients = jax.random.normal(jax.random.key(0), (STEPS, 8))
    real, _ = run(SCALINGS[name](), gradients)
    rotated, state = run(SCALINGS[name](), gradients * phase)
    assert rotated.dtype == state.mu.dtype == state.nu.dtype == jnp.complex64
    np.testing.assert_allclose(rotated, real * phase, rtol=1e-4, atol=1e-5)


@EACH
def test_second_moment_of_complex_gradients_is_the_squared_modulus(name):
    gradients = jnp.broadcast_to(jnp.array([3 + 4j, -1j, 2.0]), (STEPS, 3))
    _, state = run(SCALINGS[name](), gradients)
    _, of_modulus = run(SCALINGS[name](), jnp.abs(gradients))
    np.testing.assert_allclose(state.nu, of_modulus.nu, rtol=1e-5)


@EACH
def test_map_params_finds_the_moments(name):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    tx = OPTIMIZERS[name](0.1)
    _, state = tx.update(params, tx.init(params), params)
    marked = optax.tree.map_params(
        tx, lambda _, spec: spec, state, {"w": "spec of w", "b": "spec of b"}
    )
    for moment in ("mu", "nu"):
        assert optax.tree.get(marked, moment) == {"w": "spec of w", "b": "spec of b"}
    np.testing.assert_array_equal(optax.tree.get(marked, "count"), 1)
