"""Properties that hold for any parameters, gradients, horizons and trees."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xgrad_optax
from xgrad_optax import base_params, predictors, with_weight_prediction, xgrad

STEPS = 4
PREDICTORS = {
    "last_update": predictors.last_update,
    "zero_gradient": predictors.zero_gradient,
    "from_moments": lambda: predictors.adam(0.05),
}
ANY_PREDICTOR = pytest.mark.parametrize("predictor", PREDICTORS)

# Small programs that are compiled once per shape: values vary, shapes do not.
VALUES = hnp.arrays(np.float32, (3,), elements=st.floats(-4, 4, width=32, allow_subnormal=False))
GRADS = hnp.arrays(
    np.float32, (STEPS, 3), elements=st.floats(-4, 4, width=32, allow_subnormal=False)
)
HORIZONS = st.floats(0, 4, width=32)


def run_explicit(inner, s, predictor, params, grads):
    """θ, θ̂ and the state after the given sequence of gradients."""
    lookahead_params, tx = with_weight_prediction(inner, s, predictor=predictor)
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, lookahead_params(params, state), state


def run_drop_in(inner, s, predictor, params, grads):
    tx = xgrad(inner, s, predictor=predictor)
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return base_params(params, state), params, state


def run_plain(tx, params, grads):
    state = tx.init(params)
    for g in grads:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def inner():
    return optax.adamw(0.05, weight_decay=0.1)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@ANY_PREDICTOR
@pytest.mark.parametrize("run", [run_explicit, run_drop_in])
def test_zero_horizon_is_bitwise_the_inner_optimizer(run, predictor):
    @jax.jit
    def predicted(params, grads):
        theta, theta_hat, state = run(inner(), 0, PREDICTORS[predictor](), params, grads)
        return theta, theta_hat, state.inner_state

    plain = jax.jit(lambda params, grads: run_plain(inner(), params, grads))

    @given(VALUES, GRADS)
    def check(params, grads):
        theta, theta_hat, inner_state = predicted(params, grads)
        expected, expected_state = plain(params, grads)
        assert bits(theta) == bits(expected)
        assert bits(theta_hat) == bits(expected)
        assert bits(inner_state) == bits(expected_state)

    check()


@pytest.mark.parametrize("predictor", ["last_update", "from_moments"])
def test_prediction_is_linear_in_the_horizon(predictor):
    @jax.jit
    def displacement(s, params, grads):
        theta, theta_hat, _ = run_explicit(inner(), s, PREDICTORS[predictor](), params, grads)
        return theta_hat - theta

    @given(HORIZONS, VALUES, GRADS)
    def check(s, params, grads):
        one = displacement(np.float32(1), params, grads)
        np.testing.assert_allclose(
            displacement(np.float32(s), params, grads), s * one, rtol=1e-4, atol=2e-6
        )

    check()


def test_rollout_is_piecewise_linear_and_the_same_for_static_and_traced_horizons():
    def displacement(s, params, grads):
        theta, theta_hat, _ = run_explicit(inner(), s, predictors.zero_gradient(), params, grads)
        return theta_hat - theta

    traced = jax.jit(displacement)
    static = {s: jax.jit(lambda p, g, s=s: displacement(s, p, g)) for s in (1, 2, 2.25, 3)}

    @given(VALUES, GRADS)
    def check(params, grads):
        expected = {s: static[s](params, grads) for s in static}
        between = expected[2] + 0.25 * (expected[3] - expected[2])
        np.testing.assert_allclose(expected[2.25], between, rtol=1e-4, atol=2e-6)
        for s, value in expected.items():
            np.testing.assert_allclose(
                traced(np.float32(s), params, grads), value, rtol=1e-5, atol=1e-6
            )

    check()


@ANY_PREDICTOR
def test_drop_in_follows_the_explicit_form(predictor):
    @jax.jit
    def both(s, params, grads):
        explicit = run_explicit(inner(), s, PREDICTORS[predictor](), params, grads)
        drop_in = run_drop_in(inner(), s, PREDICTORS[predictor](), params, grads)
        return explicit[:2], drop_in[:2]

    @given(HORIZONS, VALUES, GRADS)
    def check(s, params, grads):
        (theta, theta_hat), (base, held) = both(np.float32(s), params, grads)
        # θ differs only by how XLA fuses the two programs; θ̂ is reached by adding differences.
        np.testing.assert_allclose(base, theta, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(held, theta_hat, rtol=1e-5, atol=1e-6)

    check()


# --- trees ----------------------------------------------------------------------------------------

LEAF_NAMES = ["a", "b", "c"]


@st.composite
def arrangements(draw):
    """A function that puts three leaves into some nesting, and the one that takes them out."""
    order = draw(st.permutations(range(3)))
    shape = draw(st.sampled_from(["flat", "nested", "list", "with_none", "tuple_in_dict"]))

    def arrange(leaves):
        x, y, z = (leaves[i] for i in order)
        return {
            "flat": {"p": x, "q": y, "r": z},
            "nested": {"p": {"q": x, "r": {"s": y}}, "t": z},
            "list": [x, [y, z]],
            "with_none": {"p": x, "q": None, "r": [y, None, z], "empty": {}},
            "tuple_in_dict": {"p": (x, (y,)), "q": z},
        }[shape]

    def collect(tree):
        leaves = [None] * 3
        for position, leaf in zip(order, jax.tree.leaves(tree), strict=True):
            leaves[position] = leaf
        return leaves

    return arrange, collect


@ANY_PREDICTOR
@given(arrangements(), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=15)
def test_rearranging_the_tree_rearranges_the_result(predictor, arrangement, s):
    arrange, collect = arrangement
    leaves = [np.float32([0.5, -1.0]), np.float32([2.0]), np.float32([[0.1, 0.2, -0.3]])]
    grads = [[np.sin(7 * leaf + k) for leaf in leaves] for k in range(2)]

    def predicted(tree, tree_grads):
        return run_explicit(inner(), s, PREDICTORS[predictor](), tree, tree_grads)[:2]

    expected = predicted(leaves, grads)
    actual = predicted(arrange(leaves), [arrange(g) for g in grads])
    for want, got in zip(expected, actual, strict=True):
        for w, g in zip(want, collect(got), strict=True):
            np.testing.assert_array_equal(g, w)


@ANY_PREDICTOR
@pytest.mark.parametrize("run", [run_explicit, run_drop_in])
@given(st.sampled_from(LEAF_NAMES), st.integers(0, STEPS - 1), st.sampled_from([np.nan, np.inf]))
@settings(max_examples=8)
def test_what_is_not_finite_in_one_leaf_stays_there(run, predictor, sick, step, value):
    params = {name: jnp.ones(2) for name in LEAF_NAMES}
    grads = [{name: jnp.full(2, 0.1 * (k + 1)) for name in LEAF_NAMES} for k in range(STEPS)]
    healthy = run(inner(), 1.5, PREDICTORS[predictor](), params, grads)[:2]
    grads[step] = {**grads[step], sick: jnp.array([value, 1.0])}
    theta, theta_hat, _ = run(inner(), 1.5, PREDICTORS[predictor](), params, grads)
    for tree, expected in zip((theta, theta_hat), healthy, strict=True):
        assert not np.isfinite(tree[sick][0])
        assert np.isfinite(tree[sick][1])
        for name in set(LEAF_NAMES) - {sick}:
            np.testing.assert_array_equal(tree[name], expected[name])


@ANY_PREDICTOR
@pytest.mark.parametrize("s", [0.0, 1.0])
def test_a_prediction_that_is_not_finite_is_masked_at_horizon_zero(predictor, s):
    lookahead_params, tx = with_weight_prediction(
        inner(), jnp.array(s), predictor=PREDICTORS[predictor]()
    )
    params = jnp.ones(2)
    _, state = tx.update(jnp.array([jnp.inf, 1.0]), tx.init(params), params)
    assert bool(jnp.isfinite(lookahead_params(params, state)).all()) == (s == 0)


@ANY_PREDICTOR
def test_nothing_is_predicted_before_the_first_update(predictor):
    lookahead_params, tx = with_weight_prediction(inner(), 3, predictor=PREDICTORS[predictor]())
    params = jnp.array([1.0, -2.0])
    np.testing.assert_array_equal(lookahead_params(params, tx.init(params)), params)


@pytest.mark.parametrize("name", xgrad_optax.optimizers.__all__)
def test_named_optimizers_predict_nothing_before_the_first_update(name):
    lookahead_params, tx = getattr(xgrad_optax, name)(0.1, s=3)
    for dtype in (jnp.float16, jnp.float32):
        params = jnp.array([1.0, -2.0], dtype)
        np.testing.assert_array_equal(lookahead_params(params, tx.init(params)), params)
