"""What is measured of the moments, on which arms, and what one run leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.arms import horizon_label
from experiments.kinds import (
    below_one,
    chosen_learning_rates,
    count,
    horizon,
    learning_rate_origin,
    positive,
)
from experiments.options import data_dir, derived, learning_rates, many, names, one, output, seeds
from experiments.problems import examples_field, problem_field
from experiments.study import Study
from experiments.tasks.constant import training_of

B1, B2 = 0.9, 0.999  # Adam's
LAG = 10  # steps between the two first moments whose directions are compared

# How a quantity of an arm is judged: by its ratio to plain's, for what is positive; by its
# difference from plain's, for what may change its sign; by itself.
RATIO, DIFFERENCE, ITSELF = "ratio", "difference", "itself"

OPTIMIZERS = ("sgdm", "adam")
_TASKS = {"digits": "digits", "cifar10": "cifar10-lenet"}  # whose rates a problem takes


class Quantity(NamedTuple):
    """One thing that is measured along training.

    Attributes:
        symbol: what heads its column and its panels.
        judged: as one of the above.
    """

    symbol: str
    judged: str


# The names are fields of the records; page.md says what each is. Drawn are those of MEASURED.
MEASURED: Mapping[str, Quantity] = {
    "loss": Quantity("f(θ)", RATIO),
    "gradient": Quantity("‖g‖", RATIO),
    "full_gradient": Quantity("‖∇f(θ)‖", RATIO),
    "first": Quantity("‖m‖", RATIO),
    "downhill": Quantity("cos(m, ∇f(θ))", DIFFERENCE),
    "persistence": Quantity("cos(m, earlier m)", DIFFERENCE),
    "curvature": Quantity("curvature along d", DIFFERENCE),
}
BESIDE_PLAIN: Mapping[str, Quantity] = {
    "first_agreement": Quantity("cos(m, plain's m)", ITSELF),
    "root_second_agreement": Quantity("cos(√v̂, plain's √v̂)", ITSELF),
    "root_second": Quantity("‖√v̂‖", RATIO),
    "signal": Quantity("‖m‖ / ‖√v̂‖", RATIO),
    "update": Quantity("‖d‖", RATIO),
}
QUANTITIES: Mapping[str, Quantity] = {**MEASURED, **BESIDE_PLAIN}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments moments``."""

    problem: str = problem_field()
    data_dir: str | None = data_dir()
    examples: int | None = examples_field()
    optimizers: tuple[str, ...] = names("optimizer", OPTIMIZERS, recorded=False)
    horizons: tuple[float, ...] = many(
        horizon, (0.0, 1.0, 3.0), "S", "steps to predict ahead; 0 is the plain optimizer"
    )
    learning_rates: Mapping[str, float] = learning_rates()
    learning_rate_origin: str = derived("how the rates were chosen")
    factors: tuple[float, ...] = many(
        positive, (1.0, 0.25), "X", "multiples of the learning rates to train at"
    )
    momentum: float = one(below_one("a number"), 0.9, "MU", "of SGDM, below 1")
    epochs: int = one(count, 16, "N")
    every: int = one(count, 3, "N", "steps from one measurement to the next")
    seeds: tuple[int, ...] = seeds(5)
    output: Path | None = output()

    def completed(self) -> "Config":
        """Returns the configuration with the learning rates."""
        asked: Any = self.learning_rates  # texts until now
        chosen = chosen_learning_rates(asked, self.optimizers)
        training = training_of(_TASKS[self.problem])
        return dataclasses.replace(
            self,
            learning_rates={
                name: chosen.get(name, training.learning_rates[name]) for name in self.optimizers
            },
            learning_rate_origin=learning_rate_origin(chosen, training.origin),
        )

    def items(self) -> list["Arm"]:
        """Every horizon of every optimizer at each of its rates."""
        return [
            Arm(optimizer, float(f"{factor * rate:.12g}"), s)  # 0.3, not 0.30000000000000004
            for optimizer, rate in self.learning_rates.items()
            for factor in self.factors
            for s in self.horizons
        ]


class Arm(NamedTuple):
    """One way to train.

    Attributes:
        optimizer: its name.
        learning_rate: γ.
        s: steps predicted ahead.
    """

    optimizer: str
    learning_rate: float
    s: float

    def __str__(self) -> str:
        return f"{self.optimizer} γ={self.learning_rate:g} {horizon_label(self.s)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one seed: one line of ``runs.jsonl``; lists have one entry for each epoch.

    An entry is the mean over the measurements of the epoch, of what is judged by ratios the
    geometric mean. None stands for a number that is not finite or not known so early, and for a
    list of what SGDM does not have.

    Attributes:
        optimizer: name of the optimizer.
        learning_rate: γ.
        s: steps predicted ahead.
        seed: of initial parameters and batches.
        loss: f, on all training examples, at the true weights θ.
        gradient: norm of the batch's gradient g where it is taken, at the predicted weights.
        full_gradient: norm of the gradient of f at θ.
        first: norm of the first moment m: the velocity, or Adam's with its bias corrected.
        downhill: cosine of m and the gradient of f at θ.
        persistence: cosine of m and the m of ``LAG`` steps before.
        curvature: of f at θ along the last update d.
        first_agreement: cosine of m and plain's at the same seed and step.
        root_second_agreement: the same of the roots of the second moments.
        root_second: norm of the root of the second moment v, its bias corrected.
        signal: norm of m over that of the root of v.
        update: norm of d.
    """

    optimizer: str
    learning_rate: float
    s: float
    seed: int
    loss: list[float | None]
    gradient: list[float | None]
    full_gradient: list[float | None]
    first: list[float | None]
    downhill: list[float | None]
    persistence: list[float | None]
    curvature: list[float | None]
    first_agreement: list[float | None]
    root_second_agreement: list[float | None] | None = None
    root_second: list[float | None] | None = None
    signal: list[float | None] | None = None
    update: list[float | None]


STUDY = Study(
    name="moments",
    summary="see what prediction does to the moments: their norms, directions and curvatures",
    about=(
        "Trains a network by SGDM and Adam, plain and with prediction, from the same initial "
        "parameters and batches at each seed, and measures the moments all along. Writes "
        "report.md, moments.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms "
        "that have finished. About one minute for digits on one core, longer for cifar10."
    ),
    config=Config,
    folder="moments-{problem}",
    place=55,
)
