"""What the experiment was asked to do, with every default filled in; nothing here imports JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

CURVES_FILE = "curves.png"


@dataclasses.dataclass(frozen=True)
class ArmKind:
    """How gradients are made.

    Attributes:
        summary: one line for ``python -m experiments list`` and the report.
        control_fraction: f, ``"auto"``, or None for the plain gradient.
        predicts: whether the neural tangent kernel predicts the others' gradients.
        importance: what control examples are chosen by.
    """

    summary: str
    control_fraction: float | Literal["auto"] | None
    predicts: bool = False
    importance: Literal["loss", "residual", "output_gradient"] | None = None


PLAIN = "plain"

Clock = Literal["seconds", "gigaflops"]

ARMS: Mapping[str, ArmKind] = {
    PLAIN: ArmKind("the plain gradient, at each batch size", None),
    "predicted": ArmKind("a quarter true, three quarters predicted, as in the paper", 0.25, True),
    "auto": ArmKind("the same, with the control fraction chosen at each fit", "auto", True),
    "importance": ArmKind(
        "a quarter, chosen by importance; nothing is predicted", 0.25, False, "output_gradient"
    ),
    "combined": ArmKind(
        "a quarter, chosen by importance; the others are predicted", 0.25, True, "output_gradient"
    ),
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One line of the plot.

    Attributes:
        kind: key into ``ARMS``.
        batch_size: examples per step.
        learning_rate: Adam's.
    """

    kind: str
    batch_size: int
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.kind} {self.batch_size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """The configuration of a run; it goes into ``meta.json`` whole.

    Attributes:
        problem: key into ``PROBLEMS``.
        arms: what is compared.
        seeds: of weights, batches and draws.
        clock: what each arm is given the same amount of, and what ``"auto"`` weighs variance
            against.
        budget: how much of it, per seed.
        label_noise: chance that a label is replaced by a random one, each time that it is seen.
        fit_examples: n of the predictor.
        rank: k of the predictor.
        refit_interval: steps between fits.
        steps_per_call: steps between two looks at the clock.
        target: validation accuracy in per cent whose cost is reported; None for the one that the
            best plain arm has after 80 % of its budget.
    """

    problem: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    clock: Clock
    budget: float
    label_noise: float
    fit_examples: int
    rank: int
    refit_interval: int
    steps_per_call: int
    target: float | None


# Name -> one line for `python -m experiments list`.
PROBLEMS: Mapping[str, str] = {
    "digits": "scikit-learn's handwritten digits, two small convolutions",
    "digits-dense": "the same digits, a fully connected network",
    "cifar10-vit": "CIFAR-10 (TFDS), a small vision transformer",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a problem is run with unless told otherwise.

    Attributes:
        plain_batch_sizes: of the plain gradient.
        batch_size: of the others.
        learning_rates: Adam's, by arm (``"plain 64"``), where it is not ``learning_rate``.
        learning_rate: Adam's for all others.
        seconds: of each arm's own clock, per seed.
        fit_examples: n of the predictor.
        rank: k of the predictor.
        refit_interval: steps between fits.
        steps_per_call: steps between two looks at the clock.
    """

    plain_batch_sizes: tuple[int, ...]
    batch_size: int
    learning_rates: Mapping[str, float]
    learning_rate: float
    seconds: float
    fit_examples: int
    rank: int
    refit_interval: int
    steps_per_call: int


DEFAULTS: Mapping[str, Defaults] = {
    "digits": Defaults(
        plain_batch_sizes=(32, 64, 128),
        batch_size=256,
        # By hand: larger batches bear larger steps.
        learning_rates={"plain 32": 3e-3, "plain 64": 3e-3},
        learning_rate=1e-2,
        seconds=4.0,
        fit_examples=256,
        rank=32,
        refit_interval=50,
        steps_per_call=25,
    ),
    "digits-dense": Defaults(
        plain_batch_sizes=(32, 64, 128),
        batch_size=256,
        learning_rates={},
        learning_rate=1e-3,
        seconds=4.0,
        fit_examples=256,
        rank=32,
        refit_interval=50,
        steps_per_call=25,
    ),
    "cifar10-vit": Defaults(
        plain_batch_sizes=(32, 64, 128),
        batch_size=256,
        learning_rates={},
        learning_rate=1e-3,
        seconds=40.0,
        fit_examples=512,
        rank=32,
        refit_interval=100,
        steps_per_call=5,
    ),
}
