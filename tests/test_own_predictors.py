"""Predictors of one's own: nothing before the first update, and closed forms in any nesting."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xgrad_optax import base_params, in_place, lookahead_params, with_weight_prediction, xgrad
from xgrad_optax.diagnostics import prediction_error
from xgrad_optax.predictors import ClosedForm, Hyperparameters, Predictor

PARAMS = {"w": jnp.ones(3), "b": jnp.zeros(2)}
RATE = 0.1


class Always(Predictor):
    """One step of -1 for each parameter, from the beginning; NaN where it is told so."""

    linear = True

    def predict(self, memory, inner_state, params, s):
        value = self.hyperparameters["value"]
        return jax.tree.map(lambda p: s * jnp.full_like(p, value), PARAMS)


class AlwaysFromTheState(Always):
    leafless = True
    in_place = True


def always(value, kind=Always):
    return kind(Hyperparameters(value=value))


def after(tx, steps, params=PARAMS):
    state = tx.init(params)
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps needs it
        for _ in range(steps):
            updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def assert_ahead(params, predicted, distance):
    jax.tree.map(
        lambda p, q: np.testing.assert_allclose(q - p, distance, atol=1e-6), params, predicted
    )


@pytest.mark.parametrize("kind", [Always, AlwaysFromTheState])
@pytest.mark.parametrize("value", [-1.0, np.nan])
@pytest.mark.parametrize("s", [2, {"w": 2.0, "b": 2.0}], ids=["number", "tree"])
def test_nothing_is_predicted_before_the_first_update(kind, value, s):
    tx = with_weight_prediction(optax.sgd(RATE), s, predictor=always(value, kind)).tx
    params, state = after(tx, 0)
    jax.tree.map(np.testing.assert_array_equal, lookahead_params(params, state), params)
    params, state = after(tx, 1)
    assert_ahead(params, lookahead_params(params, state), 2 * value)


def test_weights_in_place_start_where_they_are():
    prediction = with_weight_prediction(
        optax.sgd(RATE), 2, predictor=always(-1.0, AlwaysFromTheState)
    )
    tx = in_place(prediction)
    params, state = after(tx, 0)
    jax.tree.map(np.testing.assert_array_equal, base_params(params, state), params)
    params, state = after(tx, 1)
    assert_ahead(base_params(params, state), params, -2.0)
    np.testing.assert_allclose(base_params(params, state)["b"], -RATE, rtol=1e-6)


def test_diagnostics_judge_no_prediction_before_the_first_update():
    tx = with_weight_prediction(optax.sgd(RATE), 1, predictor=always(np.nan)).tx
    measure = prediction_error(horizons=(1,))
    errors = measure.init(*after(tx, 0))
    for steps in (0, 1):
        errors = measure.update(errors, *after(tx, steps))
    np.testing.assert_allclose(measure.summary(errors).overall.relative_error, 1.0)


def test_state_of_plain_optax_does_not_tell_how_many_updates_were_made():
    predictor = always(-1.0, AlwaysFromTheState)
    tx = with_weight_prediction(optax.adam(RATE), 1, predictor=predictor).tx
    with pytest.raises(ValueError, match="needs more than the inner optimizer's state"):
        tx.update(PARAMS, optax.adam(RATE).init(PARAMS), PARAMS)


# --------------------------------------------------------------------------------------------------
# Closed forms
# --------------------------------------------------------------------------------------------------


class SignumState(NamedTuple):
    """Momentum, and the number of updates."""

    count: jax.Array
    mu: optax.Updates


def scale_by_signum(decay=0.5):
    """The sign of the momentum (signSGD with momentum, Bernstein et al., 2018)."""

    def init(params):
        return SignumState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        mu = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, state.mu, updates)
        return jax.tree.map(jnp.sign, mu), SignumState(optax.safe_increment(state.count), mu)

    return optax.GradientTransformation(init, update)


def signum(rate):
    return optax.chain(scale_by_signum(), optax.scale_by_learning_rate(rate))


class Signum(ClosedForm):
    state_type = SignumState

    def direction(self, moments):
        return jax.tree.map(jnp.sign, moments.mu)


def predicted_signum(rate, s=2):
    predictor = Signum(Hyperparameters(learning_rate=rate))
    return with_weight_prediction(signum(rate), s, predictor=predictor)


NESTINGS = {
    "itself": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip(10.0), tx),
    "accumulated": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "conditional": lambda tx: optax.apply_if_finite(tx, 1),
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_closed_form_goes_on_by_the_next_rate_in_any_nesting(nesting):
    falling = optax.linear_schedule(0.1, 0.0, 10)  # 0.1, 0.09, 0.08, ...
    params, state = after(NESTINGS[nesting](predicted_signum(falling).tx), 2)
    np.testing.assert_allclose(params["w"], 1 - 0.1 - 0.09, rtol=1e-6)
    assert_ahead(params, lookahead_params(params, state), -2 * 0.08)


def test_closed_form_leaves_masked_parameters_alone():
    tx = optax.partition(
        {"predicted": predicted_signum(RATE).tx, "plain": optax.sgd(RATE)},
        {"w": "predicted", "b": "plain"},
    )
    params, state = after(tx, 1)
    predicted = lookahead_params(params, state)
    np.testing.assert_allclose(predicted["w"] - params["w"], -2 * RATE, rtol=1e-5)
    np.testing.assert_array_equal(predicted["b"], params["b"])


def test_closed_form_reads_moments_inside_a_chain_and_a_mask():
    inner = optax.chain(
        optax.masked(optax.add_decayed_weights(0.0), {"w": True, "b": False}), signum(RATE)
    )
    predictor = Signum(Hyperparameters(learning_rate=RATE))
    params, state = after(with_weight_prediction(inner, 2, predictor=predictor).tx, 1)
    assert_ahead(params, lookahead_params(params, state), -2 * RATE)


def test_closed_form_works_in_all_forms_and_adds_no_leaf():
    prediction = predicted_signum(RATE)
    ahead, state = after(in_place(prediction), 3)
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(signum(RATE).init(PARAMS)))
    params, _ = after(prediction.tx, 3)
    assert_ahead(base_params(ahead, state), params, 0.0)
    predictor = Signum(Hyperparameters(learning_rate=RATE))
    ahead, state = after(xgrad(signum(RATE), 2, predictor=predictor), 3)
    assert_ahead(base_params(ahead, state), params, 0.0)


def test_closed_form_of_a_state_without_a_count_is_refused():
    class Velocity(ClosedForm):
        state_type = optax.TraceState

        def direction(self, moments):
            return moments.trace

    class Buffer(Velocity):
        counts_steps = False

    inner = optax.sgd(RATE, momentum=0.9)
    with pytest.raises(ValueError, match=re.escape("TraceState, which has no `count`")):
        with_weight_prediction(
            inner, predictor=Velocity(Hyperparameters(learning_rate=RATE))
        ).tx.init(PARAMS)
    tx = with_weight_prediction(inner, 2, predictor=Buffer(Hyperparameters(learning_rate=RATE))).tx
    params, state = after(tx, 1)
    assert_ahead(params, lookahead_params(params, state), -2 * RATE)


def test_closed_form_of_another_optimizer_is_refused_by_its_name():
    predictor = Signum(Hyperparameters(learning_rate=RATE))
    with pytest.raises(ValueError, match=r"The predictor for Signum does not fit.*SignumState"):
        with_weight_prediction(optax.adam(RATE), predictor=predictor).tx.init(PARAMS)
