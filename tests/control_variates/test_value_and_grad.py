"""What ``predicted_value_and_grad`` refuses, and what the step and the fit refuse later."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest
from small_network import LOSS, headless_loss, make_data, make_params

from xgrad_optax.control_variates import (
    HeadedLoss,
    HeadedParams,
    from_function,
    low_precision,
    neural_tangent_kernel,
    predicted_value_and_grad,
)

PREDICTOR = low_precision()


def raises(kind, message):
    return pytest.raises(kind, match=re.escape(message))


# --- when it is built -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"control_fraction": 0}, ValueError, "control_fraction must lie in (0, 1], got 0"),
        ({"control_fraction": 1.5}, ValueError, "control_fraction must lie in (0, 1], got 1.5"),
        ({"control_fraction": 0.3}, ValueError, "must be one over a whole number (1/2, 1/4, ...)"),
        ({"control_fraction": None}, TypeError, "must be a number in (0, 1], got None"),
        ({"control_fraction": "best"}, ValueError, "must be a number or 'auto', got 'best'"),
        ({"control_fraction": "auto"}, ValueError, "so it needs cost_ratio=c >= 0"),
        ({"control_fraction": "auto", "cost_ratio": -1.0}, ValueError, "Got -1.0"),
        ({"control_fraction": "auto", "cost_ratio": float("nan")}, ValueError, "Got nan"),
        (
            {"control_fraction": "auto", "cost_ratio": 0.3, "fractions": [0.5, 0.25]},
            ValueError,
            "fractions must contain 1, the plain gradient to fall back to; got [0.5, 0.25]",
        ),
        (
            {"control_fraction": "auto", "cost_ratio": 0.3, "fractions": [1, 0.7]},
            ValueError,
            "one over a whole number",
        ),
        ({"coefficient": "best"}, ValueError, "must be a number, 'overall' or 'leaf': 'best'"),
        ({"coefficient": None}, TypeError, "must be a number, 'overall' or 'leaf': None"),
        ({"coefficient": True}, TypeError, "must be a number, 'overall' or 'leaf': True"),
        ({"coefficient": float("inf")}, ValueError, "coefficient must be finite, got inf"),
        ({"refit_interval": 0}, ValueError, "refit_interval must be at least 1, got 0"),
        ({"refit_interval": 1.5}, TypeError, "refit_interval must be a whole number, got 1.5"),
        ({"defensive": 0}, ValueError, "defensive must lie in (0, 1], got 0"),
        ({"importance": "size"}, ValueError, "one of loss, residual, output_gradient"),
    ],
    ids=repr,
)
def test_bad_options(options, kind, message):
    with raises(kind, message):
        predicted_value_and_grad(LOSS, PREDICTOR, **options)


@pytest.mark.parametrize("importance", ["residual", "output_gradient"])
def test_importance_that_needs_a_head(importance):
    with raises(ValueError, f"importance='{importance}' needs a HeadedLoss"):
        predicted_value_and_grad(headless_loss, PREDICTOR, importance=importance)


def test_kinds_of_loss_and_predictor():
    with raises(TypeError, "loss must be a HeadedLoss or a function"):
        predicted_value_and_grad(3.0, PREDICTOR)
    with raises(TypeError, "predictor must be a GradientPredictor, such as"):
        predicted_value_and_grad(LOSS, lambda params, batch, weights: params)
    with raises(TypeError, "from_function needs a function, got int"):
        from_function(3)
    with raises(ValueError, "low_precision needs a floating-point dtype, got int8"):
        low_precision(jnp.int8)


# --- parameters and batches -----------------------------------------------------------------------


def step(params=None, batch=None, loss=LOSS, predictor=PREDICTOR, **options):
    """Traces one step."""
    params = make_params() if params is None else params
    gradient = predicted_value_and_grad(loss, predictor, **options)
    state = gradient.init(params, jax.random.key(0))
    return jax.eval_shape(gradient, params, state, make_data(8) if batch is None else batch)


@pytest.mark.parametrize("predictor", [PREDICTOR, neural_tangent_kernel(8, 4)])
def test_parameters_that_are_not_headed(predictor):
    with raises(TypeError, "the parameters of a HeadedLoss are HeadedParams(trunk=..., head="):
        step({"trunk": {}, "head": {}}, predictor=predictor)


@pytest.mark.parametrize("head", [{}, {"w": jnp.ones((5, 3))}, {"kernel": 0, "scale": 0}])
def test_heads_that_are_not_linear(head):
    with raises(ValueError, "the head is linear, with a 'kernel' and perhaps a 'bias'; got"):
        step(HeadedParams(make_params().trunk, head))


@pytest.mark.parametrize("control_fraction", [1, 0.25])
def test_losses_that_are_a_mean(control_fraction):
    mean = HeadedLoss(LOSS.features, lambda logits, labels: LOSS.loss(logits, labels).mean())
    with raises(ValueError, ", not its mean; got shape ()"):
        step(loss=mean, control_fraction=control_fraction)

    def mean_fn(params, batch):
        return headless_loss(params, batch).mean()

    with raises(ValueError, ", not its mean; got shape ()"):
        step(loss=mean_fn, control_fraction=control_fraction)


def test_features_of_many_tokens():
    tokens = HeadedLoss(lambda trunk, x: LOSS.features(trunk, x)[:, None], LOSS.loss)
    with raises(ValueError, "one vector of features for each example, [batch, d]; `features`"):
        step(loss=tokens)


@pytest.mark.parametrize("batch", [{"x": 1, "y": 2}, jnp.ones((8, 3)), (1, 2, 3)])
def test_batches_that_are_no_pair(batch):
    batch = jax.tree.map(lambda x: jnp.ones((8, 3)), batch)
    with raises(ValueError, "the mini-batch of a HeadedLoss is a pair (inputs, targets), got"):
        step(batch=batch)


@pytest.mark.parametrize("size", [2, 10])
def test_batches_that_cannot_be_split(size):
    with raises(ValueError, f"a batch of {size} examples cannot be split into blocks of 4"):
        step(batch=make_data(size))
    with raises(ValueError, f"a batch of {size} examples cannot be split into blocks of 8"):
        step(batch=make_data(size), control_fraction="auto", cost_ratio=0.3, fractions=[1, 1 / 8])


def test_inputs_and_targets_of_different_number():
    x, y = make_data(8)
    with raises(ValueError, "the same number of rows, one per example"):
        step(batch=(x, y[:4]))


@pytest.mark.parametrize(
    ("predictor", "count", "message"),
    [
        (PREDICTOR, 1, "needs 0 examples to learn from and at least 2 more"),
        (neural_tangent_kernel(8, 4), 9, "needs 8 examples to learn from and at least 2 more"),
        (neural_tangent_kernel(8, 4), 8, "to measure the alignment on, got 8 in all"),
    ],
)
def test_fits_with_too_few_examples(predictor, count, message):
    gradient = predicted_value_and_grad(LOSS, predictor)
    state = gradient.init(make_params(), jax.random.key(0))
    with raises(ValueError, message):
        gradient.fit(make_params(), state, make_data(count))


@pytest.mark.parametrize(
    "returned", [lambda p: p, lambda p: jax.tree.map(lambda x: x[None], p.trunk), lambda p: 0.0]
)
def test_predictions_that_are_no_gradient(returned):
    predictor = from_function(lambda params, batch, weights: returned(params))
    with raises(ValueError, "must return a tree like the parameters it predicts for"):
        step(predictor=predictor)


def test_head_without_bias():
    params = make_params()
    del params.head["bias"]
    _, grads = step(params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)


def test_a_headed_loss_of_squared_errors():
    """Targets can have any shape as long as there is one for each example."""
    loss = HeadedLoss(LOSS.features, lambda out, y: optax.l2_loss(out, y).sum(1))
    _, grads = step(loss=loss, batch=(jnp.ones((8, 3)), jnp.ones((8, 3))))
    assert jax.tree.structure(grads) == jax.tree.structure(make_params())
