"""The quadratic model with late gradients: simulated, in the real optimizers, and as JAX code."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.late_quadratics import METHODS, assert_follows, late_settings, one, radius
from tests.quadratics import DECAYS, settings
from tests.test_stability_optimizers import OPTIMIZERS, after_many_steps, rollout
from xgrad_optax.stability import (
    best_horizon,
    companion_matrix,
    effective_horizon,
    max_learning_rate,
    spectral_radius,
    stages_spectral_radius,
    stationary_variance,
    widest_horizon,
)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("delay", [1, 2, 5])
def test_radius_is_that_of_the_step(delay):
    @given(
        late_settings(delay, decays=DECAYS, signs=st.sampled_from([-1.0, 1.0])),
        METHODS,
        st.booleans(),
    )
    def check(setting, method, coupled):
        *arguments, decay = setting
        options = {"method": method, "weight_decay": decay, "coupled": coupled, "delay": delay}
        step = one(setting, delay, method, coupled)
        # Where roots meet, rounding moves them by a root of the last bit.
        found = spectral_radius(*arguments, **options)
        np.testing.assert_allclose(found, radius(step), atol=2e-4)
        state = np.ones(1), np.full(1, 0.3), np.ones((delay, 1))
        thetas = []
        for _ in range(delay + 8):
            state = step(*state)
            thetas.append(state[0][0])
        assert_follows(np.array(thetas), np.asarray(companion_matrix(*arguments, **options)))

    check()


@pytest.mark.parametrize("factor", [0.3, 0.97, 1.03])
@pytest.mark.parametrize(("delay", "s"), [(1, 0.0), (1, 1.5), (4, 3.0), (12, 8.0)])
def test_radius_is_the_growth_of_a_simulation(delay, s, factor):
    gamma = factor * float(max_learning_rate(2.0, s, 0.9, delay=delay))
    step = one((2.0, gamma, s, 0.9, 0.0), delay)
    expected = float(spectral_radius(2.0, gamma, s, 0.9, delay=delay))
    np.testing.assert_allclose(step.growth(), expected, rtol=1e-3)
    assert (expected < 1) == (factor < 1)


@functools.cache
def late_simulation(make, delay, steps=14):
    """Compiles a run on ½hθ² in which an optimizer gets each gradient late."""

    @jax.jit
    def run(h, gamma, s, mu, decay):
        with jax.numpy_dtype_promotion("standard"):
            lookahead_params, tx = make(gamma, s, mu, decay)
            theta = jnp.array(1.0)
            state = after_many_steps(tx.init(theta))

            def step(carry, _):
                theta, state, queue = carry
                queue = jnp.append(queue, h * lookahead_params(theta, state))
                updates, state = tx.update(queue[0], state, theta)
                theta = optax.apply_updates(theta, updates)
                return (theta, state, queue[1:]), theta

            # While the queue fills nothing moves: the gradients in it are those of the first point.
            queue = jnp.full(delay, h * theta)
            _, thetas = jax.lax.scan(step, (theta, state, queue), None, length=steps)
        return jnp.concatenate([jnp.ones(1), thetas])

    return run


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_with_a_queue_follow_the_recurrence(name):
    make, method, coupled, strategy = OPTIMIZERS[name]
    delay = 3

    @given(strategy)
    def check(setting):
        *arguments, decay = setting
        thetas = np.asarray(late_simulation(make, delay)(*setting))
        options = {"method": method, "weight_decay": decay, "coupled": coupled, "delay": delay}
        assert_follows(thetas, np.asarray(companion_matrix(*arguments, **options)))

    check()


@given(settings())
def test_the_rollout_with_a_queue_is_the_model_at_its_effective_horizon(setting):
    h, gamma, s, mu, _ = setting
    thetas = np.asarray(late_simulation(rollout, 2)(h, gamma, s, mu, 0.0))
    assert_follows(
        thetas, np.asarray(companion_matrix(h, gamma, effective_horizon(s, mu), mu, delay=2))
    )


# --------------------------------------------------------------------------------------------------
# No delay, transformations, errors
# --------------------------------------------------------------------------------------------------

SCALAR_CASES = {
    companion_matrix: (0.7, 0.1, 1.0, 0.9),
    spectral_radius: (0.7, 0.1, 1.0, 0.9),
    max_learning_rate: (0.7, 1.0, 0.9),
    best_horizon: (np.array([0.7, 0.01]), 0.1, 0.9),
    stationary_variance: (0.7, 0.1, 1.0, 0.9),
}
EACH = pytest.mark.parametrize("function", SCALAR_CASES, ids=lambda f: f.__name__)


@EACH
@pytest.mark.parametrize("coupled", [False, True])
def test_no_delay_is_what_was_before_to_the_last_bit(function, coupled):
    options = {"weight_decay": 0.1, "coupled": coupled}
    arguments = SCALAR_CASES[function]
    np.testing.assert_array_equal(
        function(*arguments, **options, delay=0), function(*arguments, **options)
    )


@EACH
def test_functions_of_a_delay_work_under_jit_vmap_and_grad(function):
    late = functools.partial(function, delay=3)
    arguments = SCALAR_CASES[function]
    expected = late(*arguments)
    np.testing.assert_allclose(jax.jit(late)(*arguments), expected, rtol=1e-9)
    axes = (*[None] * (len(arguments) - 1), 0)
    stacked = jax.vmap(late, axes)(*arguments[:-1], jnp.array([0.9, 0.9]))
    np.testing.assert_allclose(stacked, np.stack([expected] * 2), rtol=1e-9)


@pytest.mark.parametrize("function", [spectral_radius, max_learning_rate, stationary_variance])
@pytest.mark.parametrize("argument", [0, 1, -1])
def test_derivatives_are_those_of_differences(function, argument):
    arguments = list(SCALAR_CASES[function])
    if function is not max_learning_rate:
        arguments[1] = 0.03
    place, step = argument % len(arguments), 1e-6
    slope = jax.grad(functools.partial(function, delay=2), argnums=place)(*arguments)
    ends = []
    for sign in (-1, 1):
        moved = list(arguments)
        moved[place] += sign * step
        ends.append(float(function(*moved, delay=2)))
    assert slope != 0
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / (2 * step), rtol=1e-5)


CALLS = {
    **{f.__name__: functools.partial(f, *a) for f, a in SCALAR_CASES.items()},
    "widest_horizon": functools.partial(widest_horizon, 0.9),
    "stages_spectral_radius": lambda delay: stages_spectral_radius(
        np.eye(2), 0.1, 1.0, 0.9, [0, delay]
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_delay_is_refused(name):
    rule = "delay must be a whole number >= 0 that is known before tracing, got "
    with pytest.raises(ValueError, match=f"^{rule}-1\\.$"):
        CALLS[name](delay=-1)
    for value in (1.5, 1.0, True, None, np.array([1])):
        with pytest.raises(TypeError, match="^" + re.escape(f"{rule}{value!r} of type ")):
            CALLS[name](delay=value)
    with pytest.raises(TypeError, match=f"^{rule}.*Tracer"):
        jax.jit(lambda delay: CALLS[name](delay=delay))(1)
    CALLS[name](delay=np.int64(1))


def test_limits_with_decay_are_refused():
    message = "compare learning rates by spectral_radius, which has. Got weight_decay=0.1 and"
    with pytest.raises(ValueError, match=re.escape(message)):
        max_learning_rate(1.0, 1.0, 0.9, weight_decay=0.1, delay=1)
    with pytest.raises(ValueError, match="no formula for weight_decay with a delay"):
        jax.jit(lambda x: max_learning_rate(1.0, 1.0, 0.9, weight_decay=x, delay=1))(0.0)
    assert max_learning_rate(1.0, 1.0, 0.9, weight_decay=np.zeros(2), delay=1).shape == (2,)
