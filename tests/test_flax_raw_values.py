"""NNX variables that change their value on reading: prediction is made from what Optax gets."""

import numpy as np
import optax
import pytest
from flax import nnx

from tests.nnx_points import (
    BASE,
    EACH_FORM,
    FORMS,
    PREDICTED,
    RATE,
    Model,
    assert_close,
    loss,
    trained,
)
from xgrad_optax import lookahead_params, with_weight_prediction, xgrad
from xgrad_optax.nnx import predicted_weights


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


class Scaled(nnx.Param):
    """The equalized learning rate: another value is used than is stored and trained."""

    def get_value(self, **kwargs):
        return super().get_value(**kwargs) * 2.0

    def set_value(self, value, **kwargs):
        super().set_value(value / 2.0, **kwargs)


def hooked(value):
    """The same with hooks."""
    return nnx.Param(
        value,
        on_get_value=lambda _, value: value * 2.0,
        on_set_value=lambda _, value: value / 2.0,
    )


pytestmark = pytest.mark.filterwarnings("ignore:Variable hooks are deprecated")
EACH_VARIABLE = pytest.mark.parametrize("variable", [Scaled, hooked])


class ScaledModel(Model):
    def __init__(self, variable):
        super().__init__()
        self.w = variable(self.w[...])


def raw(model):
    return model.w.get_raw_value()


@EACH_VARIABLE
def test_predictions_are_made_from_raw_values(variable):
    model, optimizer = trained(FORMS["explicit"](), ScaledModel(variable))
    assert_close(raw(model), BASE)
    with predicted_weights(model, optimizer):
        assert_close(raw(model), PREDICTED)
        assert_close(model.w[...], 2 * PREDICTED)
    assert_close(raw(model), BASE)
    predicted = lookahead_params(nnx.state(model, nnx.Param), optimizer.opt_state)
    assert_close(predicted["w"].get_raw_value(), PREDICTED)


@EACH_FORM
@EACH_VARIABLE
def test_without_prediction_raw_values_are_those_of_plain_optax(form, variable):
    inner = optax.adam(RATE)
    predicting = with_weight_prediction(inner, 0).tx if form == "explicit" else xgrad(inner, 0)

    @nnx.jit
    def step(model, optimizer):
        with predicted_weights(model, optimizer):
            grads = nnx.grad(loss)(model)
        optimizer.update(model, grads)

    @nnx.jit
    def plain_step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    models = [ScaledModel(variable), ScaledModel(variable)]
    for model, tx, run in zip(models, (predicting, inner), (step, plain_step), strict=True):
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(3):
            run(model, optimizer)
    np.testing.assert_array_equal(*map(raw, models))
