"""``predicted_weights`` and ``base_weights`` in every order, and under Flax's transformations."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import xgrad_optax
from xgrad_optax import predictors, with_weight_prediction, xgrad
from xgrad_optax.nnx import base_weights, predicted_weights

S, RATE = 2, 0.1
START, GRADIENT = np.array([1.0, 2.0], np.float32), np.array([1.0, -1.0], np.float32)
# One step of gradient descent along GRADIENT.
BASE = START - RATE * GRADIENT
PREDICTED = BASE - S * RATE * GRADIENT
FORMS = {
    "explicit": lambda s=S: with_weight_prediction(optax.sgd(RATE), s).tx,
    "drop-in": lambda s=S: xgrad(optax.sgd(RATE), s),
}
HELD = {"explicit": BASE, "drop-in": PREDICTED}
POINTS = {predicted_weights: PREDICTED, base_weights: BASE}
EACH_FORM = pytest.mark.parametrize("form", FORMS)
EACH_CONTEXT = pytest.mark.parametrize("context", POINTS)
# The contexts that have something to exchange.
EXCHANGES = [("explicit", predicted_weights), ("drop-in", base_weights)]
EACH_EXCHANGE = pytest.mark.parametrize(("form", "context"), EXCHANGES)


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


class Model(nnx.Module):
    def __init__(self, start=START):
        self.w = nnx.Param(jnp.asarray(start))
        self.calls = nnx.BatchStat(jnp.zeros(()))

    def __call__(self):
        self.calls[...] += 1
        return jnp.sum(self.w[...] ** 2) / 2  # its gradient tells where it was taken


def loss(model):
    return model()


def gradient(name="w", kind=nnx.Param):
    return nnx.State({name: kind(jnp.asarray(GRADIENT))})


def trained(tx, model=None):
    model = model or Model()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, gradient())
    return model, optimizer


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


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


# --- what is touched ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "s", "context"),
    [
        ("drop-in", S, predicted_weights),
        ("explicit", S, base_weights),
        ("explicit", 0, predicted_weights),
    ],
)
def test_nothing_is_touched_where_nothing_has_to_be_exchanged(form, s, context):
    model, optimizer = trained(FORMS[form](s))
    held = model.w.get_raw_value()
    with context(model, optimizer):
        assert model.w.get_raw_value() is held
        model.w[...] = jnp.zeros(2)
    assert_close(model.w[...], np.zeros(2))


@EACH_FORM
@pytest.mark.parametrize("outer", POINTS)
@EACH_CONTEXT
def test_functions_that_give_the_models_arrays_away(form, outer, context):
    model, optimizer = trained(FORMS[form]())
    donating = nnx.jit(loss, donate_argnums=0)
    with outer(model, optimizer):
        with context(model, optimizer):
            assert_close(donating(model), np.sum(POINTS[context] ** 2) / 2)
            assert_close(donating(model), np.sum(POINTS[context] ** 2) / 2)
        assert_close(model.w[...], POINTS[outer])
    assert_close(model.w[...], HELD[form])
    for again, expected in POINTS.items():
        with again(model, optimizer):
            assert_close(model.w[...], expected)
    assert model.calls[...] == 2


@EACH_EXCHANGE
def test_updating_inside_the_block_is_refused_before_anything_is_lost(form, context):
    model, optimizer = trained(FORMS[form]())
    grads = gradient()
    update = nnx.jit(lambda model, optimizer, grads: optimizer.update(model, grads) and None)
    with context(model, optimizer):
        with pytest.raises(ValueError, match=r"call optimizer.update.* after it"):
            optimizer.update(model, grads)
        with pytest.raises(ValueError, match=r"call optimizer.update.* after it"):
            update(model, optimizer, grads)
    assert optimizer.step[...] == 1
    update(model, optimizer, grads)
    with base_weights(model, optimizer):
        assert_close(model.w[...], BASE - RATE * GRADIENT)


COPIES = {
    "clone": nnx.clone,
    "merge(copy=True)": lambda model: nnx.merge(*nnx.split(model), copy=True),
    "as_pure": lambda model: nnx.as_pure(nnx.state(model)),
    "to_pure_dict": lambda model: nnx.to_pure_dict(nnx.state(model)),
    "deepcopy": copy.deepcopy,
    "tree.map": lambda model: jax.tree.map(lambda x: x, nnx.state(model)),
    "array": lambda model: {"w": model.w[...]},
}
SHARED = {
    "state": nnx.state,
    "split": lambda model: nnx.split(model)[1],
    "unpack": nnx.unpack,
    "merge": lambda model: nnx.merge(*nnx.split(model)),
    "view": nnx.view,
    "to_flat_state": lambda model: dict(nnx.to_flat_state(nnx.state(model))),
    "copy": copy.copy,
}


@EACH_EXCHANGE
def test_copies_keep_the_point_and_what_shares_variables_does_not(form, context):
    model, optimizer = trained(FORMS[form]())
    with context(model, optimizer):
        copies = {name: take(model) for name, take in COPIES.items()}
        shared = {name: take(model) for name, take in SHARED.items()}
    for name, taken in copies.items():
        np.testing.assert_allclose(_weights(taken), POINTS[context], rtol=1e-6, err_msg=name)
    for name, taken in shared.items():
        np.testing.assert_allclose(_weights(taken), HELD[form], rtol=1e-6, err_msg=name)


def _weights(tree):
    return next(leaf for leaf in jax.tree.leaves(tree) if leaf.shape == START.shape)


def test_two_optimizers_of_parts_of_one_model():
    class Special(nnx.Param):
        pass

    model = Model()
    model.special = Special(jnp.asarray(START))
    ordinary = nnx.All(nnx.Param, nnx.Not(Special))
    optimizers = [
        nnx.Optimizer(model, FORMS[form](), wrt=wrt)
        for form, wrt in (("explicit", ordinary), ("drop-in", Special))
    ]
    for optimizer, name, kind in zip(
        optimizers, ("w", "special"), (nnx.Param, Special), strict=True
    ):
        optimizer.update(model, gradient(name, kind))
    with predicted_weights(model, optimizers[0]), base_weights(model, optimizers[1]):
        assert_close(model.w[...], PREDICTED)
        assert_close(model.special[...], BASE)
    assert_close(model.w[...], BASE)
    assert_close(model.special[...], PREDICTED)


def test_shared_variables_are_exchanged_once():
    model = Model()
    model.z = model.w
    model, optimizer = trained(FORMS["explicit"](), model)
    with predicted_weights(model, optimizer):
        assert model.z is model.w
        assert_close(model.z[...], PREDICTED)
    assert_close(model.z[...], BASE)


# --- variables that change their value on reading -------------------------------------------------


class Scaled(nnx.Param):
    """The equalized learning rate: another value is used than is stored and trained."""

    def get_value(self, **kwargs):
        return super().get_value(**kwargs) * 2.0

    def set_value(self, value, **kwargs):
        super().set_value(value / 2.0, **kwargs)


class ScaledModel(Model):
    def __init__(self):
        super().__init__()
        self.w = Scaled(self.w[...])


def raw(model):
    return model.w.get_raw_value()


def test_predictions_are_made_from_raw_values():
    model, optimizer = trained(FORMS["explicit"](), ScaledModel())
    assert_close(raw(model), BASE)
    with predicted_weights(model, optimizer):
        assert_close(raw(model), PREDICTED)
        assert_close(model.w[...], 2 * PREDICTED)
    assert_close(raw(model), BASE)
    predicted = xgrad_optax.lookahead_params(nnx.state(model, nnx.Param), optimizer.opt_state)
    assert_close(
        raw(nnx.merge(nnx.graphdef(model), predicted, nnx.state(model, nnx.BatchStat))), PREDICTED
    )


@EACH_FORM
def test_without_prediction_raw_values_are_those_of_plain_optax(form):
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

    models = [ScaledModel(), ScaledModel()]
    for model, tx, run in zip(models, (predicting, inner), (step, plain_step), strict=True):
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(3):
            run(model, optimizer)
    np.testing.assert_array_equal(*map(raw, models))


# --- mistakes -------------------------------------------------------------------------------------


@EACH_CONTEXT
def test_arguments_that_do_not_belong_together(context):
    model, optimizer = trained(FORMS["explicit"]())
    for wrong in (optimizer.tx, optimizer.opt_state, model):
        with (
            pytest.raises(TypeError, match=rf"needs the nnx.Optimizer.*{type(wrong).__name__}"),
            context(model, wrong),
        ):
            pass
    with (
        pytest.raises(ValueError, match="Dropout holds no variables that the optimizer trains"),
        context(nnx.Dropout(0.5), optimizer),
    ):
        pass
