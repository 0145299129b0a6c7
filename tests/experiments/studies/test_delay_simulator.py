"""The simulator of ``delay`` against loops with a queue, in NumPy."""

import dataclasses

import numpy as np
import pytest

from experiments.errors import UsageError
from experiments.studies.delay.arms import DC_ASGD, IN_FLIGHT, LINEAR, WORKERS, Setting
from experiments.studies.delay.ask import Config
from experiments.studies.delay.simulate import Run, Simulator
from experiments.training.batches import number_of_examples
from experiments.training.scan import draw

UPDATES, BATCH_SIZE, RATE = 24, 8, 0.005
SEEDS = (5, 6)


@pytest.fixture(scope="module")
def config():
    settings = {"updates": UPDATES, "seeds": SEEDS[1:], "tuning_seeds": SEEDS[:1], "at_once": 2}
    return dataclasses.replace(Config(), delays=(0, 1, 3), measured=100, **settings)


@pytest.fixture(scope="module")
def simulator(config, regression):
    return Simulator(config, regression)


@pytest.fixture(scope="module")
def drawn(config, regression):
    """The first parameters, and the examples of each step, of the second seed."""
    data = regression.load(None)
    steps = UPDATES + max(config.delays)
    epochs = -(-steps // (number_of_examples(data.train) // BATCH_SIZE))
    draws = draw(regression, data, SEEDS, epochs, BATCH_SIZE)
    batches = np.asarray(draws.batches[1]).reshape(-1, BATCH_SIZE)
    inputs, targets = (np.float64(data.train[name]) for name in ("input", "target"))
    first = np.float64(draws.variables.params[1])
    return first, [(inputs[batch], targets[batch]) for batch in batches], (inputs, targets)


def gradient(point, batch):
    inputs, targets = batch
    return 2 * inputs.T @ (inputs @ point - targets) / len(targets)


def loss(point, examples):
    inputs, targets = examples
    return np.mean((inputs @ point - targets) ** 2)


def late(drawn, delay, point, update, state):
    """Trains with a queue: the gradient is taken at ``point``, and waits for ``delay`` steps."""
    params, batches, examples = drawn
    queue = []
    for step in range(UPDATES + delay):
        queue.append((gradient(point(params, state), batches[step]), params))
        if len(queue) > delay:
            params, state = update(*queue.pop(0), params, state, step - delay)
    return loss(params, examples)


def momentum_update(mu, rate=lambda count: RATE, nesterov=False):
    def update(grad, past, params, velocity, count):
        del past
        velocity = mu * velocity + grad
        direction = grad + mu * velocity if nesterov else velocity
        return params - rate(count) * direction, velocity

    return update


def here(params, state):
    return params


def sgdm(setting, delay):
    """The arms on SGDM: point, update and first state."""
    mu, s = setting.momentum, setting.horizon
    zero = np.zeros(3)
    if setting.method == LINEAR:
        return lambda p, v: p - s * RATE * v, momentum_update(mu), zero
    if setting.method == "zero-gradient":
        ahead = sum(mu**k for k in range(1, delay + 2))
        return lambda p, v: p - ahead * RATE * v, momentum_update(mu), zero
    if setting.method == "nesterov":
        return here, momentum_update(mu, nesterov=True), zero
    if setting.method == "pipemare":
        return pipemare(setting, delay)
    return dc_asgd(setting)


def pipemare(setting, delay):
    """arXiv 1910.05124: the rate over τ to the power p_k, and the mean drift."""
    update = momentum_update(
        setting.momentum, rate=lambda k: RATE / delay ** (1 - min(k / (UPDATES // 4), 1))
    )
    kept = 0.135 ** (1 / delay)

    def followed(grad, past, params, state, count):
        velocity, drift = state
        new, velocity = update(grad, past, params, velocity, count)
        return new, (velocity, kept * drift + (1 - kept) * (new - params))

    corrected = setting.strength * delay
    return lambda p, s: p + corrected * s[1], followed, (np.zeros(3), np.zeros(3))


def dc_asgd(setting):
    """arXiv 1609.08326, algorithm 2: the gradient's change, by its own outer product's diagonal."""
    update = momentum_update(setting.momentum)

    def compensated(grad, past, params, state, count):
        velocity, square = state
        square = 0.95 * square + 0.05 * grad**2
        scale = setting.strength / (np.sqrt(square + 1e-7) if setting.adaptive else 1)
        grad = grad + scale * grad * grad * (params - past)
        params, velocity = update(grad, past, params, velocity, count)
        return params, (velocity, square)

    return here, compensated, (np.zeros(3), np.zeros(3))


SETTINGS = [
    Setting(LINEAR),
    Setting(LINEAR, 0.5),
    Setting(LINEAR, 0.9, 2.0),
    Setting("zero-gradient", 0.95),
    Setting("nesterov"),
    Setting("pipemare"),
    Setting("pipemare", strength=1.0),
    Setting(DC_ASGD, strength=0.5),
    Setting(DC_ASGD, strength=0.5, adaptive=1.0),
]


def trained(simulator, optimizer, delay, setting):
    """The training loss of the second seed, and beside it that of the first at another rate."""
    other = Run(SEEDS[0], 2 * RATE, setting)
    return simulator.train(optimizer, delay, [other, Run(SEEDS[1], RATE, setting)]).train_loss[1]


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.method}, {s}")
def test_sgdm_is_that_of_a_loop_with_a_queue(simulator, drawn, setting, delay):
    if setting.method == "pipemare":
        setting = setting._replace(horizon=float(delay))
    expected = late(drawn, delay, *sgdm(setting, delay))
    assert expected < loss(drawn[0], drawn[2]), "it learns"
    found = trained(simulator, "sgdm", delay, setting)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_without_delay_every_gradient_is_applied_at_once(simulator, drawn):
    expected = late(drawn, 0, here, momentum_update(0.9), np.zeros(3))
    np.testing.assert_allclose(trained(simulator, "sgdm", 0, Setting(LINEAR)), expected, rtol=2e-5)


def test_adamw_is_that_of_a_loop_with_a_queue(simulator, drawn):
    def update(grad, past, params, moments, count):
        first, second = 0.5 * moments[0] + 0.5 * grad, 0.999 * moments[1] + 0.001 * grad**2
        corrected = second / (1 - 0.999 ** (count + 1))
        direction = first / (1 - 0.5 ** (count + 1)) / (np.sqrt(corrected) + 1e-8)
        return params - RATE * (direction + 1e-4 * params), (first, second)

    expected = late(drawn, 3, here, update, (np.zeros(3), np.zeros(3)))
    found = trained(simulator, "adamw", 3, Setting(LINEAR, 0.5))
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("delay", [1, 3])
def test_in_flight_each_worker_rolls_out_its_own_queue(simulator, drawn, delay):
    params, batches, examples = drawn
    velocity, queue = np.zeros(3), []  # of the queue: the gradients of all workers
    for step in range(UPDATES + delay):
        parts = zip(*(np.split(array, WORKERS) for array in batches[step]), strict=True)
        found = []
        for worker, part in enumerate(parts):
            point, ahead = params, velocity
            for own in [*(grads[worker] for grads in queue), 0.0]:
                ahead = 0.9 * ahead + own
                point = point - RATE * ahead
            found.append(gradient(point, part))
        queue.append(found)
        if len(queue) > delay:
            velocity = 0.9 * velocity + np.mean(queue.pop(0), axis=0)
            params = params - RATE * velocity
    found = trained(simulator, "sgdm", delay, Setting(IN_FLIGHT, 0.9, delay + 1))
    np.testing.assert_allclose(found, loss(params, examples), rtol=2e-5)


def test_the_start_is_that_of_the_seed(simulator, drawn):
    np.testing.assert_allclose(simulator.start[6][0], loss(drawn[0], drawn[2]), rtol=1e-5)


def test_a_batch_that_workers_cannot_share_is_refused(config, regression):
    message = "splits a batch among 4 workers, and a batch of regression has 6 examples"
    with pytest.raises(UsageError, match=message):
        Simulator(dataclasses.replace(config, batch_size=6), regression)
