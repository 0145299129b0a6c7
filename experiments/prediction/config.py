"""What is measured: which predictors of which optimizers, and what one measurement leaves."""

import dataclasses
from collections.abc import Mapping

from experiments.arms import CLOSED_FORM, Method, horizon_label, make_method

# Name -> what it says, for `python -m experiments list`.
PREDICTORS: Mapping[str, str] = {
    CLOSED_FORM: "the optimizer's own closed form, read off its moments",
    "last-update": "repeats the last update",
    "zero-gradient": "asks the optimizer what it would do without further gradients",
}
_WITHOUT_CLOSED_FORM = ("rmsprop",)  # without momentum its named optimizer repeats the last update


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionErrorConfig:
    """The configuration of ``python -m experiments prediction-error``.

    Attributes:
        task: name of the task.
        learning_rates: the optimizers in the order of the report, and the rate of each.
        learning_rate_origin: how the rates were chosen.
        predictors: names of the predictors.
        trained_with: the s that training itself uses; 0 is the plain optimizer's trajectory, the
            same for all predictors.
        horizons: how many steps ahead predictions are judged.
        seeds: the seeds, the same for every arm.
        epochs: passes over the training set.
        batch_size: examples per step.
    """

    task: str
    learning_rates: Mapping[str, float]
    learning_rate_origin: str
    predictors: tuple[str, ...]
    trained_with: tuple[float, ...]
    horizons: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int

    def arms(self) -> list["PredictionArm"]:
        """All combinations that exist."""
        return [
            PredictionArm(optimizer, predictor, s, rate)
            for optimizer, rate in self.learning_rates.items()
            for predictor in self.predictors
            for s in self.trained_with
            if not (predictor == CLOSED_FORM and optimizer in _WITHOUT_CLOSED_FORM)
        ]


@dataclasses.dataclass(frozen=True)
class PredictionArm:
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

    def method(self) -> Method:
        """Builds the optimizer with its predictor; also with s = 0, where it predicts unheard."""
        arm = f"{horizon_label(self.s)}/{self.predictor}"
        return make_method(self.optimizer, arm, self.learning_rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionRecord:
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
