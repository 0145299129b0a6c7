"""Training one arm for all seeds at once.

Everything random is drawn once and handed to every arm: at the same seed two arms start from the
same parameters and see the same batches, so their differences are paired.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import Splits, epoch_batches, number_of_examples, take
from experiments.optimizers import GradientRule
from experiments.tasks import Task


class Draws(NamedTuple):
    """All that chance decides in the runs of one comparison.

    Attributes:
        params: initial parameters, each leaf ``[seeds, ...]``.
        batches: which examples each step sees, ``[seeds, epochs, steps, batch_size]``.
        step_keys: for models that draw random numbers in their loss, ``[seeds, epochs, steps]``.
        measure_key: the same for measuring: one key per seed, so that the curves are not noisier
            than the training, ``[seeds]``.
    """

    params: Any
    batches: jax.Array
    step_keys: jax.Array
    measure_key: jax.Array


class History(NamedTuple):
    """What was measured before training and after each epoch, at the true parameters.

    Attributes:
        train_loss: loss on the whole training set, ``[seeds, epochs + 1]``.
        validation_loss: loss on the validation set, same shape.
        validation_metric: the task's metric on the validation set, same shape.
        test_metric: the task's metric on the test set, same shape.
    """

    train_loss: Any
    validation_loss: Any
    validation_metric: Any
    test_metric: Any


def draw(task: Task, splits: Splits, seeds: Sequence[int], epochs: int, batch_size: int) -> Draws:
    """Draws initial parameters, batches and random keys for each seed.

    Doing this outside the training call also halves its compilation time.
    """
    examples = number_of_examples(splits.train)

    def draw_seed(seed: jax.Array) -> Draws:
        init, order, noise, measure = jax.random.split(jax.random.key(seed), 4)
        batches = jax.vmap(lambda key: epoch_batches(key, examples, batch_size))(
            jax.random.split(order, epochs)
        )
        step_keys = jax.random.split(noise, batches.shape[:2])
        return Draws(task.init(init), batches, step_keys, measure)

    return jax.jit(jax.vmap(draw_seed))(jnp.asarray(seeds, jnp.uint32))


def train(task: Task, splits: Splits, rule: GradientRule, draws: Draws) -> History:
    """Trains ``task`` with ``rule`` once per seed; all epochs are one compiled call.

    Args:
        task: the problem.
        splits: its data.
        rule: where the gradient is taken and how it becomes an update.
        draws: the initial parameters and batches, the same for every arm.

    Returns:
        The measurements as NumPy arrays.
    """

    # The data are an argument: closed over, they would be compiled in as a constant.
    def train_seed(splits: Splits, draws: Draws) -> History:
        def measure(params: Any) -> History:
            return _measure(task, splits, params, draws.measure_key)

        def epoch(carry: Any, steps: Any) -> tuple[Any, History]:
            carry, _ = jax.lax.scan(make_step(task, splits.train, rule), carry, steps)
            return carry, measure(carry[0])

        start = (draws.params, rule.transform.init(draws.params))
        _, after = jax.lax.scan(epoch, start, (draws.batches, draws.step_keys))
        return jax.tree.map(jnp.append, measure(draws.params), after)

    history = jax.jit(jax.vmap(train_seed, in_axes=(None, 0)))(splits, draws)
    return jax.tree.map(np.asarray, history)


def make_step(task: Task, examples: Any, rule: GradientRule) -> Any:
    """Returns ``((params, opt_state), (indices, key)) -> ((params, opt_state), None)``."""

    def step(carry: Any, batch: Any) -> tuple[Any, None]:
        params, opt_state = carry
        indices, key = batch
        point = rule.gradient_point(params, opt_state)
        gradient = jax.grad(task.loss)(point, take(examples, indices), key)
        updates, opt_state = rule.transform.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return step


def _measure(task: Task, splits: Splits, params: Any, key: jax.Array) -> History:
    return History(
        train_loss=task.loss(params, splits.train, key),
        validation_loss=task.loss(params, splits.validation, key),
        validation_metric=task.metric(params, splits.validation, key),
        test_metric=task.metric(params, splits.test, key),
    )
