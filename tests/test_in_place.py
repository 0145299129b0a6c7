"""What is the in-place form's own: whose state it has, how plain checkpoints go on, no drift."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from tests.optimizers_under_test import NAMED
from xgrad_optax import base_params, from_base_params, in_place, predictors, with_weight_prediction

IN_PLACE = [named for named in NAMED if named.predictor(0.1).in_place]
EACH = pytest.mark.parametrize("named", IN_PLACE, ids=lambda named: named.name)
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}


def advance(tx, params, state, steps=3):
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@EACH
def test_state_is_that_of_the_plain_optimizer_leaf_for_leaf(named):
    tx = in_place(named.predicted(0.1, 1.5))
    plain = jax.tree.map(jnp.shape, jax.tree.leaves(named.namesake(0.1).init(PARAMS)))
    for state in (tx.init(PARAMS), advance(tx, PARAMS, tx.init(PARAMS))[1]):
        assert jax.tree.map(jnp.shape, jax.tree.leaves(state)) == plain


@EACH
def test_checkpoint_of_the_plain_optimizer_switches_it_on_and_off(named):
    with jax.numpy_dtype_promotion("standard"):  # plain Optax needs it
        params, plain_state = advance(
            namesake := named.namesake(0.1), PARAMS, namesake.init(PARAMS)
        )
        explicit = named.predicted(0.1, 1.5)
        tx = in_place(explicit)
        state = tx.init(params)._replace(inner_state=plain_state)
        held = from_base_params(params, state)
        expected = explicit.lookahead_params(params, plain_state)
        jax.tree.map(lambda h, e: np.testing.assert_allclose(h, e, rtol=1e-6), held, expected)
        back = base_params(held, state)
        jax.tree.map(lambda b, p: np.testing.assert_allclose(b, p, rtol=1e-5), back, params)
        # The state may also be handed over as it is.
        for one, other in zip(
            jax.tree.leaves(tx.update(PARAMS, plain_state, held)),
            jax.tree.leaves(tx.update(PARAMS, state, held)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


def test_default_horizon_and_extra_arguments_are_the_prediction_s():
    inner = optax.chain(optax.sgd(0.1, momentum=0.9), optax.contrib.reduce_on_plateau(0.5))
    prediction = with_weight_prediction(inner, 2, predictor=predictors.sgdm(0.1))
    tx = in_place(prediction)
    params, state = jnp.ones(2), tx.init(jnp.ones(2))
    updates, state = tx.update(jnp.ones(2), state, params, value=jnp.float32(1.0))
    np.testing.assert_allclose(updates, -0.1 * 3, rtol=1e-6)
    with pytest.raises(TypeError, match="value"):
        tx.update(jnp.ones(2), state, params)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # 64 units in the last place of the largest weights, which are about 2; and 8.
    [(jnp.float32, 64 * 2.4e-7), (jnp.bfloat16, 8 * 1.6e-2)],
    ids=["float32", "bfloat16"],
)
def test_distance_to_the_explicit_form_stays_that_of_rounding(dtype, tolerance):
    """Ten thousand steps of AdamW with a cosine schedule, each form taking its own gradients."""
    steps = 10_000
    target = jax.random.normal(jax.random.key(0), (64,)).astype(dtype)
    noise = 0.3 * jax.random.normal(jax.random.key(1), (steps, 64))
    rate = optax.cosine_decay_schedule(1e-2, steps)
    prediction = xgrad_optax.adamw(rate, s=1, weight_decay=1e-2)
    tx, start = in_place(prediction), jnp.zeros(64, dtype)

    def step(carry, noise):
        (theta, state), (held, held_state) = carry
        gradient = lambda point: point - target + noise.astype(dtype)  # noqa: E731
        predicted = prediction.lookahead_params(theta, state)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = prediction.tx.update(gradient(predicted), state, theta)
            moves, held_state = tx.update(gradient(held), held_state, held)
            theta, held = optax.apply_updates(theta, updates), optax.apply_updates(held, moves)
        distance = jnp.max(jnp.abs(base_params(held, held_state) - theta))
        return ((theta, state), (held, held_state)), distance

    carry = ((start, prediction.tx.init(start)), (start, tx.init(start)))
    ((theta, _), _), distances = jax.lax.scan(step, carry, noise)
    assert np.float32(jnp.max(jnp.abs(theta))) > 1
    assert np.float32(distances).max() < tolerance
