"""s = 0 in any form, with a scheduled rate under accumulation: the number, and a schedule of 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from xgrad_optax import in_place, with_weight_prediction, xgrad

RATE = optax.cosine_decay_schedule(0.1, 100)
STEPS = 24
BATCHES = jax.random.normal(jax.random.key(1), (STEPS, 16, 7))
FORMS = {
    "explicit": lambda s: with_weight_prediction(optax.adam(RATE), s).tx,
    "named": lambda s: xgrad_optax.adam(RATE, s=s).tx,
    "drop-in": lambda s: xgrad(optax.adam(RATE), s),
    "in place": lambda s: in_place(xgrad_optax.adam(RATE, s=s)),
}


def trained(tx):
    """The weights after each step: with s = 0 all forms hold θ, so all take the plain loop."""
    tx = optax.MultiSteps(tx, 3).gradient_transformation()

    @jax.jit
    def step(params, state, batch):
        with jax.numpy_dtype_promotion("standard"):  # plain Optax needs it
            grads = jax.grad(lambda p: jnp.mean(jnp.tanh(batch @ p) ** 2))(params)
            updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.random.normal(jax.random.key(0), (7,))
    state, points = tx.init(params), []
    for batch in BATCHES:
        params, state = step(params, state, batch)
        points.append(params)
    return np.stack(points)


@pytest.fixture(scope="module")
def plain():
    return trained(optax.adam(RATE))


@pytest.mark.parametrize("form", FORMS)
def test_the_number_is_the_plain_optimizer_bit_for_bit(form, plain):
    np.testing.assert_array_equal(trained(FORMS[form](0)), plain)


@pytest.mark.parametrize("form", FORMS)
def test_a_schedule_of_zeros_is_the_plain_optimizer_up_to_rounding(form, plain):
    scheduled = trained(FORMS[form](optax.constant_schedule(0.0)))
    np.testing.assert_allclose(scheduled, plain, rtol=1e-5, atol=1e-6)
