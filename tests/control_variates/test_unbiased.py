"""Every predictor with every choice of control examples and coefficient: no bias, in any leaf."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import unbiased
from small_network import LOSS, full_gradient, headless_loss, make_data, make_params

from xgrad_optax.control_variates import (
    from_function,
    low_precision,
    neural_tangent_kernel,
    overall_alignment,
    predicted_value_and_grad,
)
from xgrad_optax.control_variates.losses import per_example_gradients

F, ROWS, DRAWS = 1 / 4, 16, 2000
PARAMS, BATCH = make_params(), make_data(ROWS)
COEFFICIENTS = (1.0, "overall", "leaf")


def gradient_elsewhere(params, batch, weights):
    """A biased prediction: the gradient at other weights."""
    moved = jax.tree.map(lambda p: 0.7 * p + 0.1, params.trunk)
    return LOSS.weighted_gradient(params._replace(trunk=moved), batch, weights)[1]


def knows_the_control_examples(params, batch, weights):
    """Like a predictor that was fitted on them: better there than elsewhere."""
    return gradient_elsewhere(params, batch, jnp.where(weights > 0, 0.5 * weights, weights))


def large_losses(rows):
    """Zero for many rows, NaN for some."""
    return jnp.where(rows.losses > 1, rows.losses, jnp.where(rows.losses > 0.5, 0.0, jnp.nan))


PREDICTORS = {
    "linear": neural_tangent_kernel(32, 8),
    "laplace": neural_tangent_kernel(32, 8, kernel="laplace"),
    "function": from_function(gradient_elsewhere),
}
IMPORTANCE = {
    "even": None,
    "loss": "loss",
    "residual": "residual",
    "output_gradient": "output_gradient",
    "function": large_losses,
}


@functools.cache
def fitted_state(name):
    """The state after a fit on examples that are not in the batch."""
    gradient = predicted_value_and_grad(LOSS, PREDICTORS[name])
    state = gradient.init(PARAMS, jax.random.key(0))
    return jax.jit(gradient.fit)(PARAMS, state, make_data(64, seed=1))


def draws(gradients, state, params=PARAMS, batch=BATCH):
    """What each of some gradient functions says, for many keys."""

    @jax.jit
    @jax.vmap
    def estimates(key):
        return [g(params, state._replace(key=key), batch)[1] for g in gradients]

    return estimates(jax.random.split(jax.random.key(1), DRAWS))


# --- unbiased for the mini-batch's gradient -------------------------------------------------------


@pytest.mark.parametrize("importance", IMPORTANCE)
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_unbiased_given_the_batch(predictor, importance):
    state = fitted_state(predictor)
    assert overall_alignment(state.alignment).rho > 0.3, "or the prediction would play no part"
    gradient = predicted_value_and_grad(
        LOSS, PREDICTORS[predictor], control_fraction=F, importance=IMPORTANCE[importance]
    )
    gradients = [dataclasses.replace(gradient, coefficient=c) for c in COEFFICIENTS]
    expected = full_gradient(PARAMS, BATCH)
    for estimates in draws(gradients, state):
        assert unbiased.biased_leaves(estimates, expected) == {}


def test_unbiased_without_a_head():
    def predict(params, batch, weights):
        moved = jax.tree.map(lambda p: 0.7 * p + 0.1, params)
        return jax.grad(lambda p: weights @ headless_loss(p, batch))(moved)

    gradients = [
        predicted_value_and_grad(headless_loss, from_function(predict), importance=importance)
        for importance in (None, "loss")
    ]
    state = gradients[0].init(PARAMS, jax.random.key(0))
    for estimates in draws(gradients, state):
        assert unbiased.biased_leaves(estimates, full_gradient(PARAMS, BATCH)) == {}


def test_unbiased_for_the_gradient_of_all_data():
    """Batches drawn at random, all leaves, the head's too."""
    data = make_data(48, seed=2)
    gradient = predicted_value_and_grad(
        LOSS, PREDICTORS["linear"], importance="residual", coefficient="leaf"
    )
    state = fitted_state("linear")

    @jax.jit
    @jax.vmap
    def estimates(key):
        batch_key, key = jax.random.split(key)
        rows = jax.random.permutation(batch_key, 48)[:8]
        batch = jax.tree.map(lambda x: jnp.asarray(x)[rows], data)
        return gradient(PARAMS, state._replace(key=key), batch)[1]

    found = estimates(jax.random.split(jax.random.key(1), DRAWS))
    assert unbiased.biased_leaves(found, full_gradient(PARAMS, data)) == {}


@pytest.mark.parametrize("importance", ["even", "output_gradient"])
def test_a_predictor_that_knows_the_control_examples_is_found_out(importance):
    gradient = predicted_value_and_grad(
        LOSS, from_function(knows_the_control_examples), importance=IMPORTANCE[importance]
    )
    state = gradient.init(PARAMS, jax.random.key(0))
    (estimates,) = draws([gradient], state)
    found = unbiased.biased_leaves(estimates, full_gradient(PARAMS, BATCH))
    assert found.keys() >= {".trunk['W1']", ".trunk['W2']"}
    assert ".head['kernel']" not in found, "the head's gradient is exact"


# --- exact cases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", ["even", "output_gradient"])
def test_perfect_prediction_gives_the_gradient_of_the_whole_batch(importance):
    perfect = from_function(lambda p, batch, weights: LOSS.weighted_gradient(p, batch, weights)[1])
    gradient = predicted_value_and_grad(LOSS, perfect, importance=IMPORTANCE[importance])
    (estimates,) = draws([gradient], gradient.init(PARAMS, jax.random.key(0)))
    jax.tree.map(
        lambda draws, exact: np.testing.assert_allclose(
            draws, np.broadcast_to(exact, draws.shape), rtol=1e-5, atol=2e-6
        ),
        estimates,
        full_gradient(PARAMS, BATCH),
    )


def test_zero_prediction_gives_the_control_gradient():
    """As does the coefficient zero; that of some block's row each, by enumeration."""
    zero = from_function(lambda p, batch, weights: jax.tree.map(jnp.zeros_like, p.trunk))
    gradients = [
        predicted_value_and_grad(LOSS, zero),
        predicted_value_and_grad(LOSS, from_function(gradient_elsewhere), coefficient=0.0),
    ]
    state = gradients[0].init(PARAMS, jax.random.key(0))
    nothing, ignored = draws(gradients, state)
    jax.tree.map(np.testing.assert_array_equal, nothing, ignored)
    each = np.asarray(per_example_gradients(LOSS, PARAMS, BATCH)["b2"], float)
    blocks = each.reshape(4, 4, -1)
    index = np.stack(np.meshgrid(*[np.arange(4)] * 4, indexing="ij"), -1).reshape(-1, 4)
    possible = np.mean([blocks[b, index[:, b]] for b in range(4)], axis=0)
    drawn = np.asarray(nothing.trunk["b2"], float)
    distance = np.abs(drawn[:, None] - possible[None]).max(-1)
    assert np.all(distance.min(1) < 1e-6)
    assert len(np.unique(distance.argmin(1))) > 250, "of the 256 possible ones"


# --- low precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("importance", ["even", "output_gradient"])
def test_bias_of_low_precision_is_that_of_its_rounding(importance):
    r"""Rounding the prediction of a weighted mean differs from weighting rounded predictions.

    Each operation of the two passes rounds by at most u = 2⁻⁹ relative to what it adds up, and it
    adds up Σ_i |w_i - 1/B| ‖h_i‖, which is 2(1 - f) times the mean norm on average. A few
    roundings in a row, most of which cancel, make the bias a small multiple of that.
    """
    gradient = predicted_value_and_grad(
        LOSS, low_precision(), control_fraction=F, importance=IMPORTANCE[importance]
    )
    (estimates,) = draws([gradient], gradient.init(PARAMS, jax.random.key(0)))
    exact = full_gradient(PARAMS, BATCH)
    each = per_example_gradients(LOSS, PARAMS, BATCH)
    for name, one in exact.trunk.items():
        values = np.asarray(estimates.trunk[name], float)
        error = np.linalg.norm(values.mean(0) - np.asarray(one, float))
        norms = np.linalg.norm(np.asarray(each[name], float).reshape(ROWS, -1), axis=1)
        scale = 2 * (1 - F) * norms.mean()
        assert error < 2**-9 * scale
        # It matters little: one estimate from the control examples alone is off by far more.
        plain = np.sqrt(values.var(0).sum())
        assert plain < 2**-5 * scale
    assert unbiased.biased_leaves(estimates.head, exact.head) == {}
