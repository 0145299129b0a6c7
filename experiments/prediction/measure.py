"""Training with a measurement beside it, one seed after the other."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.prediction.config import PredictionArm, PredictionErrorConfig, PredictionRecord
from experiments.task import Data, Task, Variables
from experiments.tasks.constant import training_of
from experiments.training.batches import stacked_batches, take
from experiments.training.scan import Draws
from experiments.training.scan import measure as measured_on
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


def measure(
    task: Task, config: PredictionErrorConfig, arm: PredictionArm, data: Data, draws: Draws
) -> list[PredictionRecord]:
    """Trains one arm at every seed and measures its predictions all along.

    Args:
        task: the problem.
        config: what is measured.
        arm: the optimizer and its predictor.
        data: the task's data.
        draws: initial parameters and batches of all seeds, the same for every arm.

    Returns:
        One record for each seed.
    """
    method, errors = arm.method(), prediction_error(config.horizons)
    train_step = make_step(task, method)

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
        means = measured_on(task, Variables(progress.params, progress.state), validation, weights)
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


def _record(
    task: Task, config: PredictionErrorConfig, arm: PredictionArm, seed: int, measured: Measured
) -> PredictionRecord:
    means = task.derive({name: float(value) for name, value in measured.validation.items()})
    return PredictionRecord(
        task=config.task,
        optimizer=arm.optimizer,
        predictor=arm.predictor,
        s=arm.s,
        learning_rate=arm.learning_rate,
        seed=seed,
        horizons=list(config.horizons),
        relative_error=[list(map(_number, row)) for row in measured.relative_error],
        cosine=[list(map(_number, row)) for row in measured.cosine],
        validation_loss=_number(np.float32(means[task.loss])),
        validation_metric=_number(np.float32(means[task.metric.name])),
    )


def _number(value: Any) -> float | None:
    # By way of text: the shortest digits that give the float32 back, not its 17 float64 digits.
    return float(str(value)) if math.isfinite(value) else None
