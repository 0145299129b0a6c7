"""What is predicted and observed, and what one horizon leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments.arms import horizon_label
from experiments.kinds import horizon, seed
from experiments.options import data_dir, derived, many, one, output
from experiments.problems import examples_field, momentum_field, problem_field
from experiments.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured on a problem, by what two cores can do.

    Attributes:
        examples: number of training examples, None for all.
        warmup_steps: full-batch steps of plain SGDM to the point that the local test is made at.
        local_steps: steps of the local test.
        edge_steps: full-batch steps of training from the start.
        edge_every: steps between two measurements of the sharpness.
        batch_steps: mini-batch steps of training from the start; 0 leaves that out.
        warmup_rate: γ of the warm-up.
        edge_rate: γ of full-batch training, the same for every s.
    """

    examples: int | None
    warmup_steps: int
    local_steps: int
    edge_steps: int
    edge_every: int
    batch_steps: int
    warmup_rate: float
    edge_rate: float


SCALES: Mapping[str, Scale] = {
    "digits": Scale(
        examples=None,
        warmup_steps=100,
        local_steps=40,
        edge_steps=200,
        edge_every=10,
        batch_steps=330,
        warmup_rate=0.05,
        edge_rate=0.1,
    ),
    "cifar10": Scale(
        examples=256,
        warmup_steps=60,
        local_steps=16,
        edge_steps=100,
        edge_every=20,
        batch_steps=0,
        warmup_rate=0.05,
        edge_rate=0.1,
    ),
}

# The learning rates that are tried, as multiples of the predicted limit.
LOCAL_FACTORS = (0.8, 0.9, 0.97, 0.99, 1.01, 1.03, 1.1)
BATCH_FACTORS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments stability``."""

    problem: str = problem_field()
    data_dir: str | None = data_dir()
    examples: int | None = examples_field(recorded=False)
    momentum: float = momentum_field()
    horizons: tuple[float, ...] = many(
        horizon, (0.0, 0.5, 1.0, 2.0, 4.0), "S", "steps to predict ahead"
    )
    seed: int = one(seed, 0, "N")
    scale: Scale = derived("how much is measured")
    output: Path | None = output()

    def completed(self) -> "Config":
        """Returns the configuration with the problem's scale."""
        scale = SCALES[self.problem]
        if self.examples is not None:
            scale = dataclasses.replace(scale, examples=self.examples)
        return dataclasses.replace(self, scale=scale)

    def items(self) -> tuple[float, ...]:
        """The horizons."""
        return self.horizons


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One horizon: one line of ``runs.jsonl``. None stands for what was not reached.

    Attributes:
        s: the horizon.
        curvature: h, the largest eigenvalue of the Hessian at the point of the local test.
        predicted_limit: the largest stable learning rate there, by the formula.
        local_factors: learning rates of the local test, as multiples of the predicted limit.
        local_predicted: spectral radius by the formula, for each.
        local_measured: the same fitted to what the optimizer did.
        local_limit: the learning rate at which the measured radius is 1.
        edge_steps: after how many full-batch steps the sharpness was measured.
        edge_sharpness: γh(1 + 2s) there; the formula's limit is 2(1 + μ).
        batch_factors: learning rates of mini-batch training, as multiples of the predicted limit.
        batch_fails: whether training failed, for each.
        batch_limit: the largest learning rate below which none failed.
    """

    s: float
    curvature: float
    predicted_limit: float
    local_factors: list[float]
    local_predicted: list[float]
    local_measured: list[float | None]
    local_limit: float | None
    edge_steps: list[int]
    edge_sharpness: list[float | None]
    batch_factors: list[float]
    batch_fails: list[bool]
    batch_limit: float | None


STUDY = Study(
    name="stability",
    summary="predict from the Hessian at which learning rate each horizon diverges, and look",
    about=(
        "Measures the largest curvature of a network's loss, predicts from it the largest "
        "stable learning rate of SGDM for each horizon, and observes it: near that point, in "
        "mini-batch training and in full-batch training. Writes report.md, limits.png, "
        "choice.png, late.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the horizons "
        "that have finished. About one minute for digits on two cores, longer for cifar10."
    ),
    config=Config,
    folder="stability-{problem}",
    noun="horizons",
    item_name=horizon_label,
    place=70,
)
