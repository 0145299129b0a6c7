"""Whole trajectories with late gradients against a NumPy loop with a queue, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import reference
from tests.test_trajectories import (
    CASES,
    NETWORK,
    STEPS,
    assert_same,
    drop_in,
    explicit,
    gradient,
    run_all,
    stepped,
)
from xgrad_optax import delayed, in_place, with_weight_prediction, xgrad, zero_gradient

pytestmark = pytest.mark.usefixtures("quickly_compiled")
NAMES = ("sgdm-decay", "adamw", "rmsprop-momentum")
DELAYS = (1, 3)
S = 2.5


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def rate(case):
    """Slow enough for late gradients, with drops at updates, not at steps."""
    return stepped(case.γ / 4)


def closed_form(case, γ, delay):
    return explicit(delayed(case.named(γ, s=S, **case.options), delay))


def late_drop_in(case, γ, delay):
    inner = case.namesake(γ, **case.options)
    return drop_in(delayed(xgrad(inner, S, predictor=case.predictor(γ)), delay))


def late_in_place(case, γ, delay):
    return drop_in(delayed(in_place(case.named(γ, s=S, **case.options)), delay))


def in_place_of_late(case, γ, delay):
    return drop_in(in_place(delayed(case.named(γ, s=S, **case.options), delay)))


def rolled_out(case, γ, delay):
    inner = case.namesake(γ, **case.options)
    prediction = with_weight_prediction(inner, delay + 1, predictor=zero_gradient())
    return explicit(delayed(prediction, delay))


def with_gradients_in_flight(case, γ, delay):
    return explicit(delayed(case.named(γ, s=delay + 1, **case.options), delay, in_flight=True))


CLOSED_FORMS = (closed_form, late_drop_in, late_in_place, in_place_of_late)
FORMS = (*CLOSED_FORMS, rolled_out, with_gradients_in_flight)


@functools.cache
def trajectories(name):
    case = CASES[name]
    γ, _ = rate(case)
    return run_all(
        {(make, delay): make(case, γ, delay) for make in FORMS for delay in DELAYS}, case
    )


@pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("delay", DELAYS, ids="delay={}".format)
@pytest.mark.parametrize("name", NAMES)
def test_late_gradients_follow_the_loop_with_a_queue(name, delay, make):
    case = CASES[name]
    predict, s = None, S
    if make is rolled_out:
        predict, s = reference.without_queue(reference.zero_gradient), delay + 1
    if make is with_gradients_in_flight:
        predict, s = reference.in_flight(delay), delay + 1
    optimizer, (_, γ) = case.reference(), rate(case)
    expected = reference.late_algorithm(
        optimizer, NETWORK.gradient, NETWORK.θ, s, STEPS, γ, delay, predict
    )
    assert optimizer.t == STEPS - delay
    assert_same(trajectories(name)[make, delay], expected)


def test_leaves_of_one_delay_are_a_stage_with_an_optimizer_of_its_own():
    """The network's layers in two stages, against two queues and two optimizers in NumPy."""
    case, delays = CASES["adamw"], {"W": 2, "a": 0}
    γ, γ_of = rate(case)
    both = delayed(case.named(γ, s=S, **case.options), delays)
    stages = {name: case.reference() for name in delays}
    queues = {name: [] for name in delays}
    θ = NETWORK.unflatten(NETWORK.θ)
    params, state = jax.tree.map(jnp.asarray, (θ, both.init(θ)))
    step = jax.jit(lambda p, state, g: both.update(g, state, p))
    for t in range(STEPS):
        predicted = {
            name: reference.closed_form(stages[name], θ[name], S, γ_of)
            if stages[name].t
            else θ[name]
            for name in θ
        }
        found = both.lookahead_params(params, state)
        for name in θ:
            np.testing.assert_allclose(found[name], predicted[name], rtol=1e-12)
        x, y = NETWORK.minibatch(t)
        updates, state = step(params, state, gradient(found, x, y))
        params = optax.apply_updates(params, updates)
        grads = NETWORK.unflatten(NETWORK.gradient(NETWORK.flatten(predicted), t))
        for name, queue in queues.items():
            queue.append(grads[name])
            if len(queue) > delays[name]:
                stage = stages[name]
                θ[name] = stage.step(queue.pop(0), θ[name], γ_of(stage.t))
    assert stages["W"].t == STEPS - 2
    assert stages["a"].t == STEPS
