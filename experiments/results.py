"""What ``compare`` keeps of a run."""

import dataclasses
from typing import TYPE_CHECKING

from experiments.folder import number

if TYPE_CHECKING:
    import numpy as np

    from experiments.config import CompareConfig
    from experiments.optimizers import Arm
    from experiments.training import History

CURVES_FILE = "curves.png"

Curve = list[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One arm at one seed: one line of ``runs.jsonl``. None stands for a non-finite number.

    Attributes:
        task: name of the task.
        optimizer: name of the optimizer.
        arm: ``"s=1"``, or the baseline's name.
        horizon: steps predicted ahead, None for a baseline.
        learning_rate: the learning rate.
        seed: the seed.
        diverged: whether the training loss was ever not finite.
        early_loss: training loss at the early epoch.
        final_loss: training loss after the last epoch.
        epochs_to_target: first epoch with a training loss at or below the target, None if never.
        final_test_metric: test metric after the last epoch, None if the loss is not finite there.
        train_loss: training loss before training and after each epoch.
        validation_loss: the same for the validation loss.
        validation_metric: the same for the validation metric.
        test_metric: the same for the test metric.
    """

    task: str
    optimizer: str
    arm: str
    horizon: float | None
    learning_rate: float
    seed: int
    diverged: bool
    early_loss: float | None
    final_loss: float | None
    epochs_to_target: int | None
    final_test_metric: float | None
    train_loss: Curve
    validation_loss: Curve
    validation_metric: Curve
    test_metric: Curve


def make_records(config: "CompareConfig", arm: "Arm", history: "History") -> list[RunRecord]:
    """Turns the measurements of one arm into one record per seed."""
    return [
        _make_record(config, arm, seed, *(_curve(part[row]) for part in history))
        for row, seed in enumerate(config.seeds)
    ]


def _make_record(
    config: "CompareConfig",
    arm: "Arm",
    seed: int,
    train_loss: Curve,
    validation_loss: Curve,
    validation_metric: Curve,
    test_metric: Curve,
) -> RunRecord:
    final_loss = train_loss[-1]
    return RunRecord(
        task=config.task,
        optimizer=arm.optimizer,
        arm=arm.label,
        horizon=arm.horizon,
        learning_rate=arm.learning_rate,
        seed=seed,
        diverged=None in train_loss,
        early_loss=train_loss[config.early_epoch],
        final_loss=final_loss,
        epochs_to_target=_first_at_most(train_loss, config.target_loss),
        # Parameters that are not numbers still classify something: that is no accuracy.
        final_test_metric=None if final_loss is None else test_metric[-1],
        train_loss=train_loss,
        validation_loss=validation_loss,
        validation_metric=validation_metric,
        test_metric=test_metric,
    )


def _curve(values: "np.ndarray") -> Curve:
    return list(map(number, values))


def _first_at_most(curve: Curve, target: float) -> int | None:
    reached = (epoch for epoch, loss in enumerate(curve) if loss is not None and loss <= target)
    return next(reached, None)
