"""All epochs of all seeds in one program, against the loop that a user would write."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from experiments.arms import make_method
from experiments.task import Variables, gradient_of
from experiments.tasks import load_task
from experiments.tasks.constant import training_of
from experiments.training.batches import measuring_batches, stacked_batches, take
from experiments.training.scan import draw, measure, train

RATE = 0.05
SEEDS = (3, 4, 5)
EPOCHS = 3
BATCH_SIZE = 8


@pytest.fixture(scope="module")
def draws(regression):
    return draw(regression, regression.load(None), SEEDS, EPOCHS, BATCH_SIZE)


def train_arm(task, optimizer, arm, draws, **options):
    return train(task, task.load(None), make_method(optimizer, arm, RATE), draws, **options)


def squared_error(params, examples):
    return jnp.mean((examples["input"] @ params - examples["target"]) ** 2)


def train_by_hand(task, tx, lookahead_params, draws):
    """The loop that a user would write, for the last seed; returns its training losses."""
    train_set = jax.tree.map(jnp.asarray, task.load(None).train)
    params, batches = draws.variables.params[-1], draws.batches[-1]
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, indices):
        point = lookahead_params(params, opt_state)
        gradient = jax.grad(squared_error)(point, take(train_set, indices))
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    losses = [squared_error(params, train_set)]
    for epoch in np.asarray(batches):
        for indices in epoch:
            params, opt_state = step(params, opt_state, indices)
        losses.append(squared_error(params, train_set))
    return np.array(losses)


def test_the_plain_optimizer_is_that_of_a_plain_loop(regression, draws):
    history = train_arm(regression, "adam", "plain", draws)
    losses = train_by_hand(regression, optax.adam(RATE), lambda params, _: params, draws)
    np.testing.assert_allclose(history.train_loss[-1], losses, rtol=1e-4)


def test_prediction_is_the_library_in_a_plain_loop(regression, draws):
    history = train_arm(regression, "adam", "s=1", draws)
    lookahead_params, tx = xgrad_optax.adam(RATE, s=1)
    losses = train_by_hand(regression, tx, lookahead_params, draws)
    np.testing.assert_allclose(history.train_loss[-1], losses, rtol=1e-4)


def test_seeds_do_not_influence_each_other(regression, draws):
    together = train_arm(regression, "adam", "s=2", draws)
    last = draw(regression, regression.load(None), SEEDS[-1:], EPOCHS, BATCH_SIZE)
    alone = train_arm(regression, "adam", "s=2", last)
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[-1], one[0], rtol=1e-5)
    assert len(np.unique(together.train_loss[:, 0])) == len(SEEDS), "each seed starts elsewhere"


def test_arms_at_the_same_seed_are_paired(regression, draws):
    # The gradient of a linear loss does not depend on where it is taken, so that arms with
    # different horizons agree to the last bit if, and only if, start and batches agree.
    def linear(params, state, batch, key):
        return jnp.mean(batch["input"] @ params), state

    task = dataclasses.replace(regression, gradient=gradient_of(linear))
    plain, predicted = (train_arm(task, "sgdm", arm, draws) for arm in ("plain", "s=3"))
    np.testing.assert_array_equal(plain.train_loss, predicted.train_loss)
    assert len(np.unique(plain.train_loss)) == plain.train_loss.size


def test_every_step_has_its_own_random_key(draws):
    keys = jax.random.key_data(draws.step_keys).reshape(draws.step_keys.size, -1)
    assert len(np.unique(keys, axis=0)) == len(keys)


def test_a_text_is_read_in_order(regression):
    data = regression.load(None)._replace(ordered=True)
    drawn = draw(regression, data, SEEDS, EPOCHS, BATCH_SIZE).batches
    expected = np.broadcast_to(np.arange(32).reshape(4, 8), drawn.shape)
    np.testing.assert_array_equal(drawn, expected)


def test_what_a_task_makes_of_its_means_and_scores_is_recorded(regression, draws):
    """A metric that is no mean over examples, of which the variables are kept."""

    def score(variables, examples):
        assert examples["target"].shape in ((10,), (11,))
        return {"sum": float(variables.params.sum())}

    task = dataclasses.replace(
        regression,
        metric=regression.metric._replace(name="sum"),
        score=score,
        derive=lambda means: {**means, "loss": 2 * means["loss"]},
    )
    plain = train_arm(regression, "sgdm", "plain", draws)
    found = train_arm(task, "sgdm", "plain", draws)
    np.testing.assert_allclose(found.validation_loss, 2 * plain.validation_loss, rtol=1e-6)
    np.testing.assert_array_equal(found.test_metric, found.validation_metric)
    start = draws.variables.params.sum(axis=1)
    np.testing.assert_allclose(found.test_metric[:, 0], start, rtol=1e-6)
    assert len(np.unique(found.test_metric)) == found.test_metric.size


@pytest.mark.parametrize("batch_size", [4, 10, 100])
def test_large_sets_are_measured_in_batches(regression, batch_size):
    examples = regression.load(None).validation
    params = jnp.array([1.0, -1.0, 0.3])
    means = measure(regression, Variables(params, {}), *stacked_batches(examples, batch_size))
    np.testing.assert_allclose(means["loss"], squared_error(params, examples), rtol=1e-5)


def test_measured_batches_are_those_of_a_loop(regression):
    examples = regression.load(None).validation
    stacked, weights = stacked_batches(examples, 4)
    for number, batch in enumerate(measuring_batches(examples, 4)):
        np.testing.assert_array_equal(weights[number], batch.pop("weight"))
        jax.tree.map(np.testing.assert_array_equal, batch, take(stacked, number))
    assert number == 2


def test_digits_are_learned():
    task, training = load_task("digits"), training_of("digits")
    data = task.load(None)
    draws = draw(task, data, [0], 3, training.protocol.batch_size)
    method = make_method("sgdm", "s=1", training.learning_rates["sgdm"])
    history = train(task, data, method, draws)
    assert history.train_loss[0, -1] < 0.3 * history.train_loss[0, 0]
    assert history.test_metric[0, -1] > 80
