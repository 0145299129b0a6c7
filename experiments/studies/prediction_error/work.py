"""Training with a measurement beside it, one seed after the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.arms import horizon_label, make_method
from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.prediction_error.ask import Arm, Config, Record
from experiments.task import Data, Task, Variables
from experiments.tasks import load_task
from experiments.tasks.constant import training_of
from experiments.training import scan
from experiments.training.batches import stacked_batches, take
from experiments.training.scan import Draws, draw
from experiments.training.step import beginning, make_step
from xgrad_optax.diagnostics import prediction_error


class Measured(NamedTuple):
    """What one arm left.

    Attributes:
        relative_error: means over each epoch, ``[seeds, epochs, horizons]``.
        cosine: the same of the cosine.
        validation: means over the validation set after the last epoch by name, ``[seeds]`` each.
    """

    relative_error: Any
    cosine: Any
    validation: Any


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the task; returns what measures an arm at every seed."""
    del progress  # all seeds of an arm are one call
    task = load_task(config.task)
    data = task.load(None)
    # Initial parameters and batches of all seeds, the same for every arm.
    draws = draw(task, data, config.seeds, config.epochs, config.batch_size)
    return lambda arm: measure(task, config, arm, data, draws)


def measure(task: Task, config: Config, arm: Arm, data: Data, draws: Draws) -> list[Record]:
    """Trains one arm at every seed and measures its predictions all along."""
    # Also with s = 0, where it predicts unheard.
    form = f"{horizon_label(arm.s)}/{arm.predictor}"
    method = make_method(arm.optimizer, form, arm.learning_rate)
    train_step, errors = make_step(task, method), prediction_error(config.horizons)

    def train_seed(train: Any, validation: Any, draws: Draws) -> Measured:
        def step(carry: Any, drawn: Any) -> tuple[Any, None]:
            progress, state = carry
            indices, key = drawn
            progress, _ = train_step(progress, take(train, indices), key)
            return (progress, errors.update(state, progress.params, progress.opt_state)), None

        def epoch(carry: Any, steps: Any) -> tuple[Any, Any]:
            (progress, state), _ = jax.lax.scan(step, carry, steps)
            overall = errors.summary(state).overall
            return (progress, errors.reset(state)), (overall.relative_error, overall.cosine)

        start = beginning(method, draws.variables)
        carry = (start, errors.init(start.params, start.opt_state))
        (progress, _), (relative_error, cosine) = jax.lax.scan(
            epoch, carry, (draws.batches, draws.step_keys)
        )
        means = scan.measure(task, Variables(progress.params, progress.state), validation, weights)
        return Measured(relative_error, cosine, means)

    # One seed after the other: convolutions with different weights side by side are slow.
    all_seeds = jax.jit(
        lambda train, validation, draws: jax.lax.map(
            lambda drawn: train_seed(train, validation, drawn), draws
        )
    )
    validation, weights = stacked_batches(
        data.validation, training_of(task.name).protocol.measure_batch_size
    )
    measured = jax.tree.map(np.asarray, all_seeds(data.train, validation, draws))
    return [
        _record(task, config, arm, seed, jax.tree.map(lambda part: part[row], measured))  # noqa: B023
        for row, seed in enumerate(config.seeds)
    ]


def _record(task: Task, config: Config, arm: Arm, seed: int, measured: Measured) -> Record:
    means = task.derive({name: float(value) for name, value in measured.validation.items()})
    return Record(
        task=config.task,
        optimizer=arm.optimizer,
        predictor=arm.predictor,
        s=arm.s,
        learning_rate=arm.learning_rate,
        seed=seed,
        horizons=list(config.horizons),
        relative_error=[list(map(number, row)) for row in measured.relative_error],
        cosine=[list(map(number, row)) for row in measured.cosine],
        validation_loss=number(np.float32(means[task.loss])),
        validation_metric=number(np.float32(means[task.metric.name])),
    )
