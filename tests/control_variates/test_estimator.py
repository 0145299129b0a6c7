"""The estimator itself: unbiased, exact where it must be, in the dtype of the true gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import unbiased

from xgrad_optax.control_variates import (
    control_variate_gradient,
    optimal_coefficient,
    weighted_mean,
)

DRAWS, EXAMPLES, BATCH, CONTROL = 4000, 40, 8, 2
F = CONTROL / BATCH


def table(seed, scale=1.0):
    """Gradients of all examples of a small data set, two leaves, neither centred nor symmetric."""
    rng = np.random.default_rng(seed)
    tree = {
        "w": scale * rng.gamma(1.0, size=(EXAMPLES, 3, 2)),
        "b": scale * rng.normal(size=(EXAMPLES, 2)) + 0.3,
    }
    return jax.tree.map(np.float32, tree)


GRADS = table(0)
# Correlated with the true gradients, but biased.
PREDICTIONS = jax.tree.map(lambda g, noise: np.float32(0.7 * g + noise + 0.5), GRADS, table(1, 0.3))
FULL = jax.tree.map(lambda g: g.mean(0, dtype=float), GRADS)

# Many mini-batches of different rows, each in two parts.
MINIBATCHES = np.argsort(np.random.default_rng(2).random((DRAWS, EXAMPLES)))[:, :BATCH]
PARTS = np.split(MINIBATCHES, [CONTROL], axis=1)


def mean_of(tree, rows):
    """Means over ``rows [..., b]``, leaves ``[..., 3, 2]``."""
    return jax.tree.map(lambda x: jnp.asarray(x[rows].mean(rows.ndim - 1)), tree)


def right(coefficient=None):
    """All estimates at once: they are as elementwise as any gradient."""
    control, rest = PARTS
    return control_variate_gradient(
        mean_of(GRADS, control),
        mean_of(PREDICTIONS, control),
        mean_of(PREDICTIONS, rest),
        control_fraction=F,
        coefficient=coefficient,
    )


# --- bias -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("coefficient", [None, 1.0, -0.4, {"w": 0.9, "b": 0.2}], ids=repr)
def test_unbiased_for_the_full_gradient(coefficient):
    assert unbiased.biased_leaves(right(coefficient), FULL) == {}


def only_predicted():
    return mean_of(PREDICTIONS, PARTS[1])


def prediction_that_depends_on_the_draw():
    """Of the control examples it knows part of the true gradient: as if fitted on them."""
    control, rest = PARTS
    learnt = jax.tree.map(lambda g, h: (g + h) / 2, GRADS, PREDICTIONS)
    return control_variate_gradient(
        mean_of(GRADS, control),
        mean_of(learnt, control),
        mean_of(PREDICTIONS, rest),
        control_fraction=F,
    )


def by_importance(use_weights):
    """One row, drawn in proportion to a score, for an estimate of the mean over all rows."""
    scores = np.exp(GRADS["b"][:, 0].astype(float))
    probabilities = scores / scores.sum()
    drawn = np.random.default_rng(3).choice(EXAMPLES, DRAWS, p=probabilities)
    weights = 1 / (EXAMPLES * probabilities[drawn]) if use_weights else np.ones(DRAWS)
    weights = jnp.asarray(weights[:, None], jnp.float32)
    # One weight and one row for each draw.
    g, h = (
        jax.vmap(weighted_mean)(jax.tree.map(lambda x: x[drawn][:, None], tree), weights)
        for tree in (GRADS, PREDICTIONS)
    )
    everything = mean_of(PREDICTIONS, np.tile(np.arange(EXAMPLES), (DRAWS, 1)))
    return control_variate_gradient(g, h, everything, control_fraction=F, coefficient=1)


@pytest.mark.parametrize(
    "wrong",
    [only_predicted, prediction_that_depends_on_the_draw, lambda: by_importance(False)],
    ids=["only predicted", "knows the control examples", "weights forgotten"],
)
def test_the_same_test_finds_wrong_estimators(wrong):
    assert unbiased.biased_leaves(wrong(), FULL).keys() == {"['w']", "['b']"}


def test_the_same_test_finds_one_wrong_entry():
    draws = jax.tree.map(np.array, right())
    draws["w"][:, 1, 0] += 0.1
    assert unbiased.biased_leaves(draws, FULL).keys() == {"['w']"}


def test_weighted_form_is_unbiased():
    assert unbiased.biased_leaves(by_importance(True), FULL) == {}


def test_prediction_lowers_the_variance():
    assert unbiased.total_variance(right()) < 0.6 * unbiased.total_variance(right(0.0))


# --- exact cases ----------------------------------------------------------------------------------


def test_perfect_prediction_gives_the_gradient_of_the_whole_batch():
    control, rest = (rows[0] for rows in PARTS)
    estimate = control_variate_gradient(
        mean_of(GRADS, control),
        mean_of(GRADS, control),
        mean_of(GRADS, rest),
        control_fraction=F,
    )
    expected = mean_of(GRADS, MINIBATCHES[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), estimate, expected)


def test_zero_prediction_gives_the_control_gradient():
    g = mean_of(GRADS, np.arange(3))
    zeros = jax.tree.map(jnp.zeros_like, g)
    estimate = control_variate_gradient(g, zeros, zeros, control_fraction=0.3)
    jax.tree.map(np.testing.assert_array_equal, estimate, g)


def test_fraction_one_gives_the_control_gradient():
    g, h = (mean_of(tree, np.arange(3)) for tree in (GRADS, PREDICTIONS))
    estimate = control_variate_gradient(g, h, g, control_fraction=1)
    jax.tree.map(np.testing.assert_array_equal, estimate, g)


def test_coefficient_per_leaf():
    g, h_c, h_p = ({"a": jnp.array([x]), "b": jnp.array(x)} for x in (1.0, 2.0, 5.0))
    estimate = control_variate_gradient(
        g, h_c, h_p, control_fraction=0.5, coefficient={"a": 1.0, "b": jnp.array(0.25)}
    )
    assert float(estimate["a"][0]) == 1 + 3
    assert float(estimate["b"]) == 1 + 0.75


def test_traced_numbers():
    def estimate(f, coefficient):
        return control_variate_gradient(
            jnp.ones(2), jnp.ones(2), jnp.zeros(2), control_fraction=f, coefficient=coefficient
        )

    np.testing.assert_allclose(jax.jit(lambda f: estimate(f, None))(0.25), 0.25)
    np.testing.assert_allclose(jax.jit(estimate)(0.25, 0.5), 0.5)
    alpha = optimal_coefficient(0.25, 0.8, 0.8)  # a NumPy float64, as the theory returns it
    np.testing.assert_allclose(estimate(0.25, alpha), 0.25)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("predicted", [jnp.bfloat16, jnp.float32])
def test_dtype_of_the_true_gradient_is_kept(dtype, predicted):
    g, h = jnp.ones((2, 3), dtype), jnp.ones((2, 3), predicted)
    estimate = control_variate_gradient(g, 2 * h, h, control_fraction=0.5)
    assert estimate.dtype == dtype
    np.testing.assert_array_equal(np.asarray(estimate, float), 0.5)


def test_empty_leaves_and_none():
    tree = {"a": None, "b": jnp.ones(2), "c": {}}
    estimate = control_variate_gradient(tree, tree, tree, control_fraction=0.5)
    assert jax.tree.structure(estimate) == jax.tree.structure(tree)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "kind", "message"),
    [
        (0, ValueError, "must lie in (0, 1], got 0"),
        (1.5, ValueError, "must lie in (0, 1], got 1.5"),
        (-0.25, ValueError, "got -0.25"),
        (float("nan"), ValueError, "got nan"),
        (True, TypeError, "must be a number in (0, 1], got True"),
        ("1/4", TypeError, "got '1/4'"),
        (None, TypeError, "got None"),
    ],
)
def test_bad_fraction(f, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        control_variate_gradient(jnp.ones(2), jnp.ones(2), jnp.ones(2), control_fraction=f)


@pytest.mark.parametrize("name", ["control_predictions", "predictions"])
@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": jnp.ones(2)}, " must be a tree like control_grads: got PyTreeDef"),
        ({"w": jnp.ones(2), "b": jnp.ones(3)}, "['b'] has shape (3,), but control_grads has ()"),
    ],
)
def test_trees_that_do_not_match(name, tree, message):
    good = {"w": jnp.ones(2), "b": jnp.ones(())}
    arguments = {"control_grads": good, "control_predictions": good, "predictions": good}
    with pytest.raises(ValueError, match=re.escape(name + message)):
        control_variate_gradient(**{**arguments, name: tree}, control_fraction=0.5)


def test_coefficient_tree_that_does_not_match():
    tree = {"w": jnp.ones(2), "b": jnp.ones(())}
    with pytest.raises(ValueError, match="coefficient must be one number, or a tree like"):
        control_variate_gradient(tree, tree, tree, control_fraction=0.5, coefficient={"w": 1.0})
