"""All epochs of all seeds of one arm in one compiled program.

Everything random is drawn once and handed to every arm: at the same seed two arms start from the
same parameters and see the same batches, so their differences are paired.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.arms import Method
from experiments.task import Data, Examples, Task, Variables, check_parameters
from experiments.training.batches import (
    epoch_batches,
    number_of_examples,
    stacked_batches,
    take,
)
from experiments.training.step import beginning, make_step

Measures = Mapping[str, Any]
"""By name, the mean over some examples, an array."""


class Draws(NamedTuple):
    """All that chance decides in the runs of one comparison.

    Attributes:
        variables: initial parameters and states, each leaf ``[seeds, ...]``.
        batches: which examples each step sees, ``[seeds, epochs, steps, batch_size]``.
        step_keys: for models that draw random numbers in their loss, ``[seeds, epochs, steps]``.
    """

    variables: Variables
    batches: jax.Array
    step_keys: jax.Array


class History(NamedTuple):
    """What was measured before training and after each epoch, at the true parameters.

    Attributes:
        train_loss: loss on the whole training set, ``[seeds, epochs + 1]``.
        validation_loss: loss on the validation set, same shape.
        validation_metric: the task's metric on the validation set, same shape.
        test_metric: the task's metric on the test set, same shape.
    """

    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_metric: np.ndarray
    test_metric: np.ndarray


class _Measured(NamedTuple):
    """What the program returns: means, and the variables if more is to be measured of them."""

    train_loss: Any
    validation: Measures
    test: Measures
    variables: Variables | None


def draw(task: Task, data: Data, seeds: Sequence[int], epochs: int, batch_size: int) -> Draws:
    """Draws initial parameters, batches and random keys for each seed.

    Doing this outside the training call also halves its compilation time.
    """
    check_parameters(task)
    examples = number_of_examples(data.train)

    def draw_epoch(key: jax.Array) -> jax.Array:
        if data.ordered:
            steps = examples // batch_size
            return jnp.arange(steps * batch_size).reshape(steps, batch_size)
        return epoch_batches(key, examples, batch_size)

    def draw_seed(seed: jax.Array) -> Draws:
        init, order, noise, _ = jax.random.split(jax.random.key(seed), 4)
        batches = jax.vmap(draw_epoch)(jax.random.split(order, epochs))
        return Draws(task.init(init), batches, jax.random.split(noise, batches.shape[:2]))

    return jax.jit(jax.vmap(draw_seed))(jnp.asarray(seeds, jnp.uint32))


def train(
    task: Task, data: Data, method: Method, draws: Draws, measure_batch_size: int | None = None
) -> History:
    """Trains ``task`` with ``method`` once per seed; all epochs are one compiled call.

    Args:
        task: the problem.
        data: its data.
        method: where the gradient is taken and how it becomes an update.
        draws: the initial parameters and batches, the same for every arm.
        measure_batch_size: examples that are measured at a time, None for all.

    Returns:
        The measurements as NumPy arrays.
    """
    step = make_step(task, method)
    stacked = [stacked_batches(part, measure_batch_size) for part in data[:3]]
    parts, weights = zip(*stacked, strict=True)

    # The data are an argument: closed over, they would be compiled in as a constant. The weights
    # are to be: their sum is then known to the compiler.
    def train_seed(train: Examples, parts: Any, draws: Draws) -> _Measured:
        def measured(progress: Any) -> _Measured:
            params = method.evaluated(progress.params, progress.opt_state)
            variables = Variables(params, progress.state)
            of_train, validation, test = (
                measure(task, variables, *part) for part in zip(parts, weights, strict=True)
            )
            kept = variables if task.score else None
            return _Measured(of_train[task.loss], validation, test, kept)

        def one_step(progress: Any, drawn: Any) -> tuple[Any, None]:
            indices, key = drawn
            return step(progress, take(train, indices), key)[0], None

        def epoch(progress: Any, drawn: Any) -> tuple[Any, _Measured]:
            progress, _ = jax.lax.scan(one_step, progress, drawn)
            return progress, measured(progress)

        start = beginning(method, draws.variables)
        _, after = jax.lax.scan(epoch, start, (draws.batches, draws.step_keys))
        return jax.tree.map(
            lambda one, more: jnp.append(one[None], more, 0), measured(start), after
        )

    program = jax.jit(jax.vmap(train_seed, in_axes=(None, None, 0)))
    found: _Measured = jax.tree.map(np.asarray, program(data.train, parts, draws))
    return History(
        found.train_loss,
        _of_name(task, found, "validation", data.validation, task.loss),
        _of_name(task, found, "validation", data.validation, task.metric.name),
        _of_name(task, found, "test", data.test, task.metric.name),
    )


def measure(task: Task, variables: Variables, batches: Any, weights: np.ndarray) -> Measures:
    """Returns the means over some examples, within a compiled program.

    Args:
        task: whose measures.
        variables: parameters, and the state in front of the first batch.
        batches: as of :func:`~experiments.training.batches.stacked_batches`.
        weights: of their rows.
    """

    def one(state: Any, batch: Any) -> tuple[Any, Measures]:
        examples, weight = batch
        sums, state = task.measure(
            Variables(variables.params, state), {**examples, "weight": weight}
        )
        return state, sums

    _, sums = jax.lax.scan(one, variables.state, (batches, weights))
    totals = {name: value.sum() for name, value in sums.items()}
    weight = totals.pop("weight")
    return {name: total / weight for name, total in totals.items()}


def _of_name(task: Task, found: _Measured, part: str, examples: Examples, name: str) -> np.ndarray:
    """Returns one of a part's measures, ``[seeds, epochs + 1]``."""
    shape = found.train_loss.shape
    values = [_of_place(task, found, part, examples, place)[name] for place in np.ndindex(*shape)]
    return np.array(values, np.float32).reshape(shape)


def _of_place(
    task: Task, found: _Measured, part: str, examples: Examples, place: tuple[int, ...]
) -> Mapping[str, float]:
    """Returns what a task makes of its means at one seed and epoch, and measures beside them."""
    means = {name: float(values[place]) for name, values in getattr(found, part).items()}
    derived = task.derive(means)
    if not task.score:
        return derived
    variables = jax.tree.map(lambda leaf: leaf[place], found.variables)
    return {**derived, **task.score(variables, examples)}
