"""Training with a measurement beside it, one seed after the other."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data import Splits
from experiments.prediction.config import PredictionArm, PredictionErrorConfig, PredictionRecord
from experiments.tasks import Task
from experiments.training import Draws, make_step
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


def measure(
    task: Task, config: PredictionErrorConfig, arm: PredictionArm, splits: Splits, draws: Draws
) -> list[PredictionRecord]:
    """Trains one arm at every seed and measures its predictions all along.

    Args:
        task: the problem.
        config: what is measured.
        arm: the optimizer and its predictor.
        splits: the task's data.
        draws: initial parameters and batches of all seeds, the same for every arm.

    Returns:
        One record for each seed.
    """
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


def _record(
    config: PredictionErrorConfig, arm: PredictionArm, seed: int, measured: Measured
) -> PredictionRecord:
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
        validation_loss=_number(measured.validation_loss),
        validation_metric=_number(measured.validation_metric),
    )


def _number(value: Any) -> float | None:
    # By way of text: the shortest digits that give the float32 back, not its 17 float64 digits.
    return float(str(value)) if math.isfinite(value) else None
