"""Trains one arm at all seeds at once, and keeps what was measured."""

from collections.abc import Callable

from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.compare.ask import Arm, Config, Curve, Record
from experiments.tasks import load_task
from experiments.tasks.constant import training_of
from experiments.training.batches import steps_per_epoch
from experiments.training.scan import History, draw, train
from experiments.training.schedules import method_of


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the data and draws what is random; returns what trains an arm."""
    del progress  # an arm is one program
    task, protocol = load_task(config.task), training_of(config.task).protocol
    data = task.load(None)
    draws = draw(task, data, config.seeds, config.epochs, config.batch_size)
    steps = config.epochs * steps_per_epoch(data, config.batch_size)

    def work(arm: Arm) -> list[Record]:
        method = method_of(protocol, arm.optimizer, arm.form, arm.learning_rate, steps)
        history = train(task, data, method, draws, protocol.measure_batch_size)
        return records_of(config, arm, history)

    return work


def records_of(config: Config, arm: Arm, history: History) -> list[Record]:
    """Turns the measurements of one arm into one record per seed."""
    return [
        _record(config, arm, seed, *(list(map(number, part[row])) for part in history))
        for row, seed in enumerate(config.seeds)
    ]


def _record(
    config: Config,
    arm: Arm,
    seed: int,
    train_loss: Curve,
    validation_loss: Curve,
    validation_metric: Curve,
    test_metric: Curve,
) -> Record:
    final_loss = train_loss[-1]
    return Record(
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


def _first_at_most(curve: Curve, target: float | None) -> int | None:
    if target is None:
        return None
    reached = (epoch for epoch, loss in enumerate(curve) if loss is not None and loss <= target)
    return next(reached, None)
