"""The bound on SGDM's prediction errors holds along NumPy trajectories, and where it is reached."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xgrad_optax.diagnostics import sgdm_error_bound

pytestmark = pytest.mark.usefixtures("quickly_compiled")
norm = functools.partial(np.linalg.norm, axis=-1)


def run_sgdm(gradient, start, steps, rate, momentum, s):
    """Positions, velocities, gradients and the points they were taken at, in float64."""
    theta, v = np.asarray(start, np.float64), np.zeros_like(start, np.float64)
    runs = {"theta": [theta], "v": [v], "g": [np.zeros_like(v)], "x": [theta]}
    for t in range(steps):
        x = theta - s * rate(t) * v
        g = gradient(x, t)
        v = momentum * v + g
        theta = theta - rate(t) * v
        for name, value in (("theta", theta), ("v", v), ("g", g), ("x", x)):
            runs[name].append(value)
    return {name: np.array(values) for name, values in runs.items()}


def bounds_and_errors(run, horizon, rate, momentum, s, smoothness, noise=0.0):
    """The bound and the actual error of each prediction from t = 1 on, ``[predictions]``."""
    last = len(run["theta"]) - 1 - horizon
    t = np.arange(1, last + 1)
    rates = np.array([rate(k) for k in range(len(run["theta"]) + horizon)])
    predicted = run["theta"][t] - horizon * rates[t][:, None] * run["v"][t]
    errors = norm(predicted - run["theta"][t + horizon])
    bounds = sgdm_error_bound(
        horizon,
        lambda count: jnp.asarray(rates, jnp.float32)[count],
        momentum,
        smoothness=smoothness,
        velocity_norm=jnp.asarray(norm(run["v"][t]), jnp.float32),
        gradient_gap=jnp.asarray(norm(run["g"][t] - (1 - momentum) * run["v"][t]), jnp.float32),
        point_distance=jnp.asarray(norm(run["x"][t + 1] - run["x"][t]), jnp.float32),
        s=s,
        noise=noise,
        count=jnp.asarray(t),
    )
    return np.asarray(bounds, np.float64), errors


@given(
    curvatures=hnp.arrays(np.float64, 4, elements=st.floats(0.01, 1.0)),
    start=hnp.arrays(np.float64, 4, elements=st.floats(-2, 2)),
    rate=st.floats(0.001, 0.5),
    decay=st.floats(0.8, 1.0),
    momentum=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    s=st.sampled_from([0.0, 1.0, 2.5]),
    horizon=st.integers(1, 6),
)
def test_the_bound_holds_on_quadratics_under_any_schedule(
    curvatures, start, rate, decay, momentum, s, horizon
):
    schedule = lambda t: rate * decay**t  # noqa: E731
    run = run_sgdm(lambda x, t: curvatures * x, start, 15, schedule, momentum, s)
    bounds, errors = bounds_and_errors(run, horizon, schedule, momentum, s, curvatures.max())
    assert np.all(errors <= bounds * (1 + 1e-4) + 1e-9)


def test_the_bound_is_reached_by_one_curvature_without_momentum():
    run = run_sgdm(lambda x, t: 0.5 * x, np.ones(1), 5, lambda t: 0.1, 0.0, 0.0)
    bounds, errors = bounds_and_errors(run, 1, lambda t: 0.1, 0.0, 0.0, 0.5)
    np.testing.assert_allclose(bounds, errors, rtol=1e-4)


def softmax_regression():
    """Digits, its mean cross entropy's gradient, and an L that holds everywhere."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = np.hstack([digits.data / 16.0, np.ones((len(digits.data), 1))])
    one_hot = np.eye(10)[digits.target]

    def gradient(weights, rows):
        logits = inputs[rows] @ weights.reshape(-1, 10)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        residual = exponentials / exponentials.sum(axis=1, keepdims=True) - one_hot[rows]
        return (inputs[rows].T @ residual / len(residual)).ravel()

    # The Hessian of log-sum-exp is at most I/2 (Böhning, 1992).
    smoothness = np.linalg.eigvalsh(inputs.T @ inputs / len(inputs))[-1] / 2
    return gradient, smoothness, inputs.shape


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("horizon", [1, 4])
def test_the_bound_holds_on_digits_and_says_something(horizon, s):
    gradient, smoothness, (_, features) = softmax_regression()
    schedule = lambda t: 0.01 * (1 + np.cos(np.pi * t / 60))  # noqa: E731
    start = np.zeros(features * 10)
    run = run_sgdm(lambda x, t: gradient(x, slice(None)), start, 50, schedule, 0.9, s)
    bounds, errors = bounds_and_errors(run, horizon, schedule, 0.9, s, smoothness)
    assert np.all(errors <= bounds)
    assert np.median(bounds / errors) < 10
    # It knows that the prediction beats none: it is below the distance actually moved.
    t = np.arange(1, len(bounds) + 1)
    moved = np.linalg.norm(run["theta"][t + horizon] - run["theta"][t], axis=-1)
    assert np.mean(bounds < moved) > 0.9

    # With the L of the places visited, not of the whole space, it is nearly exact.
    pairs = [(a, b) for a in range(1, 51) for b in range(a + 1, min(a + 6, 51))]
    local = max(norm(run["g"][a] - run["g"][b]) / norm(run["x"][a] - run["x"][b]) for a, b in pairs)
    bounds, errors = bounds_and_errors(run, horizon, schedule, 0.9, s, local)
    assert np.all(errors <= bounds * (1 + 1e-4))
    assert np.median(bounds / errors) < 1.2


def test_the_bound_holds_for_mini_batches():
    gradient, smoothness, (examples, features) = softmax_regression()
    batches = np.random.default_rng(0).integers(examples, size=(40, 256))
    run = run_sgdm(
        lambda x, t: gradient(x, batches[t]), np.zeros(features * 10), 40, lambda t: 0.02, 0.9, 1.0
    )
    gaps = [run["g"][t] - gradient(run["x"][t], slice(None)) for t in range(1, 41)]
    noise = np.linalg.norm(gaps, axis=1).max()
    bounds, errors = bounds_and_errors(run, 2, lambda t: 0.02, 0.9, 1.0, smoothness, noise)
    assert np.all(errors <= bounds)
    assert np.median(bounds / errors) < 10
