"""What is compared on which task, and what one run leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.arms import NESTEROV, OF_PAPERS, OPTIMIZERS, arm_of, horizon_label
from experiments.kinds import (
    chosen_learning_rates,
    count,
    horizon,
    learning_rate_origin,
    positive,
)
from experiments.options import (
    choice,
    derived,
    learning_rates,
    many,
    names,
    one,
    output,
    seeds,
    switch,
)
from experiments.study import Study
from experiments.tasks import TASKS
from experiments.tasks.constant import training_of


class Arm(NamedTuple):
    """One optimizer in one form: a line in a plot, a row in a table.

    Attributes:
        optimizer: key into ``OPTIMIZERS``.
        label: ``"s=1"``, or the baseline's name.
        form: the arm's name in ``arms``.
        horizon: steps predicted ahead, 0 for the plain optimizer, None for a baseline.
        learning_rate: shared by all arms of an optimizer.
    """

    optimizer: str
    label: str
    form: str
    horizon: float | None
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.optimizer} {self.label}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments compare``.

    Once it is complete ``learning_rates`` holds the rate of each optimizer.
    """

    task: str = choice("task", TASKS, "digits")
    optimizers: tuple[str, ...] = names("optimizer", OPTIMIZERS, OF_PAPERS, recorded=False)
    horizons: tuple[float, ...] = many(
        horizon,
        (0.0, 1.0, 2.0, 3.0),
        "S",
        "steps to predict ahead, fractions allowed; 0 is the plain optimizer, against which "
        "differences are taken",
    )
    baselines: bool = switch("leave the baselines out", off=True)
    seeds: tuple[int, ...] = seeds(8)
    epochs: int = one(count, None, "N", shown="the task's")
    learning_rates: Mapping[str, float] = learning_rates()
    target_loss: float | None = one(positive, None, "LOSS", shown="the task's")
    output: Path | None = output()
    learning_rate_origin: str = derived("how the rates were chosen")
    batch_size: int = derived("examples per step")
    early_epoch: int = derived("the epoch of the early training loss")

    def completed(self) -> "Config":
        """Fills in what the task says."""
        texts: Any = self.learning_rates
        rates = chosen_learning_rates(texts, self.optimizers)
        training = training_of(self.task)
        epochs = self.epochs or training.protocol.epochs
        return dataclasses.replace(
            self,
            learning_rates={
                name: rates.get(name, training.learning_rates[name]) for name in self.optimizers
            },
            learning_rate_origin=learning_rate_origin(rates, training.origin_of(self.optimizers)),
            epochs=epochs,
            batch_size=training.protocol.batch_size,
            early_epoch=min(training.early_epoch, epochs),
            target_loss=self.target_loss or training.target_loss,
        )

    def items(self) -> list[Arm]:
        """Returns the arms of each optimizer: the horizons, then its baseline."""
        arms = []
        for name in self.optimizers:
            rate, baseline = self.learning_rates[name], OPTIMIZERS[name].baseline
            arms += [Arm(name, horizon_label(s), arm_of(s), s, rate) for s in self.horizons]
            if self.baselines and baseline:
                arms.append(Arm(name, baseline, NESTEROV, None, rate))
        return arms


Curve = list[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
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


STUDY = Study(
    name="compare",
    summary="train optimizers with and without prediction on one task and compare them",
    about=(
        "Trains each optimizer plain (s=0), with weight prediction over the given horizons, "
        "and beside the usual baselines, from the same initial parameters and batches at "
        "each seed. Writes report.md, curves.png, runs.jsonl and meta.json to a new folder. "
        "Ctrl-C keeps the arms that have finished."
    ),
    config=Config,
    folder="compare-{task}",
    place=10,
)
