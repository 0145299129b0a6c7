"""What is compared and on what, and what one run leaves."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from experiments.errors import UsageError
from experiments.kinds import count, positive, share
from experiments.options import (
    choice,
    data_dir,
    derived,
    listed,
    many,
    names,
    one,
    output,
    seeds,
)
from experiments.study import Study


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


Curve = list[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments predict-gradients``."""

    problem: str = choice("problem", PROBLEMS, "digits")
    arms: tuple[Arm, ...] = names(
        "arm", ARMS, help=f"of {' '.join(ARMS)}; default: all; {PLAIN!r} is always there", shown=""
    )
    plain_batch_sizes: tuple[int, ...] = many(
        count, None, "N", shown="the problem's", recorded=False
    )
    batch_size: int = one(count, None, "N", "of the other arms, a multiple of 8", recorded=False)
    learning_rate: float | None = one(
        positive, None, "RATE", "of all arms", shown="the problem's, by arm", recorded=False
    )
    label_noise: float = one(
        share,
        0.0,
        "P",
        "chance that a training label is a random one, each time it is seen",
    )
    seconds: float | None = one(
        positive, help="of each arm's own clock, per seed", either="budget", recorded=False
    )
    gigaflops: float | None = one(
        positive,
        help="instead of seconds: operations of each arm, per seed; the same on every machine",
        either="budget",
        recorded=False,
    )
    seeds: tuple[int, ...] = seeds(3)
    fit_examples: int = one(count, None, "N", "what the predictor learns from")
    rank: int = one(count, None, "K", "directions that the predictor keeps")
    refit_interval: int = one(count, None, "N", "steps between fits")
    target: float | None = one(positive, None, "PERCENT", "accuracy whose cost is reported")
    clock: Clock = derived("what each arm has the same amount of, and what 'auto' weighs against")
    budget: float = derived("how much of it, per seed")
    steps_per_call: int = derived("steps between two looks at the clock")
    data_dir: str | None = data_dir()
    output: Path | None = output()

    def completed(self) -> "Config":
        """Returns the configuration with what the problem decides."""
        usual = DEFAULTS[self.problem]
        complete = dataclasses.replace(
            self,
            arms=self._arms(usual),
            fit_examples=self.fit_examples or usual.fit_examples,
            rank=self.rank or usual.rank,
            refit_interval=self.refit_interval or usual.refit_interval,
            clock="gigaflops" if self.gigaflops else "seconds",
            budget=self.gigaflops or self.seconds or usual.seconds,
            steps_per_call=usual.steps_per_call,
        )
        if complete.rank > complete.fit_examples:
            raise UsageError(
                f"argument --rank: {complete.rank} directions cannot be learnt from "
                f"{complete.fit_examples} examples; give --rank at most --fit-examples"
            )
        return complete

    def _arms(self, usual: "Defaults") -> tuple[Arm, ...]:
        """The plain arms, then the others, each with its learning rate."""
        size = self.batch_size or usual.batch_size
        if size % 8:
            raise UsageError(
                f"argument --batch-size: {size} is not a multiple of 8; control fractions down "
                "to 1/8 need blocks of that size"
            )
        asked: Any = self.arms  # names until now
        arms = [(PLAIN, plain) for plain in self.plain_batch_sizes or usual.plain_batch_sizes]
        arms += [(kind, size) for kind in asked if kind != PLAIN]

        def rate(kind: str, size: int) -> float:
            tuned = usual.learning_rates.get(f"{kind} {size}", usual.learning_rate)
            return self.learning_rate or tuned

        return tuple(Arm(kind, size, rate(kind, size)) for kind, size in arms)

    def items(self) -> tuple[int, ...]:
        """The seeds: all arms of one take turns."""
        return self.seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one seed; curves hold one number per checkpoint, None for what is not a number.

    Attributes:
        arm: the arm's name.
        kind: key into ``ARMS``.
        batch_size: examples per step.
        learning_rate: Adam's.
        seed: the seed.
        cost_ratio_flops: c by floating-point operations, fits included; None for plain arms.
        cost_ratio_seconds: c by the clock, of whole steps: batch and optimizer included.
        test_accuracy: after the last step, in per cent.
        rejected: steps and fits whose prediction was not finite.
        seconds: of the arm's own clock.
        flops: floating-point operations of gradients and fits.
        steps: updates made.
        loss: validation loss.
        accuracy: validation accuracy in per cent.
        control_fraction: f of the latest step.
        rho: running alignment.
    """

    arm: str
    kind: str
    batch_size: int
    learning_rate: float
    seed: int
    cost_ratio_flops: float | None
    cost_ratio_seconds: float | None
    test_accuracy: float | None
    rejected: int
    seconds: list[float]
    flops: list[float]
    steps: list[int]
    loss: Curve
    accuracy: list[float]
    control_fraction: Curve
    rho: Curve


def _names() -> Iterator[str]:
    yield from listed("problems of predict-gradients", PROBLEMS, width=12)
    kinds = {name: kind.summary for name, kind in ARMS.items()}
    yield from listed("arms of predict-gradients", kinds, width=12)


STUDY = Study(
    name="predict-gradients",
    summary="compare gradients with control variates with the best plain batch size",
    about=(
        "Trains one network with the plain gradient at several batch sizes, and with predicted "
        "gradients, each arm by its own clock; arms take turns. Writes report.md, curves.png, "
        "runs.jsonl and meta.json to a new folder. Ctrl-C keeps the seeds that have finished."
    ),
    config=Config,
    folder="predict-gradients-{problem}",
    noun="seeds",
    item_name=lambda seed: f"seed {seed}",
    place=40,
    listing=_names,
)
