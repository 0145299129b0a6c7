"""What the commands ``stability`` and ``horizon`` were asked to do; nothing here imports JAX."""

import dataclasses
from collections.abc import Mapping


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
class StabilityConfig:
    """The configuration of ``python -m experiments stability``; it goes into ``meta.json`` whole.

    Attributes:
        problem: key into ``PROBLEMS``.
        horizons: the s that are measured.
        momentum: μ.
        seed: of initial parameters and batches.
        scale: how much is measured.
    """

    problem: str
    horizons: tuple[float, ...]
    momentum: float
    seed: int
    scale: Scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class HorizonConfig:
    """The configuration of ``python -m experiments horizon``; it goes into ``meta.json`` whole.

    Attributes:
        problem: key into ``PROBLEMS``.
        examples: number of training examples, None for the problem's default.
        learning_rates: γ of each group of runs.
        horizons: the fixed horizons.
        s_max: bound of the one that sets itself.
        momentum: μ.
        epochs: passes over the training examples.
        seeds: of initial parameters and batches, the same for every arm.
    """

    problem: str
    examples: int | None
    learning_rates: tuple[float, ...]
    horizons: tuple[float, ...]
    s_max: float
    momentum: float
    epochs: int
    seeds: tuple[int, ...]
