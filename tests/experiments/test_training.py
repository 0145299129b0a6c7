import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from experiments.data import take
from experiments.optimizers import OPTIMIZERS, Arm, gradient_rule, horizon_label, make_arms
from experiments.tasks import load_task
from experiments.training import draw, train

RATE = 0.05
SEEDS = (3, 4, 5)
EPOCHS = 3


def arm(optimizer, horizon):
    return Arm(optimizer, horizon_label(horizon), horizon, RATE)


@pytest.fixture(scope="session")
def draws(regression):
    return draw(regression, regression.load(), SEEDS, EPOCHS, regression.batch_size)


def train_arm(task, arm, draws):
    return train(task, task.load(), gradient_rule(arm), draws)


def train_by_hand(task, tx, lookahead_params, draws):
    """The loop that a user would write, for the last seed; returns its training losses."""
    train_set = task.load().train
    params, batches = draws.params[-1], draws.batches[-1]
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, indices):
        point = lookahead_params(params, opt_state)
        gradient = jax.grad(task.loss)(point, take(train_set, indices), None)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    losses = [task.loss(params, train_set, None)]
    for epoch in batches:
        for indices in epoch:
            params, opt_state = step(params, opt_state, indices)
        losses.append(task.loss(params, train_set, None))
    return np.array(losses)


def at_params(params, opt_state):
    return params


PLAIN = {
    "sgdm": lambda: optax.sgd(RATE, momentum=0.9),
    "rmsprop": lambda: optax.rmsprop(RATE),
    "adam": lambda: optax.adam(RATE),
    "adamw": lambda: optax.adamw(RATE),
    "adabelief": lambda: optax.adabelief(RATE),
    "adam3": lambda: xgrad_optax.transforms.adam3(RATE),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_horizon_zero_is_the_plain_optimizer(optimizer, regression, draws):
    history = train_arm(regression, arm(optimizer, 0), draws)
    losses = train_by_hand(regression, PLAIN[optimizer](), at_params, draws)
    np.testing.assert_allclose(history.train_loss[-1], losses, rtol=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_horizon_one_is_the_library_in_a_plain_loop(optimizer, regression, draws):
    history = train_arm(regression, arm(optimizer, 1), draws)
    lookahead_params, tx = getattr(xgrad_optax, optimizer)(RATE, s=1)
    losses = train_by_hand(regression, tx, lookahead_params, draws)
    np.testing.assert_allclose(history.train_loss[-1], losses, rtol=1e-4)


def test_horizon_zero_and_baselines_do_not_use_the_library(monkeypatch):
    for name in OPTIMIZERS:
        monkeypatch.delattr(f"xgrad_optax.optimizers.{name}")
    for plain in make_arms(dict.fromkeys(OPTIMIZERS, RATE), (0.0,), baselines=True):
        gradient_rule(plain)


BASELINES = {
    "sgdm": ("nesterov", lambda: optax.sgd(RATE, momentum=0.9, nesterov=True)),
    "adam": ("nadam", lambda: optax.nadam(RATE)),
    "adamw": ("nadamw", lambda: optax.nadamw(RATE)),
}


@pytest.mark.parametrize("optimizer", BASELINES)
def test_baselines_are_those_of_optax(optimizer, regression, draws):
    (baseline,) = make_arms({optimizer: RATE}, (), baselines=True)
    name, plain = BASELINES[optimizer]
    assert baseline.label == name
    history = train_arm(regression, baseline, draws)
    losses = train_by_hand(regression, plain(), at_params, draws)
    np.testing.assert_allclose(history.train_loss[-1], losses, rtol=1e-4)


def test_seeds_do_not_influence_each_other(regression, draws):
    together = train_arm(regression, arm("adam", 2), draws)
    last = draw(regression, regression.load(), SEEDS[-1:], EPOCHS, regression.batch_size)
    alone = train_arm(regression, arm("adam", 2), last)
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[-1], one[0], rtol=1e-5)
    assert len(np.unique(together.train_loss[:, 0])) == len(SEEDS), "each seed starts elsewhere"


def test_arms_at_the_same_seed_are_paired(regression, draws):
    # The gradient of a linear loss does not depend on where it is taken, so that arms with
    # different horizons agree to the last bit if, and only if, start and batches agree.
    def linear(params, examples, key):
        return jnp.mean(examples[0] @ params)

    task = dataclasses.replace(regression, loss=linear)
    plain, predicted = (train_arm(task, arm("sgdm", horizon), draws) for horizon in (0, 3))
    np.testing.assert_array_equal(plain.train_loss, predicted.train_loss)
    assert len(np.unique(plain.train_loss)) == plain.train_loss.size


def test_every_step_has_its_own_random_key(draws):
    keys = jax.random.key_data(draws.step_keys).reshape(draws.step_keys.size, -1)
    assert len(np.unique(keys, axis=0)) == len(keys)


def test_digits_are_learned():
    task = load_task("digits")
    splits = task.load()
    draws = draw(task, splits, [0], 3, task.batch_size)
    rule = gradient_rule(Arm("sgdm", "s=1", 1.0, task.learning_rates["sgdm"]))
    history = train(task, splits, rule, draws)
    assert history.train_loss[0, -1] < 0.3 * history.train_loss[0, 0]
    assert history.test_metric[0, -1] > 80


@pytest.mark.parametrize(
    ("horizon", "label"), [(0.0, "s=0"), (1, "s=1"), (10.0, "s=10"), (0.25, "s=0.25")]
)
def test_horizons_have_short_labels(horizon, label):
    assert horizon_label(horizon) == label
