"""Training with a measurement beside it, one seed after the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data import Splits
from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.prediction_error.ask import Arm, Config, Record
from experiments.tasks import Task, load_task
from experiments.training import Draws, draw, make_step
from xgrad_optax.diagnostics import prediction_error


class Measured(NamedTuple):
    """What one arm left.

    Attributes:
        relative_error: means over each epoch, ``[seeds, epochs, horizons]``.
        cosine: the same of the cosine.
        validation_loss: after the last epoch, ``[seeds]``.
        validation_metric: likewise.
    """

    relative_error: Any
    cosine: Any
    validation_loss: Any
    validation_metric: Any


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the task; returns what measures an arm at every seed."""
    del progress  # all seeds of an arm are one call
    task = load_task(config.task)
    splits = task.load()
    # Initial parameters and batches of all seeds, the same for every arm.
    draws = draw(task, splits, config.seeds, config.epochs, config.batch_size)
    return lambda arm: measure(task, config, arm, splits, draws)


def measure(task: Task, config: Config, arm: Arm, splits: Splits, draws: Draws) -> list[Record]:
    """Trains one arm at every seed and measures its predictions all along."""
    rule, errors = arm.gradient_rule(), prediction_error(config.horizons)

    def train_seed(splits: Splits, draws: Draws) -> Measured:
        train_step = make_step(task, splits.train, rule)

        def step(carry: Any, batch: Any) -> tuple[Any, None]:
            trained, _ = train_step(carry[0], batch)
            return (trained, errors.update(carry[1], *trained)), None

        def epoch(carry: Any, steps: Any) -> tuple[Any, Any]:
            (trained, state), _ = jax.lax.scan(step, carry, steps)
            overall = errors.summary(state).overall
            return (trained, errors.reset(state)), (overall.relative_error, overall.cosine)

        start = (draws.params, rule.transform.init(draws.params))
        carry = (start, errors.init(*start))
        ((params, _), _), (relative_error, cosine) = jax.lax.scan(
            epoch, carry, (draws.batches, draws.step_keys)
        )
        return Measured(
            relative_error,
            cosine,
            task.loss(params, splits.validation, draws.measure_key),
            task.metric(params, splits.validation, draws.measure_key),
        )

    # One seed after the other: convolutions with different weights side by side are slow.
    all_seeds = jax.jit(lambda splits, draws: jax.lax.map(lambda d: train_seed(splits, d), draws))
    measured = jax.tree.map(np.asarray, all_seeds(splits, draws))
    return [
        _record(config, arm, seed, Measured(*(part[row] for part in measured)))
        for row, seed in enumerate(config.seeds)
    ]


def _record(config: Config, arm: Arm, seed: int, measured: Measured) -> Record:
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
        validation_loss=number(measured.validation_loss),
        validation_metric=number(measured.validation_metric),
    )
