"""Streaming ρ, κ and σ's against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xgrad_optax.control_variates import (
    init_alignment,
    leaf_alignment,
    optimal_coefficient,
    overall_alignment,
    update_alignment,
)

PARAMS = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}


def example_gradients(count, seed=0):
    """Correlated leaves ``[count, ...]`` of different scale and mean."""
    rng = np.random.default_rng(seed)
    g = {"w": rng.normal(size=(count, 3, 2)) + 1, "b": 3 * rng.normal(size=(count, 2)) - 2}
    h = {"w": 0.5 * g["w"] + 0.2 * rng.normal(size=(count, 3, 2)), "b": rng.normal(size=(count, 2))}
    return g, h


def as_arrays(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def covariance(x, y, group_size=1):
    """Σ over entries of the unbiased sample covariance, per example."""
    x, y = (np.asarray(z, float).reshape(len(z), -1) for z in (x, y))
    centred = (x - x.mean(0)) * (y - y.mean(0))
    return group_size * centred.sum() / (len(x) - 1)


def reference(moments):
    """ρ, κ, σ_g, σ_h from σ_g², σ_h² and their product moment."""
    gg, hh, gh = moments
    return gh / np.sqrt(gg * hh), np.sqrt(hh / gg), np.sqrt(gg), np.sqrt(hh)


def moments_of(g, h, names, group_size=1):
    pairs = [(g, g), (h, h), (g, h)]
    return [sum(covariance(x[k], y[k], group_size) for k in names) for x, y in pairs]


@pytest.mark.parametrize("group_size", [1, 4])
def test_one_update_against_numpy(group_size):
    g, h = example_gradients(30)
    state = update_alignment(
        init_alignment(PARAMS), as_arrays(g), as_arrays(h), group_size=group_size
    )
    overall = reference(moments_of(g, h, ["w", "b"], group_size))
    np.testing.assert_allclose(overall_alignment(state), overall, rtol=1e-5)
    leaves = leaf_alignment(state)
    for name in PARAMS:
        one = [getattr(leaves, field)[name] for field in leaves._fields]
        np.testing.assert_allclose(one, reference(moments_of(g, h, [name], group_size)), rtol=1e-5)


def test_means_of_groups_estimate_the_same_as_single_examples():
    """Var of a mean of b is 1/b: ``group_size`` undoes it, within the error of the sample."""
    g, h = example_gradients(40_000)
    groups = [
        jax.tree.map(lambda x: x.reshape(-1, 4, *x.shape[1:]).mean(1), tree) for tree in (g, h)
    ]
    empty = init_alignment(PARAMS)
    single = overall_alignment(update_alignment(empty, as_arrays(g), as_arrays(h)))
    grouped = overall_alignment(update_alignment(empty, *map(as_arrays, groups), group_size=4))
    np.testing.assert_allclose(grouped, single, rtol=0.03)


def test_running_mean_corrects_for_its_start():
    """After any number of updates the weights of what was seen sum to 1."""
    decay, state, seen = 0.7, init_alignment(PARAMS), []
    for step in range(4):
        g, h = example_gradients(10, seed=step)
        state = update_alignment(state, as_arrays(g), as_arrays(h), decay=decay)
        seen.append(moments_of(g, h, ["w", "b"]))
        weights = decay ** np.arange(step, -1.0, -1)
        expected = reference(weights @ np.array(seen) / weights.sum())
        np.testing.assert_allclose(overall_alignment(state), expected, rtol=1e-5)


def test_decay_zero_forgets():
    g, h = example_gradients(10)
    fresh = update_alignment(init_alignment(PARAMS), as_arrays(g), as_arrays(h), decay=0)
    old = update_alignment(init_alignment(PARAMS), as_arrays(h), as_arrays(g))
    again = update_alignment(old, as_arrays(g), as_arrays(h), decay=0)
    jax.tree.map(np.testing.assert_array_equal, again, fresh)


@given(st.floats(-3, 3), st.floats(0.01, 100))
def test_multiples_are_perfectly_correlated(factor, scale):
    g = jnp.asarray(scale * np.random.default_rng(0).normal(size=(20, 4)), jnp.float32)
    state = update_alignment(init_alignment(jnp.zeros(4)), g, jnp.float32(factor) * g)
    measured = overall_alignment(state)
    if abs(factor) > 1e-3:
        np.testing.assert_allclose(measured.rho, np.sign(factor), rtol=1e-5)
        np.testing.assert_allclose(measured.coefficient, 1 / factor, rtol=1e-4)
        np.testing.assert_allclose(
            optimal_coefficient(0.25, measured.rho, measured.kappa),
            0.75 * measured.coefficient,
            rtol=1e-6,
        )
    assert abs(float(measured.rho)) <= 1


def test_what_does_not_vary_is_uncorrelated():
    g, h = (as_arrays(tree) for tree in example_gradients(10))
    constant = jax.tree.map(jnp.ones_like, g)
    for grads, predictions in [(g, constant), (constant, h), (constant, constant)]:
        state = update_alignment(init_alignment(PARAMS), grads, predictions)
        measured = overall_alignment(state)
        assert float(measured.rho) == 0
        assert float(measured.coefficient) == 0
        assert all(np.isfinite(measured))


def test_before_the_first_update_everything_is_zero():
    assert [float(x) for x in overall_alignment(init_alignment(PARAMS))] == [0, 0, 0, 0]
    for part in leaf_alignment(init_alignment(PARAMS)):
        assert jax.tree.map(float, part) == {"w": 0, "b": 0}


def test_state_is_constant_in_structure_and_float32():
    g, h = (jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), t) for t in example_gradients(10))
    state = init_alignment(jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS))
    after = jax.eval_shape(update_alignment, state, g, h)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32"}


def test_a_fresh_state_can_be_donated():
    state = init_alignment(PARAMS)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_gradients(count):
    g = jnp.ones((count, 3))
    with pytest.raises(ValueError, match=f"at least two gradients, got {count}"):
        update_alignment(init_alignment(jnp.zeros(3)), g, g)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2])
def test_bad_decay(decay):
    g = jnp.ones((3, 3))
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got"):
        update_alignment(init_alignment(jnp.zeros(3)), g, g, decay=decay)
