"""Every refusal of bad input: the message names the value, the rule and the repair."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from xgrad_optax import predictors, with_weight_prediction, xgrad

PARAMS = {"w": jnp.ones(3), "b": jnp.zeros(2)}
FORMS = pytest.mark.parametrize("form", [with_weight_prediction, xgrad])


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


# --- the horizon ----------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize(
    ("s", "kind", "message"),
    [
        (-1, ValueError, "must be a real number >= 0 or an Optax schedule, got s = -1.0"),
        (-1e-9, ValueError, "got s = -1e-09"),
        (float("nan"), ValueError, "got s = nan"),
        (float("inf"), ValueError, "got s = inf"),
        (np.float32(-2), ValueError, "got s = -2.0"),
        (jnp.array(-0.5), ValueError, "got s = -0.5"),
        (np.array(np.nan), ValueError, "got s = nan"),
        (jnp.ones(2), ValueError, "got an array of shape (2,)"),
        (jnp.array(True), ValueError, "dtype bool"),
        (True, TypeError, "got s = True of type bool"),
        (np.bool_(False), TypeError, "of type bool"),
        ("1", TypeError, "got s = '1' of type str"),
        (None, TypeError, "got s = None of type NoneType"),
        (1j, TypeError, "of type complex"),
        ({1}, TypeError, "of type set"),
    ],
    ids=repr,
)
def test_bad_horizon(form, s, kind, message):
    with raises(kind, message):
        form(optax.sgd(0.1), s)


@pytest.mark.parametrize("name", ["sgdm", "rmsprop", "adam", "adamw", "adam3", "lion"])
def test_named_optimizers_check_the_horizon(name):
    with raises(ValueError, "got s = -3.0"):
        getattr(xgrad_optax, name)(0.1, s=-3)


def test_traced_horizon_is_left_alone():
    @jax.jit
    def moved(s):
        lookahead_params, tx = with_weight_prediction(optax.sgd(0.1), s)
        updates, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
        return lookahead_params(jnp.ones(2) + updates, state)

    # 0.9 minus s times 0.1: a negative traced value is the caller's business.
    np.testing.assert_allclose(moved(-2.0), 1.1, rtol=1e-6)


# --- what is wrapped, and with what ---------------------------------------------------------------


@FORMS
@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (0.1, "must be an optax.GradientTransformation such as optax.adam(1e-3), got 0.1"),
        (optax.adam, "must be an optax.GradientTransformation"),
        (None, "of type NoneType"),
        (SimpleNamespace(init=len, update=len), "of type SimpleNamespace"),
        (optax.MultiSteps(optax.sgd(0.1), 2), "Prediction goes inside optax.MultiSteps"),
        (xgrad_optax.adam(0.1), "is a WeightPrediction, which predicts already"),
    ],
)
def test_inner_that_is_no_transform(form, inner, message):
    with raises(TypeError, message):
        form(inner)


@FORMS
@pytest.mark.parametrize("predictor", [predictors.last_update, "last_update", 1.0])
def test_predictor_that_is_none(form, predictor):
    with raises(TypeError, "must come from xgrad_optax.predictors"):
        form(optax.sgd(0.1), predictor=predictor)


@FORMS
@pytest.mark.parametrize(
    "accumulator",
    [
        optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        optax.chain(optax.sgd(0.1), optax.apply_every(2)),
    ],
    ids=["MultiSteps", "apply_every"],
)
def test_accumulation_inside(form, accumulator):
    made = form(accumulator)
    tx = made.tx if form is with_weight_prediction else made
    with raises(ValueError, "Put prediction inside: optax.MultiSteps(with_weight_prediction("):
        tx.init(PARAMS)


@FORMS
@pytest.mark.parametrize(
    ("inner", "predictor", "message"),
    [
        (
            optax.sgd(0.1),
            predictors.sgdm(0.1),
            "exactly one TraceState in the inner state, found 0",
        ),
        (optax.sgd(0.1, 0.9), predictors.adam(0.1), "exactly one ScaleByAdamState"),
        (
            optax.chain(optax.scale_by_adam(), optax.adam(0.1)),
            predictors.adam(0.1),
            "found 2; the state holds",
        ),
        (
            optax.sgd(0.1, 0.9),
            predictors.sgdm(optax.constant_schedule(0.1)),
            "exactly one ScaleByScheduleState in the inner state, found 0",
        ),
        (optax.rmsprop(0.1), predictors.rmsprop(momentum=0.9), "rmsprop with momentum"),
    ],
)
def test_predictor_that_does_not_fit(form, inner, predictor, message):
    made = form(inner, predictor=predictor)
    tx = made.tx if form is with_weight_prediction else made
    with raises(ValueError, message):
        tx.init(PARAMS)


def test_rollout_of_a_transform_that_needs_extra_arguments():
    lookahead_params, tx = with_weight_prediction(
        optax.contrib.momo(), predictor=predictors.zero_gradient()
    )
    with raises(ValueError, "cannot be called without extra arguments"):
        lookahead_params(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize("dtype", [jnp.int32, "bool"])
def test_memory_dtype_that_cannot_hold_updates(dtype):
    with raises(ValueError, "need a floating-point or complex dtype, got"):
        predictors.last_update(dtype)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.complex64])
def test_base_dtype_that_is_not_floating(dtype):
    with raises(ValueError, "base_dtype must be a floating-point dtype or None, got"):
        xgrad(optax.sgd(0.1), base_dtype=dtype)


# --- the accessors --------------------------------------------------------------------------------


def test_no_prediction_state_for_lookahead():
    state = optax.chain(optax.clip(1.0), optax.adam(0.1)).init(PARAMS)
    with raises(ValueError, "lookahead_params found no prediction state in opt_state, which holds"):
        xgrad_optax.lookahead_params(PARAMS, state)
    with raises(ValueError, "[1][0]: ScaleByAdamState"):
        xgrad_optax.lookahead_params(PARAMS, state)


def test_no_prediction_state_for_base_params():
    with raises(ValueError, "base_params found no prediction state in opt_state"):
        xgrad_optax.base_params(PARAMS, optax.sgd(0.1).init(PARAMS))


def test_drop_in_state_for_lookahead():
    with raises(ValueError, "already are the predicted ones"):
        xgrad_optax.lookahead_params(PARAMS, xgrad(optax.sgd(0.1)).init(PARAMS))


def test_explicit_state_for_base_params():
    with raises(ValueError, "already are the base parameters"):
        xgrad_optax.base_params(PARAMS, xgrad_optax.adam(0.1).tx.init(PARAMS))


def test_overlapping_explicit_states():
    outer = with_weight_prediction(xgrad_optax.adam(0.1).tx)
    with raises(ValueError, "Two prediction states cover the parameter ['b']: those at opt_state"):
        outer.lookahead_params(PARAMS, outer.tx.init(PARAMS))


def test_overlapping_drop_in_states():
    tx = optax.chain(xgrad(optax.sgd(0.1)), xgrad(optax.sgd(0.1)))
    with raises(ValueError, "opt_state[0] and opt_state[1]"):
        xgrad_optax.base_params(PARAMS, tx.init(PARAMS))


def test_parameters_of_another_structure():
    state = xgrad_optax.adam(0.1).tx.init(PARAMS)
    with raises(
        ValueError, "not the parameters that the state at opt_state was made for: ['b'] is missing"
    ):
        xgrad_optax.lookahead_params({"w": jnp.ones(3)}, state)


def test_rollout_inside_inject_hyperparams():
    tx = optax.inject_hyperparams(
        lambda learning_rate: (
            with_weight_prediction(
                optax.sgd(learning_rate), predictor=predictors.zero_gradient()
            ).tx
        )
    )(learning_rate=0.1)
    with raises(ValueError, "Put inject_hyperparams inside"):
        xgrad_optax.lookahead_params(PARAMS, tx.init(PARAMS))


# --- update ---------------------------------------------------------------------------------------


def test_drop_in_needs_params():
    tx = xgrad(optax.sgd(0.1))
    with raises(ValueError, "tx.update(grads, opt_state, params)"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_drop_in_refuses_a_foreign_state():
    tx = xgrad(optax.adam(0.1))
    with raises(ValueError, "not made by the `init` of this transform"):
        tx.update(PARAMS, optax.adam(0.1).init(PARAMS), PARAMS)


@pytest.mark.parametrize("s", [1, optax.constant_schedule(1.0)], ids=["number", "schedule"])
def test_explicit_form_with_memory_refuses_a_foreign_state(s):
    tx = with_weight_prediction(optax.adam(0.1), s).tx
    with raises(ValueError, "needs more than the inner optimizer's state"):
        tx.update(PARAMS, optax.adam(0.1).init(PARAMS), PARAMS)


@pytest.mark.parametrize(
    ("params", "difference"),
    [
        ({"w": jnp.ones(3)}, "['b'] is missing"),
        ({"w": jnp.ones(3), "b": jnp.zeros(2), "c": jnp.ones(1)}, "['c'] is not in the state"),
        ({"w": jnp.ones(4), "b": jnp.zeros(2)}, "['w'] has shape (4,), in the state (3,)"),
        (jnp.ones(3), "(the only leaf) is not in the state"),
    ],
)
def test_parameters_that_do_not_fit_are_told_apart_by_path(params, difference):
    drop_in = xgrad(optax.sgd(0.1))
    in_place = xgrad_optax.in_place(xgrad_optax.sgdm(0.1))
    for tx in (drop_in, in_place):
        with raises(ValueError, difference):
            xgrad_optax.base_params(params, tx.init(PARAMS))
        with raises(ValueError, difference):
            tx.update(params, tx.init(PARAMS), params)


@pytest.mark.parametrize(
    ("prediction", "kind", "message"),
    [
        (optax.adam(0.1), TypeError, "in_place takes what a named optimizer"),
        (with_weight_prediction(optax.adam(0.1)), ValueError, "LastUpdate needs a memory"),
        (xgrad_optax.rmsprop(0.1), ValueError, "use xgrad(inner, s, predictor=...)"),
        (
            with_weight_prediction(optax.adam(0.1), predictor=predictors.zero_gradient()),
            ValueError,
            "ZeroGradient needs a memory or the parameters",
        ),
    ],
)
def test_in_place_refuses_what_the_moments_do_not_tell(prediction, kind, message):
    with raises(kind, message):
        xgrad_optax.in_place(prediction)


def test_in_place_needs_params():
    tx = xgrad_optax.in_place(xgrad_optax.adam(0.1))
    with raises(ValueError, "tx.update(grads, opt_state, params)"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_state_made_with_another_predictor():
    state = with_weight_prediction(optax.adam(0.1)).tx.init(PARAMS)
    with raises(ValueError, "another predictor"):
        xgrad_optax.adam(0.1).tx.update(PARAMS, state, PARAMS)


def test_sgdm_offers_no_nesterov():
    with pytest.raises(TypeError, match="nesterov"):
        xgrad_optax.sgdm(0.1, nesterov=True)  # pyright: ignore[reportCallIssue]
