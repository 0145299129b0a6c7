"""What docs/loops.md says beyond its examples, which ``test_docs.py`` runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from xgrad_optax import base_params, with_weight_prediction, xgrad

INPUTS = jax.random.normal(jax.random.key(0), (16, 2))
TARGETS = jnp.sin(INPUTS[:, :1])
STEPS, S = 6, 2


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: other libraries promote freely."""


def init_params():
    keys = jax.random.split(jax.random.key(1))
    return {"in": jax.random.normal(keys[0], (2, 8)), "out": jax.random.normal(keys[1], (8, 1))}


def loss(params, rows=slice(None)):
    outputs = jnp.tanh(INPUTS[rows] @ params["in"]) @ params["out"]
    return jnp.mean((outputs - TARGETS[rows]) ** 2)


def inner():
    return optax.sgd(0.1, momentum=0.9)


def explicit_run(gradient, tx=None, lookahead=None):
    """θ and θ̂ after each update."""
    if tx is None:
        lookahead, tx = with_weight_prediction(inner(), S)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(gradient(lookahead(params, state)), state, params)
        params = optax.apply_updates(params, updates)
        return params, state, lookahead(params, state)

    params, points = init_params(), []
    state = tx.init(params)
    for _ in range(STEPS):
        params, state, predicted = step(params, state)
        points.append((params, predicted))
    return points


def assert_close(actual, expected, rtol=1e-5):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-6), actual, expected
    )


# --- Equinox --------------------------------------------------------------------------------------


class Network(eqx.Module):
    layers: dict
    activation: object = jnp.tanh  # no array: what eqx.filter is for

    def __call__(self, inputs):
        return self.activation(inputs @ self.layers["in"]) @ self.layers["out"]


def network_loss(model):
    return jnp.mean((model(INPUTS) - TARGETS) ** 2)


@pytest.mark.parametrize("form", ["explicit", "drop-in"])
def test_equinox_follows_the_plain_pytree(form):
    explicit = form == "explicit"
    lookahead, tx = with_weight_prediction(inner(), S) if explicit else (None, xgrad(inner(), S))

    @eqx.filter_jit
    def step(model, state):
        params, static = eqx.partition(model, eqx.is_inexact_array)
        point = eqx.combine(lookahead(params, state), static) if explicit else model
        grads = eqx.filter_grad(network_loss)(point)
        updates, state = tx.update(grads, state, params)
        return eqx.apply_updates(model, updates), state

    model = Network(init_params())
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    for _ in range(STEPS):
        model, state = step(model, state)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    base = eqx.combine(params if explicit else base_params(params, state), static)
    theta, theta_hat = explicit_run(jax.grad(loss))[-1]
    assert_close(base.layers, theta, rtol=1e-4)
    if not explicit:
        assert_close(model.layers, theta_hat, rtol=1e-4)
    assert base.activation is jnp.tanh


# --- gradient accumulation ------------------------------------------------------------------------


def test_micro_batches_share_one_point_and_add_up_to_the_batch():
    lookahead, tx = with_weight_prediction(inner(), S)
    accumulating = optax.MultiSteps(tx, every_k_schedule=4)

    @jax.jit
    def micro_step(params, state, rows):
        point = lookahead(params, state)
        updates, state = accumulating.update(jax.grad(loss)(point, rows), state, params)
        return optax.apply_updates(params, updates), state, point

    params, points = init_params(), []
    state = accumulating.init(params)
    for _ in range(STEPS):
        for rows in jnp.arange(16).reshape(4, 4):
            params, state, point = micro_step(params, state, rows)
            points.append(point)
    for start in range(0, len(points), 4):
        for other in points[start + 1 : start + 4]:
            jax.tree.map(np.testing.assert_array_equal, other, points[start])
    assert_close(params, explicit_run(jax.grad(loss))[-1][0], rtol=1e-4)


# --- jax.checkpoint -------------------------------------------------------------------------------


def test_rematerialization_changes_nothing():
    expected = explicit_run(jax.grad(loss))
    assert_close(explicit_run(jax.grad(jax.checkpoint(loss))), expected)


def test_prediction_outside_of_checkpoint_is_computed_once():
    lookahead, tx = xgrad_optax.adam(0.1, s=S)
    params = init_params()
    state = tx.init(params)

    def roots(gradient):
        return str(jax.make_jaxpr(gradient)(params, state)).count(" sqrt ")

    plain = roots(lookahead)
    assert plain == 2, "one for each leaf"
    assert roots(lambda p, s: jax.grad(jax.checkpoint(loss))(lookahead(p, s))) == plain
    inside = roots(lambda p, s: jax.grad(jax.checkpoint(lambda p: loss(lookahead(p, s))))(p))
    assert inside > plain


# --- averages of weights --------------------------------------------------------------------------

AVERAGES = {
    "incremental_update": lambda points: _incremental(points),
    "ema": lambda points: _ema(points),
}


def _incremental(points):
    average = points[0]
    for point in points[1:]:
        average = optax.incremental_update(point, average, step_size=0.1)
    return average


def _ema(points):
    ema = optax.ema(0.9)
    state = ema.init(points[0])
    for point in points:
        average, state = ema.update(point, state)
    return average


@pytest.mark.parametrize("average", AVERAGES)
def test_averages_of_base_params_are_those_of_the_explicit_form(average):
    tx = xgrad(inner(), S)
    params, bases = init_params(), []
    state = tx.init(params)
    for _ in range(STEPS):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        bases.append(base_params(params, state))
    thetas, theta_hats = zip(*explicit_run(jax.grad(loss)), strict=True)
    expected = AVERAGES[average](thetas)
    assert_close(AVERAGES[average](bases), expected, rtol=1e-4)
    # The average of θ̂ runs ahead by s times the average of the last updates.
    updates = [
        jax.tree.map(lambda a, b: a - b, now, before)
        for now, before in zip(thetas, [init_params(), *thetas], strict=False)
    ]
    ahead = jax.tree.map(lambda t, u: t + S * u, expected, AVERAGES[average](updates))
    assert_close(AVERAGES[average](theta_hats), ahead, rtol=1e-4)
