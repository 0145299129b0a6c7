"""What Optax's own optimizers do with some inputs, with prediction and without; see the pages."""

import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from xgrad_optax import base_params, with_weight_prediction, xgrad


def test_prodigy_is_nan_for_ever_after_a_first_gradient_of_zero():
    params = jnp.ones(3)
    for tx in (contrib.prodigy(), with_weight_prediction(contrib.prodigy()).tx):
        state = tx.init(params)
        for gradient in (0.0, 1.0, 1.0):
            updates, state = tx.update(jnp.full(3, gradient), state, params)
            assert np.isnan(updates).all()
        state = tx.init(params)
        for gradient in (1.0, 0.0, 1.0):  # a later one does no harm
            updates, state = tx.update(jnp.full(3, gradient), state, params)
            assert np.isfinite(updates).all()


def after_gradients_and_none(tx, dtype, weights=lambda params, state: params):
    """How far the weights go in 300 updates without gradients, after three with."""
    params = jnp.linspace(0.5, 2.0, 8, dtype=dtype)
    state = tx.init(params)
    for step in range(303):
        if step == 3:
            before = weights(params, state)
        gradient = jnp.sin(3 * params + step) if step < 3 else jnp.zeros_like(params)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(weights(params, state) - before, np.float32)


def test_schedule_free_in_bfloat16_drifts_and_a_float32_copy_does_not():
    inner = contrib.schedule_free(optax.sgd(0.1), 0.1)
    wanted = after_gradients_and_none(inner, jnp.float32)
    drifted = after_gradients_and_none(inner, jnp.bfloat16)
    assert np.abs(drifted - wanted).max() > 0.1
    tx = xgrad(inner, 0, base_dtype=jnp.float32)
    cured = after_gradients_and_none(tx, jnp.bfloat16, base_params)
    np.testing.assert_allclose(cured, wanted, atol=5e-3)


def test_clipping_in_float16_makes_zeros_and_a_float32_copy_does_not():
    params, gradients = jnp.zeros(2, jnp.float16), jnp.array([300.0, 400.0], jnp.float16)
    inner = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    for tx, wanted in ((inner, [0, 0]), (xgrad(inner, 0, base_dtype=jnp.float32), [-0.6, -0.8])):
        updates, _ = tx.update(gradients, tx.init(params), params)
        np.testing.assert_allclose(updates, wanted, atol=1e-3)
