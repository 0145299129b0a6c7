"""What is bounded: which training, at which steps, and what one run leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments.arms import horizon_label
from experiments.errors import UsageError
from experiments.kinds import count, horizon, positive
from experiments.options import data_dir, many, names, one, output, seeds, steps_ahead
from experiments.problems import examples_field, momentum_field, problem_field
from experiments.study import Study

SGDM, ADAM = "sgdm", "adam"
FULL, MINI = "full", "mini"
VISITED, HESSIAN = "visited", "hessian"  # how L is chosen
# Parts of the bound, in the order in which they are let in.
PARTS: Mapping[str, str] = {
    "scale": "Adam's scale moves",
    "gap": "the last gradient is not the mean of the past ones",
    "noise": "mini-batches differ",
    "smoothness": "the gradient of the loss moves",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments error-bound``."""

    problem: str = problem_field()
    data_dir: str | None = data_dir()
    examples: int | None = examples_field()
    optimizers: tuple[str, ...] = names("optimizer", (SGDM, ADAM))
    batches: tuple[str, ...] = names(
        "kind of batches", (FULL, MINI), help="all examples at each step, or the problem's batches"
    )
    trained_with: tuple[float, ...] = many(horizon, (0.0, 1.0), "S", "the s that training uses")
    horizons: tuple[int, ...] = steps_ahead()
    sgdm_rate: float = one(positive, 0.1, "RATE", "learning rate of SGDM")
    adam_rate: float = one(positive, 1e-3, "RATE", "learning rate of Adam")
    momentum: float = momentum_field()
    points: int = one(count, 15, "N", "steps at which predictions are judged, from the first on")
    every: int = one(count, 20, "N", "steps from one to the next, at least as many as are judged")
    seeds: tuple[int, ...] = seeds(5)
    output: Path | None = output()

    def completed(self) -> "Config":
        """Returns the configuration itself, if it can be done."""
        if self.every < self.horizons[-1]:
            raise UsageError(
                f"--every {self.every} is less than the {self.horizons[-1]} steps ahead that are "
                "judged; give a larger number or less far --ahead"
            )
        return self

    def items(self) -> list["Arm"]:
        """Every kind of training."""
        rates = {SGDM: self.sgdm_rate, ADAM: self.adam_rate}
        return [
            Arm(optimizer, rates[optimizer], batches, s)
            for optimizer in self.optimizers
            for batches in self.batches
            for s in self.trained_with
        ]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One kind of training.

    Attributes:
        optimizer: ``"sgdm"`` or ``"adam"``.
        learning_rate: γ.
        batches: ``"full"`` or ``"mini"``.
        s: the horizon that training itself uses.
    """

    optimizer: str
    learning_rate: float
    batches: str
    s: float

    def __str__(self) -> str:
        return f"{self.optimizer} {self.batches} {horizon_label(self.s)}"


Numbers = list[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One kind of training at one seed: one line of ``runs.jsonl``.

    Attributes:
        optimizer: ``"sgdm"`` or ``"adam"``.
        batches: ``"full"`` or ``"mini"``.
        s: the horizon that training itself used.
        learning_rate: γ.
        seed: of initial parameters and batches.
        steps: t, the numbers of updates after which predictions were judged, ``[points]``.
        error: the actual error ‖θ̂_{t+h} - θ_{t+h}‖, ``[points][horizons]``; None stands for what
            is not finite.
        moved: the distance ‖θ_{t+h} - θ_t‖, likewise.
        bounds: by how L is chosen the bound, likewise.
        parts: by name what each part adds to the bound with the L of the places visited, likewise.
        smoothness: by how it is chosen L, of the longest horizon, ``[points]``.
        train_loss: the loss on all training examples at the end.
    """

    optimizer: str
    batches: str
    s: float
    learning_rate: float
    seed: int
    steps: list[int]
    error: list[Numbers]
    moved: list[Numbers]
    bounds: dict[str, list[Numbers]]
    parts: dict[str, list[Numbers]]
    smoothness: dict[str, Numbers]
    train_loss: float | None


STUDY = Study(
    name="error-bound",
    summary="hold the bounds on prediction errors against the errors on a network",
    about=(
        "Trains a network by SGDM and by Adam, with all examples at each step and with "
        "mini-batches, and compares at steps from the first on how far predictions are off with "
        "how far they can be. Writes report.md, ratios.png, runs.jsonl and meta.json to a new "
        "folder. Ctrl-C keeps the arms that have finished."
    ),
    config=Config,
    folder="error-bound-{problem}",
    place=55,
)
