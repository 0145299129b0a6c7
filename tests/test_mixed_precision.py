"""Low-precision weights over a float32 master copy: ``xgrad(..., base_dtype=jnp.float32)``."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xgrad_optax import base_params, predictors, xgrad

STEPS = 2000
RATE = 1e-4  # moves a weight near 1 by less than half of the distance to its neighbour
LOW = {"bfloat16": jnp.bfloat16, "float16": jnp.float16}
EACH_DTYPE = pytest.mark.parametrize("dtype", LOW.values(), ids=LOW)

OPTIMIZERS = {
    "sgd": lambda: optax.sgd(RATE),
    "sgdm": lambda: optax.sgd(RATE / 10, momentum=0.9),
    "adamw": lambda: optax.adamw(RATE),
}
PREDICTORS = {
    "sgd": {"last_update": predictors.last_update},
    "sgdm": {
        "zero_gradient": predictors.zero_gradient,
        "closed_form": lambda: predictors.sgdm(RATE / 10),
    },
    "adamw": {
        "last_update": predictors.last_update,
        "closed_form": lambda: predictors.adam(RATE),
    },
}
CASES = [(optimizer, kind) for optimizer, kinds in PREDICTORS.items() for kind in kinds]
EACH_CASE = pytest.mark.parametrize(
    ("optimizer", "kind"), CASES, ids=[f"{optimizer}-{kind}" for optimizer, kind in CASES]
)


def start(dtype):
    return {"w": jnp.array([1.0, -2.0, 0.75], dtype), "b": jnp.array(3.0, dtype)}


def gradient(params):
    """Of a quadratic whose minimum is 1 away from the start."""
    return jax.tree.map(lambda p, p0: p - p0 + 1, params, start(jax.tree.leaves(params)[0].dtype))


def train(tx, params):
    """Parameters and state after ``STEPS`` steps of a stock training loop."""

    def step(carry, _):
        params, state = carry
        with jax.numpy_dtype_promotion("standard"):  # plain Optax needs it
            updates, state = tx.update(gradient(params), state, params)
            return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        with jax.numpy_dtype_promotion("standard"):
            state = tx.init(params)
        return jax.lax.scan(step, (params, state), None, STEPS)[0]

    return run(params)


def assert_same(actual, expected, atol=0.0):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(
            np.float32(a), np.float32(e), rtol=0, atol=atol, strict=True
        ),
        actual,
        expected,
    )


@EACH_DTYPE
@EACH_CASE
def test_master_copy_keeps_2000_updates_that_are_lost_without_it(dtype, optimizer, kind):
    inner, predictor = OPTIMIZERS[optimizer](), PREDICTORS[optimizer][kind]()

    stalled, _ = train(inner, start(dtype))
    assert_same(stalled, start(dtype))
    stalled, state = train(xgrad(inner, predictor=predictor), start(dtype))
    assert_same(stalled, start(dtype))
    assert_same(base_params(stalled, state), start(dtype))

    with_copy = xgrad(inner, predictor=predictor, base_dtype=jnp.float32)
    params, state = train(with_copy, start(dtype))
    expected, expected_state = train(xgrad(inner, predictor=predictor), start(jnp.float32))
    travelled = jax.tree.map(lambda e, s: e - s, expected, start(jnp.float32))
    assert all(np.all(np.abs(d) > 0.1) for d in jax.tree.leaves(travelled))
    # What is left is the rounding of the points at which gradients were taken: 1 % of the way.
    assert_same(base_params(params, state), base_params(expected, expected_state), atol=0.01 * 0.2)


@EACH_DTYPE
def test_master_copy_and_moments_are_float32_and_stay_so(dtype):
    tx = xgrad(optax.adamw(RATE), base_dtype=jnp.float32)
    params = start(dtype) | {"scale": jnp.ones(2, jnp.float32)}
    state = jax.eval_shape(tx.init, params)
    updates, next_state = jax.eval_shape(tx.update, params, state, params)
    assert next_state == state
    assert dtypes(updates) == dtypes(params) == {"w": dtype, "b": dtype, "scale": jnp.float32}

    in_float32 = dict.fromkeys(params, jnp.float32)
    moments = state.inner_state[0]
    assert dtypes(state.displacement) == dtypes(moments.mu) == dtypes(moments.nu) == in_float32
    assert dtypes(jax.eval_shape(base_params, params, state)) == in_float32


@EACH_DTYPE
def test_low_precision_moments_go_on_in_float32(dtype):
    params = start(dtype)
    plain_state = jax.eval_shape(optax.adamw(RATE).init, params)
    assert dtypes(plain_state[0].mu) == dtypes(params)

    tx = xgrad(optax.adamw(RATE), base_dtype=jnp.float32)
    state = jax.eval_shape(tx.init, params)
    inner_state = jax.eval_shape(optax.tree.cast_like, plain_state, state.inner_state)
    assert inner_state == state.inner_state


def dtypes(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


EACH_HORIZON = pytest.mark.parametrize("s", [0, 1, 2.5])


@EACH_DTYPE
@EACH_HORIZON
def test_params_are_the_rounded_prediction(dtype, s):
    before, after, predicted = random_walk(dtype, s)
    moved_little = np.abs(predicted - before) < 0.3 * np.abs(before)
    assert moved_little.mean() > 0.5
    error = np.abs(after - predicted) / ulp(predicted, dtype)
    assert error[moved_little].max() < 0.75  # 0.5 would be correct rounding


@EACH_DTYPE
@EACH_HORIZON
def test_params_never_drift_from_the_prediction(dtype, s):
    before, after, predicted = random_walk(dtype, s)
    # A weight that jumps, over zero say, arrives as exactly as an update can say in its dtype.
    largest = np.max(np.abs([before, predicted, predicted - before]), axis=0)
    assert np.all(np.abs(after - predicted) < 1.001 * ulp(largest, dtype))


def random_walk(dtype, s, rate=0.05, steps=500):
    """Parameters before and after each step, and base + prediction, for 64 weights of any size."""
    rng = np.random.default_rng(0)
    weights = jnp.asarray(np.logspace(-3, 1, 64) * rng.choice([-1, 1], 64), dtype)
    gradients = jnp.asarray(rng.normal(size=(steps, 64)), dtype)
    tx = xgrad(optax.sgd(rate), s, base_dtype=jnp.float32)

    def step(carry, grads):
        before, state = carry
        updates, next_state = tx.update(grads, state, before)
        after = optax.apply_updates(before, updates)
        bases = base_params(before, state), base_params(after, next_state)
        return (after, next_state), (before, after, *bases)

    _, history = jax.lax.scan(step, (weights, tx.init(weights)), gradients)
    before, after, old_base, base = (np.float64(x) for x in history)
    return before, after, base + s * (base - old_base)


def ulp(x, dtype):
    """The distance between neighbours around x."""
    info = jnp.finfo(dtype)
    exponent = np.floor(np.log2(np.maximum(np.abs(x), float(info.tiny))))
    return np.exp2(exponent) * float(info.eps)
