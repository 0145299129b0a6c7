"""``predicted_weights`` and ``base_weights`` in every order, and under Flax's transformations."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.nnx_points import (
    EACH_CONTEXT,
    EACH_EXCHANGE,
    EACH_FORM,
    FORMS,
    GRADIENT,
    HELD,
    POINTS,
    RATE,
    START,
    Model,
    S,
    assert_close,
    gradient,
    loss,
    trained,
)
from xgrad_optax import predictors, with_weight_prediction
from xgrad_optax.nnx import base_weights, predicted_weights


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


# --- nested ---------------------------------------------------------------------------------------


@EACH_FORM
@pytest.mark.parametrize("outer", POINTS)
@pytest.mark.parametrize("inner", POINTS)
def test_each_of_two_nested_blocks_holds_its_own_point(form, outer, inner):
    model, optimizer = trained(FORMS[form]())
    with outer(model, optimizer):
        assert_close(model.w[...], POINTS[outer])
        with inner(model, optimizer):
            assert_close(model.w[...], POINTS[inner])
        assert_close(model.w[...], POINTS[outer])
    assert_close(model.w[...], HELD[form])
    optimizer.update(model, gradient())  # nothing of the blocks is left


@EACH_EXCHANGE
def test_a_block_inside_a_transformation_inside_a_block_is_refused(form, context):
    model, optimizer = trained(FORMS[form]())

    def inside(model):
        with base_weights(model, optimizer):
            return model()

    with context(model, optimizer):
        for transformed in (nnx.grad(inside), nnx.jit(inside)):
            with pytest.raises(ValueError, match="whose own weights are put away"):
                transformed(model)
    assert_close(model.w[...], HELD[form])


# --- inside and outside of transformations --------------------------------------------------------


@EACH_FORM
@EACH_CONTEXT
def test_the_gradient_is_the_same_with_the_block_inside_and_outside(form, context):
    model, optimizer = trained(FORMS[form]())

    def inside(model):
        with context(model, optimizer):
            return model()

    for grad in (nnx.grad(inside), nnx.grad(nnx.remat(inside)), nnx.jit(nnx.grad(inside))):
        assert_close(grad(model)["w"][...], POINTS[context])
    with context(model, optimizer):
        for grad in (nnx.grad(loss), nnx.grad(nnx.remat(loss)), nnx.jit(nnx.grad(loss))):
            assert_close(grad(model)["w"][...], POINTS[context])
    assert_close(model.w[...], HELD[form])


def test_the_gradient_is_that_at_the_prediction_not_through_it():
    inner = optax.adamw(RATE, weight_decay=0.5)  # whose prediction depends on the weights
    prediction = with_weight_prediction(inner, S, predictor=predictors.zero_gradient())
    model, optimizer = trained(prediction.tx)

    def inside(model):
        with predicted_weights(model, optimizer):
            return model()

    with predicted_weights(model, optimizer):
        expected = model.w[...]
    assert_close(nnx.grad(inside)(model)["w"][...], expected)


def in_cond(model, optimizer, block):
    return nnx.cond(
        True, block, lambda model, optimizer: -block(model, optimizer), model, optimizer
    )


def in_scan(model, optimizer, block):
    @nnx.scan(in_axes=(None, None, 0), out_axes=0)
    def body(model, optimizer, _):
        return block(model, optimizer)

    return body(model, optimizer, jnp.zeros(2))


@EACH_FORM
@EACH_CONTEXT
@pytest.mark.parametrize("transformed", [in_cond, in_scan])
def test_blocks_in_control_flow(form, context, transformed):
    model, optimizer = trained(FORMS[form]())

    def block(model, optimizer):
        with context(model, optimizer):
            return model()

    values = nnx.jit(functools.partial(transformed, block=block))(model, optimizer)
    assert_close(values, np.full_like(values, np.sum(POINTS[context] ** 2) / 2))
    assert_close(model.w[...], HELD[form])


@EACH_FORM
@EACH_CONTEXT
def test_a_function_in_the_block_may_get_the_optimizer_too(form, context):
    model, optimizer = trained(FORMS[form]())

    @nnx.jit
    def step(model, optimizer):
        with context(model, optimizer):
            return nnx.jit(lambda model, optimizer: model() + 0 * optimizer.step[...])(
                model, optimizer
            )

    assert_close(step(model, optimizer), np.sum(POINTS[context] ** 2) / 2)


@EACH_FORM
def test_an_ensemble_under_vmap(form):
    @nnx.vmap(in_axes=0, out_axes=0)
    def trained_from(scale):
        return trained(FORMS[form](), Model(scale * START))

    @nnx.vmap
    def points(model, optimizer):
        with predicted_weights(model, optimizer), base_weights(model, optimizer):
            return model.w[...]

    scales = jnp.arange(3.0)
    expected = scales[:, None] * START - RATE * GRADIENT
    model, optimizer = trained_from(scales)
    assert_close(points(model, optimizer), expected)
    with base_weights(model, optimizer):
        assert_close(model.w[...], expected)
