"""The Neural-Tangent-Kernel predictor against NumPy, its cost, and its memory."""

import re
from functools import partial

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
from xgrad_optax.control_variates.losses import WholeLoss
from xgrad_optax.control_variates.ntk import RIDGES, leave_one_out_ridge

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


def fitted(predictor, params, batch, key=0):
    """The state after a fit, and a jitted ``(batch, weights) -> prediction``."""
    state = predictor.init(LOSS, params)
    fit = jax.jit(partial(predictor.fit, LOSS))
    state = fit(state, params, batch, jax.random.key(key))

    @jax.jit
    def predict(batch, weights):
        rows = LOSS.forward(params, batch)
        return predictor.predict(LOSS, state, params, batch, rows, weights)

    return state, predict


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
    # So many random signs that the sketch of 42 numbers is the gradient up to signs: exact.
    predictor = neural_tangent_kernel(12, rank, kernel=kernel, chunk_size=5)
    state, predict = fitted(predictor, make_params(jnp.float64), (x, y))
    fit, (a, δ), numpy_predict = numpy_fit(kernel, x, y, rank)

    np.testing.assert_allclose(state.output_gradients, δ, rtol=1e-10)
    np.testing.assert_allclose(state.features, np.c_[a, np.ones(12)], rtol=1e-10)
    np.testing.assert_allclose(state.ridge, fit.ridge, rtol=1e-10)
    basis = flat(state.basis).T
    signs = np.sign(np.sum(basis * fit.U, axis=0))  # eigenvectors have no sign of their own
    np.testing.assert_allclose(basis * signs, fit.U, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        np.asarray(state.coefficients) * signs[:, None], fit.coefficients, rtol=1e-6, atol=1e-9
    )

    unseen, weights = make_data(7, seed=1, dtype=np.float64), np.linspace(-1, 1, 7)
    expected = numpy_predict(*unseen) @ weights
    actual = flat(predict(unseen, jnp.asarray(weights)), lead=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_single_precision_is_near_the_reference(kernel):
    x, y = make_data(24)
    _, predict = fitted(neural_tangent_kernel(24, 8, kernel=kernel), make_params(), (x, y))
    _, _, numpy_predict = numpy_fit(kernel, x, y, 8)
    unseen = make_data(7, seed=1)
    weights = np.full(7, 1 / 7, np.float32)
    expected = numpy_predict(*unseen) @ weights
    np.testing.assert_allclose(
        flat(predict(unseen, weights), lead=0), expected, atol=1e-3 * np.abs(expected).max()
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0, 100.0])
def test_leave_one_out_is_that_of_refits(noise):
    """The shortcut is exact for all eigenvectors: it picks the ridge that refits pick."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(15, 6))
    targets = x @ rng.normal(size=(6, 4)) + noise * rng.normal(size=(15, 4))
    values, vectors = np.linalg.eigh(x @ x.T + 0.1 * np.eye(15))
    K = vectors * values @ vectors.T
    errors = [paper.leave_one_out_error(K, targets, ridge * values[-1]) for ridge in RIDGES]
    chosen = leave_one_out_ridge(*(jnp.asarray(v) for v in (values, vectors, targets)))
    np.testing.assert_allclose(chosen, RIDGES[int(np.argmin(errors))])


def test_noise_asks_for_more_ridge():
    rng = np.random.default_rng(7)
    values, vectors = np.linalg.eigh(np.cov(rng.normal(size=(30, 12)), rowvar=False))
    signal = vectors[:, -2:] @ rng.normal(size=(2, 50))
    ridges = [
        leave_one_out_ridge(
            *(jnp.asarray(v, jnp.float32) for v in (values, vectors, signal + noise))
        )
        for noise in (0.0, 3 * rng.normal(size=(12, 50)))
    ]
    assert ridges[0] < ridges[1]


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_prediction_is_linear_in_the_weights(kernel):
    _, predict = fitted(neural_tangent_kernel(32, 8, kernel=kernel), make_params(), make_data(32))
    batch = make_data(6, seed=1)
    v, w = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    expected = 2 * flat(predict(batch, v), 0) - 3 * flat(predict(batch, w), 0)
    actual = flat(predict(batch, 2 * v - 3 * w), 0)
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", KERNELS)
def test_enough_examples_of_a_linear_trunk_are_enough(kernel):
    """A trunk that is one linear layer has gradients x ⊗ δ; on a repeated example it is certain."""
    batch = make_data(16)
    repeated = jax.tree.map(lambda x: np.concatenate([x, x]), batch)
    _, predict = fitted(neural_tangent_kernel(32, 32, kernel=kernel), make_params(), repeated)
    trunk = make_trunk()
    _, _, δ = trunk.forward(*batch)
    expected = flat(trunk.gradients(batch[0], δ))
    for i in (0, 7):
        prediction = flat(predict(batch, np.eye(16, dtype=np.float32)[i]), 0)
        assert np.corrcoef(prediction, expected[i])[0, 1] > 0.98


def test_zero_before_the_first_fit():
    predictor, params, batch = neural_tangent_kernel(8, 4), make_params(), make_data(6)
    prediction = predictor.predict(
        LOSS, predictor.init(LOSS, params), params, batch, LOSS.forward(params, batch), jnp.ones(6)
    )
    assert jax.tree.structure(prediction) == jax.tree.structure(params.trunk)
    assert not np.any(flat(prediction, 0))


def test_chunk_size_does_not_matter():
    batch = make_data(21)
    states = [
        fitted(neural_tangent_kernel(21, 5, chunk_size=size), make_params(), batch)[0]
        for size in (1, 8, 50)
    ]
    for other in states[1:]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), states[0], other)


def test_low_precision_basis():
    batch, unseen = make_data(32), make_data(6, seed=1)
    weights = np.full(6, 1 / 6, np.float32)
    _, predict = fitted(neural_tangent_kernel(32, 8), make_params(), batch)
    state, predict_low = fitted(
        neural_tangent_kernel(32, 8, basis_dtype="bfloat16"), make_params(), batch
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.basis)} == {"bfloat16"}
    low = predict_low(unseen, weights)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(low)} == {"float32"}
    expected = flat(predict(unseen, weights), 0)
    np.testing.assert_allclose(flat(low, 0), expected, atol=0.02 * np.abs(expected).max())


def test_low_precision_parameters():
    x, y = make_data(32)
    batch = (jnp.asarray(x, jnp.bfloat16), y)
    state, predict = fitted(neural_tangent_kernel(32, 8), make_params(jnp.bfloat16), batch)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.basis)} == {"bfloat16"}
    assert state.coefficients.dtype == jnp.float32
    prediction = predict(batch, np.full(32, 1 / 32, np.float32))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(prediction)} == {"bfloat16"}
    assert np.any(flat(prediction, 0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_to_learn_predicts_zero(kernel):
    """A head of zeros has δ = 0, so that the trunk has no gradient: no NaN, but zero."""
    params = make_params()
    params = params._replace(head=jax.tree.map(jnp.zeros_like, params.head))
    state, predict = fitted(neural_tangent_kernel(8, 4, kernel=kernel), params, make_data(8))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    assert not np.any(flat(predict(make_data(3), np.ones(3, np.float32)), 0))


def test_fit_keeps_the_types_of_the_state():
    predictor, params = neural_tangent_kernel(8, 4), make_params()
    state = jax.eval_shape(partial(predictor.init, LOSS), params)
    after = jax.eval_shape(
        partial(predictor.fit, LOSS), state, params, make_data(8), jax.random.key(0)
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )


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


def fit_memory(n, chunk_size=4, rank=4):
    loss, params = wide_network()
    predictor = neural_tangent_kernel(n, rank, chunk_size=chunk_size)
    batch = (jnp.ones((n, WIDE)), jnp.ones((n, 2)))
    state = jax.eval_shape(partial(predictor.init, loss), params)
    program = (
        jax.jit(partial(predictor.fit, loss))
        .lower(state, params, batch, jax.random.key(0))
        .compile()
    )
    return program.memory_analysis().temp_size_in_bytes


def test_fit_holds_a_chunk_of_gradients_at_a_time():
    gradient_bytes = 4 * 2 * WIDE**2
    small, large = fit_memory(32), fit_memory(128)
    # Some numbers for each example and pair of examples, but no gradient for each.
    assert large - small < 0.2 * 96 * gradient_bytes
    assert fit_memory(128, chunk_size=128) - large > 0.9 * 124 * gradient_bytes


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
