"""A tree of horizons: each leaf is predicted as far ahead as it says."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from tests.optimizers_under_test import relaxed
from xgrad_optax import (
    base_params,
    delayed,
    in_place,
    lookahead_params,
    predictors,
    with_weight_prediction,
    xgrad,
    zero_gradient,
)

PARAMS = {"stage": {"w": jnp.linspace(-1.0, 1.0, 4), "b": jnp.ones(2)}, "head": jnp.ones(3)}
HORIZONS = {"stage": 3, "head": 0.5}


def advance(tx, point, steps=4):
    params, state = PARAMS, tx.init(PARAMS)
    for t in range(steps):
        grads = jax.tree.map(lambda p, t=t: jnp.cos(p + t), point(params, state))
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def explicit(s, **options):
    return xgrad_optax.adamw(0.1, s=s, **options)


FORMS = {
    "explicit": lambda s: explicit(s).tx,
    "last update": lambda s: with_weight_prediction(optax.adamw(0.1), s).tx,
    "late": lambda s: delayed(explicit(s), 2).tx,
    "late by leaf": lambda s: delayed(explicit(s), {"stage": 2, "head": 0}).tx,
    "masked": lambda s: optax.masked(explicit(s).tx, {"stage": True, "head": True}),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_each_leaf_has_its_own_horizon(make):
    params, state = advance(make(HORIZONS), lambda params, state: params)
    found = lookahead_params(params, state)
    for name, s in HORIZONS.items():
        same, same_state = advance(make(s), lambda params, state: params)
        expected = lookahead_params(same, same_state)[name]
        jax.tree.map(np.testing.assert_array_equal, found[name], expected)
        assert not np.allclose(jax.tree.leaves(found[name])[0], jax.tree.leaves(params[name])[0])


def test_a_whole_tree_and_a_prefix_are_the_same():
    whole = {"stage": {"w": 3, "b": 3}, "head": 0.5}
    pairs = [explicit(s) for s in (HORIZONS, whole)]
    one, other = (advance(pair.tx, pair.lookahead_params)[0] for pair in pairs)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: in_place(explicit(HORIZONS)),
        lambda: xgrad(optax.adamw(0.1), HORIZONS, predictor=predictors.adam(0.1)),
    ],
    ids=["in-place", "drop-in"],
)
def test_forms_that_hold_the_predicted_point_follow_the_explicit_one(make):
    pair = explicit(HORIZONS)
    expected, _ = advance(pair.tx, pair.lookahead_params)
    base = base_params(*advance(make(), lambda params, state: params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), base, expected)


def test_zero_everywhere_is_the_plain_optimizer():
    pair = explicit({"stage": 0, "head": 0})
    found, _ = advance(pair.tx, pair.lookahead_params)
    expected, _ = advance(relaxed(optax.adamw(0.1)), lambda params, state: params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_state_has_the_plain_optimizer_s_leaves_and_pickles():
    state = explicit(HORIZONS).init(PARAMS)
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(optax.adamw(0.1).init(PARAMS)))
    restored = pickle.loads(pickle.dumps(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    others = explicit({"stage": 1, "head": 0.5}).init(PARAMS)
    assert jax.tree.structure(state) != jax.tree.structure(others)


def test_learning_rates_may_follow_a_schedule():
    rate = optax.linear_schedule(0.1, 0.0, 10)
    pairs = [xgrad_optax.adamw(rate, s=s) for s in (HORIZONS, 3)]
    points = []
    for pair in pairs:
        params, state = advance(pair.tx, lambda params, state: params)
        points.append(pair.lookahead_params(params, state)["stage"])
    jax.tree.map(np.testing.assert_array_equal, *points)


@pytest.mark.parametrize(
    ("s", "error", "message"),
    [
        ({"stage": -1, "head": 0}, ValueError, re.escape("s at ['stage']: the horizon")),
        ({"stage": "1"}, TypeError, re.escape("s at ['stage']")),
        ({"stage": None}, TypeError, re.escape("s at ['stage']")),
        ({"stage": lambda t: 1.0}, TypeError, "a tree of horizons is fixed"),
        ({}, TypeError, "horizon `s` must be"),
    ],
)
def test_trees_of_what_is_no_horizon(s, error, message):
    with pytest.raises(error, match=message):
        explicit(s)


def rolled_out(s):
    return with_weight_prediction(optax.sgd(0.1), s, predictor=zero_gradient())


@pytest.mark.parametrize("make", [lambda s: explicit(s, damped=True), rolled_out])
def test_predictions_that_are_not_linear_have_one_horizon(make):
    with pytest.raises(ValueError, match="has one horizon for all leaves"):
        make(HORIZONS)


def test_a_tree_that_does_not_fit_the_parameters():
    pair = explicit({"stage": {"w": 1}, "head": 0})
    with pytest.raises(ValueError, match="must have the structure of the parameters"):
        pair.lookahead_params(PARAMS, pair.init(PARAMS))
