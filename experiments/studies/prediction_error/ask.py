"""What is measured: which predictors of which optimizers, and what one measurement leaves."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.arms import CLOSED_FORM, OF_PAPERS, OPTIMIZERS, horizon_label
from experiments.kinds import chosen_learning_rates, count, horizon, learning_rate_origin
from experiments.options import (
    choice,
    derived,
    learning_rates,
    listed,
    many,
    names,
    one,
    output,
    seeds,
    steps_ahead,
)
from experiments.study import Study
from experiments.tasks import TASKS
from experiments.tasks.constant import training_of

# Name -> what it says, for `python -m experiments list`.
PREDICTORS: Mapping[str, str] = {
    CLOSED_FORM: "the optimizer's own closed form, read off its moments",
    "last-update": "repeats the last update",
    "zero-gradient": "asks the optimizer what it would do without further gradients",
}
_WITHOUT_CLOSED_FORM = ("rmsprop",)  # without momentum its named optimizer repeats the last update


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments prediction-error``."""

    task: str = choice("task", TASKS, "digits")
    optimizers: tuple[str, ...] = names("optimizer", OPTIMIZERS, OF_PAPERS, recorded=False)
    predictors: tuple[str, ...] = names("predictor", PREDICTORS)
    trained_with: tuple[float, ...] = many(
        horizon,
        (0.0,),
        "S",
        "the s that training itself uses; 0, the default, is the plain optimizer, so that all "
        "predictors are judged on the same steps",
        shown="",
    )
    horizons: tuple[int, ...] = steps_ahead()
    seeds: tuple[int, ...] = seeds(4)
    epochs: int = one(count, 10, "N")
    learning_rates: Mapping[str, float] = learning_rates()
    learning_rate_origin: str = derived("how the rates were chosen")
    batch_size: int = derived("examples per step")
    output: Path | None = output()

    def completed(self) -> "Config":
        """Returns the configuration with what the task decides."""
        asked: Any = self.learning_rates  # texts until now
        rates = chosen_learning_rates(asked, self.optimizers)
        training = training_of(self.task)
        return dataclasses.replace(
            self,
            learning_rates={
                name: rates.get(name, training.learning_rates[name]) for name in self.optimizers
            },
            learning_rate_origin=learning_rate_origin(rates, training.origin_of(self.optimizers)),
            batch_size=training.protocol.batch_size,
        )

    def items(self) -> list["Arm"]:
        """All combinations that exist."""
        return [
            Arm(optimizer, predictor, s, rate)
            for optimizer, rate in self.learning_rates.items()
            for predictor in self.predictors
            for s in self.trained_with
            if not (predictor == CLOSED_FORM and optimizer in _WITHOUT_CLOSED_FORM)
        ]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One predictor on the trajectory of one optimizer.

    Attributes:
        optimizer: key into ``OPTIMIZERS``.
        predictor: key into ``PREDICTORS``.
        s: the horizon that training itself uses.
        learning_rate: the learning rate.
    """

    optimizer: str
    predictor: str
    s: float
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.optimizer} {self.predictor} {horizon_label(self.s)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one seed: one line of ``runs.jsonl``. None stands for a non-finite number.

    Attributes:
        task: name of the task.
        optimizer: name of the optimizer.
        predictor: name of the predictor.
        s: the horizon that training itself used.
        learning_rate: the learning rate.
        seed: the seed.
        horizons: how many steps ahead predictions were judged.
        relative_error: mean over the steps of each epoch, ``[epochs][horizons]``.
        cosine: the same of the cosine.
        validation_loss: after the last epoch.
        validation_metric: the task's metric after the last epoch.
    """

    task: str
    optimizer: str
    predictor: str
    s: float
    learning_rate: float
    seed: int
    horizons: list[int]
    relative_error: list[list[float | None]]
    cosine: list[list[float | None]]
    validation_loss: float | None
    validation_metric: float | None


def _names() -> Iterator[str]:
    yield from listed("predictors", PREDICTORS, width=14)


STUDY = Study(
    name="prediction-error",
    summary="measure how good predictions are during training, by predictor and steps ahead",
    about=(
        "Trains each optimizer with each predictor and measures, at every step, how far each "
        "prediction 1 to 10 steps ahead is from what training then reaches. Writes report.md, "
        "errors.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms that have "
        "finished."
    ),
    config=Config,
    folder="prediction-error-{task}",
    place=50,
    listing=_names,
)
