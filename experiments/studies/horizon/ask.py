"""What is compared: fixed horizons and one that sets itself, and what one run leaves."""

import dataclasses
from pathlib import Path

from experiments.arms import horizon_label
from experiments.kinds import count, horizon, positive
from experiments.options import data_dir, many, one, output, seeds
from experiments.problems import examples_field, momentum_field, problem_field
from experiments.study import Study

AUTO = "auto"
FAILED = 0.9  # of the initial loss: a run that ends above has learned nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments horizon``."""

    problem: str = problem_field()
    data_dir: str | None = data_dir()
    examples: int | None = examples_field()
    momentum: float = momentum_field()
    horizons: tuple[float, ...] = many(
        horizon, (0.0, 1.0, 1.75, 2.0, 4.0), "S", "steps to predict ahead"
    )
    learning_rates: tuple[float, ...] = many(positive, (0.03, 0.1, 0.2), "RATE")
    s_max: float = one(horizon, 4.0, "S", "its bound")
    epochs: int = one(count, 15, "N")
    seeds: tuple[int, ...] = seeds(10, first=100, lowest="the lowest")
    output: Path | None = output()

    def items(self) -> list["Arm"]:
        """Every way to choose s, at each learning rate."""
        return [Arm(rate, s) for rate in self.learning_rates for s in (*self.horizons, None)]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to choose s at one learning rate; ``s`` is None for the horizon that sets itself."""

    learning_rate: float
    s: float | None

    @property
    def label(self) -> str:
        """How reports call it."""
        return AUTO if self.s is None else horizon_label(self.s)

    def __str__(self) -> str:
        return f"γ={self.learning_rate:g} {self.label}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one seed: one line of ``runs.jsonl``. None stands for a non-finite number.

    Attributes:
        learning_rate: γ.
        arm: ``"s=1"`` or ``"auto"``.
        seed: of initial parameters and batches.
        failed: whether training ended near the loss it began with, above it, or at none.
        early_loss: mean loss of the batches in the first quarter, at the predicted parameters.
        train_loss: loss on all training examples after the last step.
        held_out_loss: the same on held-out examples.
        s_quartiles: the quartiles of s over all steps.
    """

    learning_rate: float
    arm: str
    seed: int
    failed: bool
    early_loss: float | None
    train_loss: float | None
    held_out_loss: float | None
    s_quartiles: list[float]


STUDY = Study(
    name="horizon",
    summary="try a horizon that sets itself against fixed ones",
    about=(
        "Trains a network by SGDM with fixed horizons and with one that follows the curvature "
        "along the updates, from the same initial parameters and batches at each seed. Writes "
        "report.md, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms that have "
        "finished."
    ),
    config=Config,
    folder="horizon-{problem}",
    place=80,
)
