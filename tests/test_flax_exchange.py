"""What ``predicted_weights`` and ``base_weights`` touch, what follows the model, and mistakes."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nnx_points import (
    BASE,
    EACH_CONTEXT,
    EACH_EXCHANGE,
    EACH_FORM,
    FORMS,
    GRADIENT,
    HELD,
    POINTS,
    PREDICTED,
    RATE,
    START,
    Model,
    S,
    assert_close,
    gradient,
    loss,
    trained,
)
from xgrad_optax.nnx import base_weights, predicted_weights


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


@pytest.mark.parametrize(
    ("form", "s", "context"),
    [
        ("drop-in", S, predicted_weights),
        ("explicit", S, base_weights),
        ("in-place", S, predicted_weights),
        ("drop-in", 0, base_weights),
        ("in-place", 0, base_weights),
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
