"""Weights that the train loop itself puts in: it goes on from them, nothing is undone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from xgrad_optax import base_params, from_base_params, in_place, predictors, xgrad

RATE = 0.01
FORMS = {
    "drop-in": lambda s=1: xgrad(optax.sgd(RATE), s),
    "momentum": lambda s=1: xgrad(optax.sgd(RATE, momentum=0.9), s),
    "rollout": lambda s=1: xgrad(
        optax.sgd(RATE, momentum=0.9), s, predictor=predictors.zero_gradient()
    ),
    "adam": lambda s=1: xgrad(optax.adam(RATE), s),
    "in place": lambda s=1: in_place(xgrad_optax.sgdm(RATE, s=s)),
    "in place, adam": lambda s=1: in_place(xgrad_optax.adam(RATE, s=s)),
    "master copy": lambda s=1: xgrad(optax.sgd(RATE), s, base_dtype=jnp.float32),
}
EACH_FORM = pytest.mark.parametrize("form", FORMS)
EACH_DTYPE = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=str)
# What one step, and what is predicted behind it, moves a weight by at most.
NEAR = 6 * RATE


def advance(tx, params, state, steps=1, set_by_loop=lambda params: params):
    @jax.jit
    def step(params, state):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(jnp.ones_like(params), state, params)
            return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        params = set_by_loop(params)
    return params, state


@EACH_FORM
@EACH_DTYPE
@pytest.mark.parametrize("warm_up", [0, 3])
def test_pretrained_weights_are_gone_on_from(form, dtype, warm_up):
    """Loaded after ``init``, or in the middle of training."""
    tx = FORMS[form]()
    params = jnp.zeros(3, dtype)
    params, state = advance(tx, params, tx.init(params), warm_up)
    pretrained = jnp.full(3, 0.5, dtype)
    assert np.all(np.abs(base_params(pretrained, state) - 0.5) < NEAR)
    params, state = advance(tx, pretrained, state)
    for point in (params, base_params(params, state)):
        assert np.all(np.abs(np.float32(point) - 0.5) < NEAR)


@EACH_FORM
@EACH_DTYPE
def test_weights_clipped_after_every_step_stay_in_their_box(form, dtype):
    tx = FORMS[form]()
    params = jnp.zeros(3, dtype)
    box = functools.partial(jnp.clip, min=-0.05, max=0.05)
    params, state = advance(tx, params, tx.init(params), 40, box)
    np.testing.assert_array_equal(params, jnp.full(3, -0.05, dtype))
    # θ comes s·d behind θ̂, in the box's direction.
    assert np.all(np.abs(np.float32(base_params(params, state)) + 0.05) < 0.11)


@EACH_FORM
@EACH_DTYPE
def test_one_weight_is_reset_and_the_others_go_on(form, dtype):
    tx = FORMS[form]()
    start = jnp.full(2, 5.0, dtype)
    params, state = advance(tx, start, tx.init(start), 2)
    params, state = advance(tx, params.at[0].set(0.0), state)
    assert abs(float(params[0])) < NEAR
    untouched, _ = advance(tx, start, tx.init(start), 3)
    assert params[1] == untouched[1]


@EACH_FORM
@EACH_DTYPE
def test_weights_pruned_as_base_weights_are_exactly_zero(form, dtype):
    tx = FORMS[form](2)
    params = jnp.asarray([1.0, 2.0, 3.0], dtype)
    params, state = advance(tx, params, tx.init(params), 3)
    pruned = base_params(params, state).astype(dtype).at[0].set(0.0)
    params = from_base_params(pruned, state)
    base = base_params(params, state)
    tolerance = 0.0 if dtype == jnp.float32 else 1e-3
    np.testing.assert_allclose(np.float32(base[0]), 0.0, atol=max(tolerance, 1e-8))
    np.testing.assert_allclose(np.float32(base[1:]), np.float32(pruned[1:]), rtol=1e-2)


@EACH_FORM
def test_from_base_params_is_the_inverse_of_base_params(form):
    tx = FORMS[form](1.5)
    params = jnp.asarray([1.0, 2.0, 3.0])
    params, state = advance(tx, params, tx.init(params), 4)
    again = from_base_params(base_params(params, state), state)
    np.testing.assert_allclose(again, params, rtol=1e-6)


@pytest.mark.parametrize("s", [0.0, 1.0, 4.0])
def test_base_weights_do_not_drift(s):
    """After ten thousand steps θ = θ̂ - δ is a few units in the last place off at most."""
    tx, plain = xgrad(optax.sgd(1e-3, momentum=0.9), s), optax.sgd(1e-3, momentum=0.9)
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.uniform(1, 2, 64), jnp.float32)
    grads = jnp.asarray(rng.normal(size=(10_000, 64)), jnp.float32)

    def step(carry, grads):
        (params, state), (base, base_state) = carry
        updates, state = tx.update(grads, state, params)
        # The same gradients, wherever they were taken: the base goes the plain optimizer's way.
        moves, base_state = plain.update(grads, base_state, base)
        carry = (optax.apply_updates(params, updates), state)
        return (carry, (optax.apply_updates(base, moves), base_state)), None

    carry = ((start, tx.init(start)), (start, plain.init(start)))
    ((params, state), (base, _)), _ = jax.lax.scan(step, carry, grads)
    np.testing.assert_allclose(base_params(params, state), base, rtol=0, atol=3e-6)
