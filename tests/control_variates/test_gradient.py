"""The gradient function in use: exact without prediction, adaptive, robust, and good JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from small_network import LOSS, headless_loss, make_data, make_params

from xgrad_optax import adam, with_weight_prediction
from xgrad_optax.control_variates import (
    HeadedLoss,
    HeadedParams,
    cost_variance_ratio,
    from_function,
    low_precision,
    neural_tangent_kernel,
    overall_alignment,
    predicted_value_and_grad,
)

# --- the plain gradient ---------------------------------------------------------------------------

PARAMS, BATCH = make_params(), make_data(16)
PLAIN = {
    "headed": (LOSS, lambda p, batch: LOSS.losses(p, batch).mean()),
    "function": (headless_loss, lambda p, batch: headless_loss(p, batch).mean()),
}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("kind", PLAIN)
def test_fraction_one_is_the_plain_gradient_bit_for_bit(kind):
    loss, mean_loss = PLAIN[kind]
    gradient = predicted_value_and_grad(loss, low_precision(), control_fraction=1)
    state = gradient.init(PARAMS, jax.random.key(0))
    programs = [
        jax.jit(f).lower(*arguments).compile()
        for f, arguments in [
            (gradient, (PARAMS, state, BATCH)),
            (jax.value_and_grad(mean_loss), (PARAMS, BATCH)),
        ]
    ]
    (value, after), grads = programs[0](PARAMS, state, BATCH)
    expected = programs[1](PARAMS, BATCH)
    assert bits((value, grads)) == bits(expected)
    assert int(after.age) == int(state.age) + 1
    flops = [program.cost_analysis()["flops"] for program in programs]
    assert flops[0] == pytest.approx(flops[1], abs=2), "but for the count of steps"


def test_auto_is_plain_before_the_first_fit_and_one_call_of_plain_work():
    gradient = predicted_value_and_grad(
        LOSS, low_precision(), control_fraction="auto", cost_ratio=0.3
    )
    state = gradient.init(PARAMS, jax.random.key(0))
    assert float(gradient.control_fraction(state)) == 1
    assert bool(gradient.is_due(state))
    (value, after), grads = jax.jit(gradient)(PARAMS, state, BATCH)
    expected = jax.jit(jax.value_and_grad(PLAIN["headed"][1]))(PARAMS, BATCH)
    assert bits((value, grads)) == bits(expected)
    assert bits(jax.random.key_data(after.key)) == bits(jax.random.key_data(state.key))


# --- a problem whose ρ is a knob ------------------------------------------------------------------


def linear_loss(w, batch):
    """Linear regression; the batch says how wrong the prediction is going to be."""
    x, y, _ = batch
    return 0.5 * (x @ w - y) ** 2


def noisy_gradient(w, batch, weights):
    """The true gradient plus noise, which is NaN where the batch says so."""
    x, y, noise = batch
    return weights @ ((x @ w - y)[:, None] * x + noise)


W = jnp.array([1.0, -1.0, 0.5])


def noisy_batch(noise, count=64, seed=0):
    rng = np.random.default_rng(seed)
    x, y, e = rng.normal(size=(count, 3)), rng.normal(size=count), rng.normal(size=(count, 3))
    return tuple(np.float32(v) for v in (x, y, noise * e))


@functools.cache
def adaptive(**options):
    """A gradient function that chooses f, and its jitted fit."""
    options = {"coefficient": "overall", "refit_interval": 4, "cost_ratio": 0.3, **options}
    gradient = predicted_value_and_grad(
        linear_loss, from_function(noisy_gradient), control_fraction="auto", **options
    )
    return gradient, jax.jit(gradient.fit)


def score(rows):
    return jnp.sqrt(rows.losses)


@pytest.mark.parametrize("importance", [None, score])
@pytest.mark.parametrize("noise", [0.0, 0.3, 0.7, 1.0, 10.0])
def test_auto_takes_the_fraction_that_the_theory_says(noise, importance):
    gradient, fit = adaptive(importance=importance)
    state = fit(W, gradient.init(W, jax.random.key(0)), noisy_batch(noise))
    measured = overall_alignment(state.alignment)
    ratios = cost_variance_ratio(
        np.array(gradient.fractions),
        measured.rho,
        0.3,
        sampling_ratio=state.sampling_ratio,
        chosen_after_forward=importance is not None,
    )
    assert float(gradient.control_fraction(state)) == gradient.fractions[np.argmin(ratios)]
    if noise == 0:
        np.testing.assert_allclose(measured.rho, 1, rtol=1e-5)
        assert float(gradient.control_fraction(state)) == 1 / 8
    if noise == 10:
        assert float(gradient.control_fraction(state)) == 1
    if noise > 0:
        assert (float(state.sampling_ratio) == 1) == (importance is None)


def test_measured_alignment_is_that_of_the_held_out_examples():
    gradient, fit = adaptive()
    x, y, noise = batch = noisy_batch(0.7)
    measured = overall_alignment(fit(W, gradient.init(W, jax.random.key(0)), batch).alignment)
    g = np.float64((x @ np.asarray(W) - y)[:, None] * x)
    h = g + noise
    g, h = g - g.mean(0), h - h.mean(0)
    rho = np.sum(g * h) / np.sqrt(np.sum(g**2) * np.sum(h**2))
    np.testing.assert_allclose(measured.rho, rho, rtol=1e-4)
    np.testing.assert_allclose(measured.sigma_g, np.sqrt(np.sum(g**2) / 63), rtol=1e-4)


def test_below_break_even_fits_become_rarer_and_above_it_frequent_again():
    gradient, fit = adaptive()
    state, intervals = gradient.init(W, jax.random.key(0)), []
    for _ in range(6):
        state = fit(W, state, noisy_batch(10.0))
        intervals.append(int(state.interval))
    assert intervals == [8, 16, 32, 64, 64, 64], "doubled, up to 16-fold"
    while float(gradient.control_fraction(state)) == 1:
        state = fit(W, state, noisy_batch(0.0))
    assert int(state.interval) == 4


def test_a_fit_is_due_after_the_interval():
    gradient, fit = adaptive()
    step = jax.jit(gradient)
    state = fit(W, gradient.init(W, jax.random.key(0)), noisy_batch(0.0))
    due = []
    for _ in range(5):
        due.append(bool(gradient.is_due(state)))
        (_, state), _ = step(W, state, noisy_batch(0.0, 16))
    assert due == [False] * 4 + [True]


# --- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_leaves_the_control_gradient(value):
    options = {"coefficient": 0.75, "control_fraction": 0.25}
    gradient = predicted_value_and_grad(linear_loss, from_function(noisy_gradient), **options)
    step, state = jax.jit(gradient), gradient.init(W, jax.random.key(0))
    batch = noisy_batch(1.0, 16)
    batch[2][5, 1] = value
    (loss, after), grads = step(W, state, batch)
    assert int(after.rejected) == 1
    assert np.isfinite(loss)
    alone = predicted_value_and_grad(
        linear_loss, from_function(lambda w, batch, weights: jnp.zeros_like(w)), **options
    )
    (_, expected_state), expected = jax.jit(alone)(W, state, batch)
    np.testing.assert_array_equal(grads, expected)
    assert int(expected_state.rejected) == 0
    (_, after), _ = step(W, after, noisy_batch(1.0, 16))
    assert int(after.rejected) == 1, "the next one is fine"


def test_a_fit_that_is_not_finite_is_not_used():
    gradient, fit = adaptive()
    good = fit(W, gradient.init(W, jax.random.key(0)), noisy_batch(0.3))
    sick = noisy_batch(0.3)
    sick[2][5] = np.nan
    after = fit(W, good, sick)
    assert int(after.rejected) == 1
    assert bits(after.alignment) == bits(good.alignment)
    assert float(gradient.control_fraction(good)) < 1
    assert float(gradient.control_fraction(after)) == 1


def test_sick_examples_do_not_reach_a_fitted_predictor():
    gradient, fit = kernel_gradient()
    good = fit(PARAMS, gradient.init(PARAMS, jax.random.key(0)), make_data(48))
    x, y = make_data(48, seed=3)
    x[3, 0] = np.nan
    after = fit(PARAMS, good, (x, y))
    assert bits(after.predictor) == bits(good.predictor)
    assert int(after.rejected) == 1
    assert float(overall_alignment(good.alignment).rho) > 0.3
    assert int(good.age) == int(after.age) == 0


def test_the_old_state_is_measured_too():
    """Between two fits a step meets a predictor that has aged: the running ρ is of both."""
    gradient, fit = kernel_gradient()
    first = fit(PARAMS, gradient.init(PARAMS, jax.random.key(0)), make_data(48))
    second = fit(PARAMS, first, make_data(48, seed=3))
    assert float(first.alignment.weight) == 0.5
    assert float(second.alignment.weight) == 1 - 0.5**3


@functools.cache
def kernel_gradient():
    gradient = predicted_value_and_grad(LOSS, neural_tangent_kernel(32, 8))
    return gradient, jax.jit(gradient.fit)


# --- JAX ------------------------------------------------------------------------------------------

GRADIENTS = {
    "kernel": lambda: predicted_value_and_grad(
        LOSS, neural_tangent_kernel(8, 4), importance="residual", coefficient="leaf"
    ),
    "auto": lambda: predicted_value_and_grad(
        LOSS, low_precision(), control_fraction="auto", cost_ratio=0.4, coefficient="overall"
    ),
    "function": lambda: predicted_value_and_grad(
        headless_loss, low_precision(), control_fraction="auto", cost_ratio=0.4, importance="loss"
    ),
}
DTYPES = {
    "float32": (jnp.float32, False),
    "bfloat16": (jnp.bfloat16, False),
    "float64": (jnp.float64, True),
    "float32 under x64": (jnp.float32, True),
}


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", GRADIENTS)
def test_state_never_changes_its_type(kind, dtype):
    dtype, x64 = DTYPES[dtype]
    with jax.enable_x64(x64):
        gradient, params = GRADIENTS[kind](), make_params(dtype)
        x, y = make_data(16)
        batch = (jnp.asarray(x, dtype), jnp.asarray(y))
        state = jax.eval_shape(gradient.init, params, jax.random.key(0))
        (loss, after), grads = jax.eval_shape(gradient, params, state, batch)
        assert types(after) == types(state)
        assert types(grads) == types(params)
        assert (loss.shape, loss.dtype) == ((), dtype)
        assert types(jax.eval_shape(gradient.fit, params, state, batch)) == types(state)
        assert all(
            state.alignment.weight.dtype == x.dtype for x in jax.tree.leaves(state.alignment)
        )


def test_nothing_is_compiled_twice_whatever_the_fraction():
    gradient, fit = adaptive()
    step = jax.jit(gradient.__call__)
    state, fractions = gradient.init(W, jax.random.key(0)), set()
    for noise in (0.0, 0.3, 10.0):
        state = fit(W, state, noisy_batch(noise))
        for _ in range(2):
            (_, state), _ = step(W, state, noisy_batch(noise, 16))
            fractions.add(float(gradient.control_fraction(state)))
    assert len(fractions) > 1
    assert step._cache_size() == 1
    assert fit._cache_size() == 1


def test_state_is_a_scan_carry_and_each_step_draws_anew():
    gradient = predicted_value_and_grad(linear_loss, from_function(noisy_gradient))
    batch = noisy_batch(0.5, 8)

    @jax.jit
    def run(state):
        def step(state, _):
            (loss, state), grads = gradient(W, state, batch)
            return state, (loss, grads)

        return jax.lax.scan(step, state, None, 20)

    state, (_, grads) = run(gradient.init(W, jax.random.key(0)))
    assert int(state.age) == 100 + 20
    assert len(np.unique(np.asarray(grads), axis=0)) > 7  # of the 16 that there are


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return jnp.asarray(data.data / 16, jnp.float32), jnp.asarray(data.target, jnp.int32)


def mlp(trunk, x):
    return jnp.tanh(x @ trunk["kernel"] + trunk["bias"][None])


def mlp_params():
    k = jax.random.split(jax.random.key(0))
    return HeadedParams(
        {"kernel": jax.random.normal(k[0], (64, 32)) / 8, "bias": jnp.zeros(32)},
        {"kernel": jax.random.normal(k[1], (32, 10)) / 8, "bias": jnp.zeros(10)},
    )


OPTIMIZERS = {
    "plain Optax": lambda: (lambda params, opt_state: params, optax.adam(3e-3)),
    "closed form": lambda: adam(3e-3, s=1),
    "last update": lambda: with_weight_prediction(optax.adam(3e-3), s=2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_digits_are_learnt_with_an_eighth_of_the_backward_passes(digits, optimizer):
    """Fits inside ``lax.cond``, everything donated, with and without weight prediction."""
    loss = HeadedLoss(mlp, optax.softmax_cross_entropy_with_integer_labels)
    gradient = predicted_value_and_grad(
        loss,
        low_precision() if optimizer == "last update" else neural_tangent_kernel(64, 16),
        control_fraction=1 / 8,
        importance="output_gradient" if optimizer == "closed form" else None,
        coefficient="overall",
        refit_interval=50,
    )
    lookahead_params, tx = OPTIMIZERS[optimizer]()

    def rows(key, count):
        index = jax.random.randint(key, (count,), 0, len(digits[1]))
        return jax.tree.map(lambda x: x[index], digits)

    def step(carry, key):
        params, opt_state, state = carry
        fit_key, key = jax.random.split(key)
        point = lookahead_params(params, opt_state)
        state = jax.lax.cond(
            gradient.is_due(state),
            lambda state: gradient.fit(point, state, rows(fit_key, 96)),
            lambda state: state,
            state,
        )
        (value, state), grads = gradient(point, state, rows(key, 32))
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), value

    @functools.partial(jax.jit, donate_argnums=0)
    def train(carry, keys):
        return jax.lax.scan(step, carry, keys)

    params = mlp_params()
    carry = (params, tx.init(params), gradient.init(params, jax.random.key(1)))
    keys = jax.random.split(jax.random.key(2), 600).reshape(2, 300)
    carry, _ = train(carry, keys[0])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    (params, _, state), values = train(carry, keys[1])  # of the same types, so compiled once
    assert train._cache_size() == 1
    assert int(state.rejected) == 0
    assert 0.2 < float(overall_alignment(state.alignment).rho) <= 1
    final = loss.losses(params, digits).mean()
    assert final < 0.2, float(final)
    np.testing.assert_allclose(np.mean(values[-50:]), final, atol=0.1)
