"""What is kept of a run: one arm at one seed, one line of ``runs.jsonl``."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.predict_gradients.race import Runner

Curve = list[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictRecord:
    """One arm at one seed; curves hold one number per checkpoint, None for what is not a number.

    Attributes:
        arm: the arm's name.
        kind: key into ``ARMS``.
        batch_size: examples per step.
        learning_rate: Adam's.
        seed: the seed.
        cost_ratio_flops: c by floating-point operations, fits included; None for plain arms.
        cost_ratio_seconds: c by the clock, likewise.
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


def make_record(runner: "Runner", seed: int) -> PredictRecord:
    """Turns what a runner measured into its record."""
    arm, costs = runner.program.arm, runner.program.costs
    seconds, flops, steps, loss, accuracy, fractions, rho = zip(*runner.checkpoints, strict=True)
    return PredictRecord(
        arm=str(arm),
        kind=arm.kind,
        batch_size=arm.batch_size,
        learning_rate=arm.learning_rate,
        seed=seed,
        cost_ratio_flops=_curve([costs.ratio_flops])[0],
        cost_ratio_seconds=_curve([costs.ratio_seconds])[0],
        test_accuracy=_curve([runner.test_accuracy()])[0],
        rejected=runner.rejected(),
        seconds=[round(s, 4) for s in seconds],
        flops=list(flops),
        steps=list(steps),
        loss=_curve(loss),
        accuracy=[round(a, 3) for a in accuracy],
        control_fraction=_curve(fractions),
        rho=_curve(rho),
    )


def _curve(values: Sequence[float]) -> Curve:
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
