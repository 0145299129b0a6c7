"""What is trained and evaluated, and what one run leaves."""

import dataclasses
from pathlib import Path

from experiments.arms import horizon_label
from experiments.kinds import below_one, count, horizon
from experiments.options import fixed, many, names, one, output, seeds
from experiments.study import Study

RATES = {"sgdm": 0.1, "adam": 3e-3}  # customary and not tuned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments batch-norm``."""

    optimizers: tuple[str, ...] = names("optimizer", RATES)
    horizons: tuple[float, ...] = many(
        horizon, (0.0, 1.0, 4.0), "S", "steps to predict ahead; 0 is the plain optimizer"
    )
    momenta: tuple[float, ...] = many(
        below_one("a momentum"),
        (0.9, 0.99),
        "M",
        "of the running statistics",
        shown="0.9 and Flax's own 0.99",
    )
    seeds: tuple[int, ...] = seeds(5)
    epochs: int = one(count, 10, "N")
    batch_size: int = fixed(32, "examples per step, also of recalibration")
    output: Path | None = output()

    def items(self) -> list["Arm"]:
        """All combinations."""
        return [
            Arm(optimizer, s, momentum)
            for optimizer in self.optimizers
            for momentum in self.momenta
            for s in self.horizons
        ]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        optimizer: key into ``RATES``.
        s: steps predicted ahead.
        momentum: of the running statistics.
    """

    optimizer: str
    s: float
    momentum: float

    def __str__(self) -> str:
        return f"{self.optimizer} {horizon_label(self.s)} momentum {self.momentum:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one seed: one line of ``runs.jsonl``; lists have one entry for each epoch.

    None stands for a number that is not finite.

    Attributes:
        optimizer: name of the optimizer.
        s: steps predicted ahead.
        momentum: of the running statistics.
        seed: the seed.
        running_accuracy: test accuracy in percent at θ with the statistics that training left.
        recalibrated_accuracy: the same with statistics measured anew at θ.
        running_loss: test loss with the statistics that training left.
        recalibrated_loss: the same with statistics measured anew.
    """

    optimizer: str
    s: float
    momentum: float
    seed: int
    running_accuracy: list[float | None]
    recalibrated_accuracy: list[float | None]
    running_loss: list[float | None]
    recalibrated_loss: list[float | None]


STUDY = Study(
    name="batch-norm",
    summary="compare running with recalibrated BatchNorm statistics at the true weights",
    about=(
        "Trains a small convolutional network with BatchNorm on digits, with and without "
        "prediction, and evaluates it after each epoch with the statistics that training left and "
        "with those measured anew. Writes report.md, runs.jsonl and meta.json to a new folder. "
        "Ctrl-C keeps the arms that have finished."
    ),
    config=Config,
    folder="batch-norm",
    place=60,
)
