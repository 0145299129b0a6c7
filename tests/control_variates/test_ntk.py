"""The Neural-Tangent-Kernel predictor against NumPy, its cost, and its memory."""

import functools
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_network import LOSS, headless_loss, make_data, make_params, make_trunk

from tests.reference import gradient_prediction as paper
from xgrad_optax.control_variates import (
    HeadedLoss,
    HeadedParams,
    neural_tangent_kernel,
    predicted_value_and_grad,
)
from xgrad_optax.control_variates._kernels import RIDGES, leave_one_out_ridge
from xgrad_optax.control_variates.losses import WholeLoss

KERNELS = ["linear", "gaussian", "laplace"]
NAMES = ["W1", "b1", "W2", "b2"]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def flat(tree, lead=1):
    """Leaves in the order of the paper's names, flattened and joined after the leading axes."""
    parts = [np.asarray(tree[name], float) for name in NAMES]
    return np.concatenate([x.reshape(*x.shape[:lead], -1) for x in parts], axis=-1)


class Fitted(NamedTuple):
    """Compiled functions of a predictor, and its state after a fit."""

    fit: Callable[..., Any]
    predict: Callable[..., Any]
    state: Any

    def __call__(self, batch, weights):
        """The prediction, flattened."""
        return flat(self.predict(self.state, make_params(weights.dtype), batch, weights), lead=0)


def fitted(predictor, batch, params=None):
    params = make_params() if params is None else params

    @jax.jit
    def fit(params, batch):
        state = predictor.init(LOSS, params)
        return predictor.fit(LOSS, state, params, batch, jax.random.key(0))

    @jax.jit
    def predict(state, params, batch, weights):
        rows = LOSS.forward(params, batch)
        return predictor.predict(LOSS, state, params, batch, rows, weights)

    return Fitted(fit, predict, fit(params, batch))


N, RANK = 32, 8


@functools.cache
def shared(kernel):
    return fitted(neural_tangent_kernel(N, RANK, kernel=kernel), make_data(N))


def numpy_fit(name, x, y, rank):
    """The paper's fit, and its predictions for any examples `[P, m]`."""
    trunk = make_trunk()
    a, _, δ = trunk.forward(x, y)
    G = flat(trunk.gradients(x, δ))
    fit = paper.fit(paper.kernel(name, (δ, a), (δ, a)), G, rank, RIDGES)

    def predict(x, y):
        b, _, ε = trunk.forward(x, y)
        return fit.predict(paper.kernel(name, (δ, a), (ε, b)))

    return fit, (a, δ), predict


# --- against the reference ------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kernel", "rank"), [("linear", 6), ("gaussian", 12), ("laplace", 5)])
def test_state_and_prediction_against_numpy(kernel, rank):
    x, y = make_data(12, dtype=np.float64)
    predictor = neural_tangent_kernel(12, rank, kernel=kernel, chunk_size=5)
    mine = fitted(predictor, (x, y), make_params(jnp.float64))
    fit, (a, δ), numpy_predict = numpy_fit(kernel, x, y, rank)

    state = mine.state
    np.testing.assert_allclose(state.output_gradients, δ, rtol=1e-10)
    np.testing.assert_allclose(state.features, np.c_[a, np.ones(12)], rtol=1e-10)
    # The sketch of a gradient of fewer numbers than the sketch has is exact: the ridge agrees.
    np.testing.assert_allclose(state.ridge, fit.ridge, rtol=1e-10)
    # Of equal directions the Laplace kernel takes the root of the rounding error, 1e-8.
    near = {"rtol": 1e-6, "atol": 1e-7 if kernel == "laplace" else 1e-9}
    basis = flat(state.basis).T
    signs = np.sign(np.sum(basis * fit.U, axis=0))  # eigenvectors have no sign of their own
    np.testing.assert_allclose(basis * signs, fit.U, **near)
    np.testing.assert_allclose(
        np.asarray(state.coefficients) * signs[:, None], fit.coefficients, **near
    )

    unseen, weights = make_data(7, seed=1, dtype=np.float64), np.linspace(-1, 1, 7)
    expected = numpy_predict(*unseen) @ weights
    np.testing.assert_allclose(mine(unseen, weights), expected, **near)


UNSEEN, WEIGHTS = make_data(6, seed=1), np.linspace(-0.2, 0.4, 6, dtype=np.float32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_single_precision_is_near_the_reference(kernel):
    _, _, numpy_predict = numpy_fit(kernel, *make_data(N), RANK)
    expected = numpy_predict(*UNSEEN) @ WEIGHTS
    np.testing.assert_allclose(
        shared(kernel)(UNSEEN, WEIGHTS), expected, atol=1e-3 * np.abs(expected).max()
    )


@pytest.mark.usefixtures("x64")
def test_leave_one_out_is_that_of_refits():
    """The shortcut is exact for all eigenvectors: it picks the ridge that refits pick."""
    choose, chosen = jax.jit(leave_one_out_ridge), []
    for noise in (0.01, 0.3, 3.0, 100.0):
        rng = np.random.default_rng(7)
        x = rng.normal(size=(15, 6))
        targets = x @ rng.normal(size=(6, 4)) + noise * rng.normal(size=(15, 4))
        values, vectors = np.linalg.eigh(x @ x.T + 0.1 * np.eye(15))
        K = vectors * values @ vectors.T
        errors = [paper.leave_one_out_error(K, targets, ridge * values[-1]) for ridge in RIDGES]
        chosen.append(float(choose(values, vectors, targets)))
        np.testing.assert_allclose(chosen[-1], RIDGES[int(np.argmin(errors))])
    assert chosen == sorted(chosen), "the more noise the more ridge"
    assert chosen[0] < chosen[-1]


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_prediction_is_linear_in_the_weights(kernel):
    v, w = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    expected = 2 * shared(kernel)(UNSEEN, v) - 3 * shared(kernel)(UNSEEN, w)
    actual = shared(kernel)(UNSEEN, 2 * v - 3 * w)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_zero_before_the_first_fit():
    state = neural_tangent_kernel(N, RANK).init(LOSS, make_params())
    prediction = shared("linear").predict(state, make_params(), UNSEEN, WEIGHTS)
    assert jax.tree.structure(prediction) == jax.tree.structure(make_params().trunk)
    assert not np.any(flat(prediction, 0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_to_learn_predicts_zero(kernel):
    """A head of zeros has δ = 0, so that the trunk has no gradient: no NaN, but zero."""
    params = make_params()
    params = params._replace(head=jax.tree.map(jnp.zeros_like, params.head))
    state = shared(kernel).fit(params, make_data(N))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert not np.any(flat(shared(kernel).predict(state, params, UNSEEN, WEIGHTS), 0))
    # Nor does it spoil what others are predicted from it.
    assert not np.any(flat(shared(kernel).predict(state, make_params(), UNSEEN, WEIGHTS), 0))


def test_chunk_size_does_not_matter():
    other = fitted(neural_tangent_kernel(N, RANK, chunk_size=7), make_data(N)).state
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), other, shared("linear").state
    )


def test_low_precision_basis():
    low = fitted(neural_tangent_kernel(N, RANK, basis_dtype="bfloat16"), make_data(N))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(low.state.basis)} == {"bfloat16"}
    prediction = low.predict(low.state, make_params(), UNSEEN, WEIGHTS)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(prediction)} == {"float32"}
    expected = shared("linear")(UNSEEN, WEIGHTS)
    np.testing.assert_allclose(flat(prediction, 0), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_types_follow_the_parameters(dtype):
    predictor, params = neural_tangent_kernel(8, 4), make_params(dtype)
    x, y = make_data(8)
    batch = (jnp.asarray(x, dtype), y)

    def everything(params):
        state = predictor.init(LOSS, params)
        after = predictor.fit(LOSS, state, params, batch, jax.random.key(0))
        rows = LOSS.forward(params, batch)
        return state, after, predictor.predict(LOSS, state, params, batch, rows, jnp.ones(8))

    state, after, prediction = jax.eval_shape(everything, params)
    types = partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert types(after) == types(state)
    assert types(prediction) == types(params.trunk)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.basis)} == {jnp.dtype(dtype)}
    assert state.coefficients.dtype == jnp.float32


# --- cost -----------------------------------------------------------------------------------------

WIDE = 64


def wide_network(layers=2):
    """Most of the work is in its trunk: ``layers`` of 64 x 64."""
    trunk = [jnp.ones((WIDE, WIDE)) / WIDE] * layers

    def features(trunk, x):
        for w in trunk:
            x = jnp.tanh(x @ w)
        return x

    loss = HeadedLoss(features, lambda logits, y: jnp.sum((logits - y) ** 2, axis=1))
    params = HeadedParams(trunk, {"kernel": jnp.ones((WIDE, 2))})
    return loss, params


def predict_program(loss, params, n, rank, batch_size):
    predictor = neural_tangent_kernel(n, rank)
    batch = (jnp.ones((batch_size, WIDE)), jnp.ones((batch_size, 2)))
    state, rows = jax.eval_shape(
        lambda p: (predictor.init(loss, p), loss.forward(p, batch)), params
    )
    function = partial(predictor.predict, loss)
    return jax.jit(function).lower(state, params, batch, rows, jnp.ones(batch_size)).compile()


def test_prediction_is_a_small_matmul_and_a_product():
    """No backward pass: its flops are bounded by those of three small products and the basis."""
    n, k, size = 128, 16, 256
    loss, params = wide_network()
    flops = predict_program(loss, params, n, k, size).cost_analysis()["flops"]
    d, parameters = WIDE, 2 * WIDE**2
    products = 2 * size * d * (d + 1) + 2 * n * d * (d + 1) + 2 * k * n + 2 * k * parameters
    elementwise = size * d + 3 * n * (d + 1) + 2 * parameters
    assert flops <= products + elementwise
    assert flops >= 0.9 * products
    backward = 2 * size * parameters  # of one of its two products
    deeper = predict_program(*wide_network(layers=8), n, k, size).cost_analysis()["flops"]
    assert deeper - flops < 0.2 * (6 * WIDE**2 * 2 * size), "no work per example in the trunk"
    assert flops - 2 * size * d * (d + 1) < backward


def fit_memory(n):
    loss, params = wide_network()
    predictor = neural_tangent_kernel(n, rank=4, chunk_size=4)
    batch = (jnp.ones((n, WIDE)), jnp.ones((n, 2)))
    state = jax.eval_shape(partial(predictor.init, loss), params)
    fit = jax.jit(partial(predictor.fit, loss))
    program = fit.lower(state, params, batch, jax.random.key(0)).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_fit_holds_a_chunk_of_gradients_at_a_time():
    gradient_bytes = 4 * 2 * WIDE**2
    small, large = fit_memory(32), fit_memory(128)
    # Some numbers for each example and pair of examples, but no gradient for each.
    assert large - small < 0.2 * 96 * gradient_bytes
    assert large < 0.3 * 128 * gradient_bytes


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fit_examples": 0}, "fit_examples must be a positive whole number, got 0"),
        ({"fit_examples": 16.0}, "fit_examples must be a positive whole number, got 16.0"),
        ({"rank": -1}, "rank must be a positive whole number, got -1"),
        ({"rank": True}, "rank must be a positive whole number, got True"),
        ({"chunk_size": 0}, "chunk_size must be a positive whole number, got 0"),
        ({"fit_examples": 16, "rank": 17}, "rank 17 exceeds the 16 examples of the fit"),
        ({"kernel": "rbf"}, "kernel must be one of linear, gaussian, laplace, got 'rbf'"),
        ({"basis_dtype": jnp.int8}, "basis_dtype must be a floating-point dtype, got"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        neural_tangent_kernel(**arguments)


def test_a_plain_function_has_no_features():
    predictor = neural_tangent_kernel(8, 4)
    with pytest.raises(ValueError, match="give predicted_value_and_grad a HeadedLoss"):
        predicted_value_and_grad(headless_loss, predictor)
    with pytest.raises(ValueError, match="predicts from the output of a trunk"):
        predictor.init(WholeLoss(headless_loss), make_params())
