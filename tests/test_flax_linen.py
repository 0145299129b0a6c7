"""Flax Linen's train state: both points, Flax's conventions, serialization."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from flax.linen.fp8_ops import OVERWRITE_WITH_GRADIENT
from flax.training import train_state

import xgrad_optax
from xgrad_optax import lookahead_params, with_weight_prediction, xgrad
from xgrad_optax.linen import XGradTrainState

S = 2
# The bias in front of a BatchNorm has no gradient but rounding errors, which Adam would blow up.
INNER = optax.sgd(0.1, momentum=0.9)
INPUTS = jax.random.normal(jax.random.key(0), (5, 8, 3))  # batches
FORMS = {
    "explicit": lambda inner: with_weight_prediction(inner, S).tx,
    "drop-in": lambda inner: xgrad(inner, S),
}
EACH_FORM = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


def assert_same(actual, expected, **tolerances):
    check = np.testing.assert_array_equal
    if tolerances:
        check = lambda a, e: np.testing.assert_allclose(a, e, **tolerances)  # noqa: E731
    jax.tree.map(check, actual, expected)


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, inputs, train):
        norm = linen.BatchNorm(use_running_average=not train, momentum=0.75)
        return linen.Dense(1)(linen.tanh(norm(linen.Dense(4)(inputs))))


class TrainState(XGradTrainState):
    batch_stats: dict


def make_linen(tx, kind=TrainState):
    model = LinenNetwork()
    variables = model.init(jax.random.key(0), INPUTS[0], train=False)
    return kind.create(apply_fn=model.apply, tx=tx, **variables)


@jax.jit
def linen_step(state, inputs):
    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, updated = state.apply_fn(variables, inputs, train=True, mutable=["batch_stats"])
        return jnp.mean((outputs - inputs[:, :1]) ** 2), updated["batch_stats"]

    grads, batch_stats = jax.grad(loss, has_aux=True)(state.predicted_params)
    return state.apply_gradients(grads=grads, batch_stats=batch_stats)


def test_train_state_serves_both_forms_alike():
    states = {name: make_linen(form(INNER)) for name, form in FORMS.items()}
    for inputs in INPUTS:
        states = {name: linen_step(state, inputs) for name, state in states.items()}
    explicit, drop_in = states["explicit"], states["drop-in"]
    assert_same(explicit.base_params, explicit.params)
    assert_same(drop_in.predicted_params, drop_in.params)
    assert_same(explicit.base_params, drop_in.base_params, rtol=1e-4, atol=1e-6)
    assert_same(explicit.predicted_params, drop_in.predicted_params, rtol=1e-4, atol=1e-6)
    assert_same(explicit.batch_stats, drop_in.batch_stats, rtol=1e-4, atol=1e-6)
    assert_same(explicit.predicted_params, lookahead_params(explicit.params, explicit.opt_state))
    assert int(explicit.step) == len(INPUTS)


def test_train_state_takes_what_named_optimizers_return():
    prediction = xgrad_optax.adam(0.05, s=S)
    states = [make_linen(prediction), make_linen(prediction.tx)]
    for inputs in INPUTS[:2]:
        states = [linen_step(state, inputs) for state in states]
    assert_same(*(state.params for state in states))


def test_train_state_survives_flax_serialization():
    state = linen_step(make_linen(xgrad_optax.adam(0.05, s=S)), INPUTS[0])
    written = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(make_linen(xgrad_optax.adam(0.05, s=S)), written)
    assert_same(restored.predicted_params, state.predicted_params)
    assert_same(linen_step(restored, INPUTS[1]).params, linen_step(state, INPUTS[1]).params)


def test_train_state_of_a_plain_optimizer_predicts_nothing():
    state = make_linen(optax.adam(0.05))
    with pytest.raises(ValueError, match="found no prediction state"):
        _ = state.predicted_params
    assert isinstance(state, train_state.TrainState)


@EACH_FORM
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("around", [lambda tx: tx, lambda tx: optax.chain(optax.clip(10.0), tx)])
def test_train_state_predicts_the_trained_part_of_the_fp8_layout(form, dtype, around):
    state = XGradTrainState.create(
        apply_fn=lambda: None,
        params={"params": {"w": jnp.ones(3, dtype)}, OVERWRITE_WITH_GRADIENT: {"scale": 1.0}},
        tx=around(FORMS[form](optax.sgd(0.125))),
    )
    for scale in (4.0, 5.0):
        grads = {"params": {"w": jnp.ones(3, dtype)}, OVERWRITE_WITH_GRADIENT: {"scale": scale}}
        state = state.apply_gradients(grads=grads)
    for point, w in ((state.predicted_params, 0.75 - S * 0.125), (state.base_params, 0.75)):
        assert point.keys() == state.params.keys()
        assert_same(point["params"]["w"], jnp.full(3, w, dtype))
        assert point[OVERWRITE_WITH_GRADIENT] == {"scale": 5.0}
