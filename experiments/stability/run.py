"""The command ``stability``: predict from the Hessian where each s diverges, and look."""

import dataclasses
import functools
import math
from pathlib import Path

from experiments.arms import horizon_label
from experiments.runs import publish, run_all
from experiments.stability.config import BATCH_FACTORS, LOCAL_FACTORS, StabilityConfig
from experiments.stability.measure import Measurements, Point, crossing
from experiments.stability.problems import Problem
from xgrad_optax.stability import max_learning_rate, spectral_radius


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityRecord:
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


def stability(problem: Problem, config: StabilityConfig, folder: Path) -> bool:
    """Measures every horizon and writes the report.

    Args:
        problem: what is trained.
        config: what to measure; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all horizons finished; False after Ctrl-C, when the report covers those that did.
    """
    measurements = Measurements(problem, config.momentum, config.seed)

    @functools.cache
    def point() -> Point:
        scale = config.scale
        params, _ = measurements.train(scale.warmup_rate, 0.0, scale.warmup_steps)
        return measurements.point(params)

    records, meta = run_all(
        config.horizons,
        lambda s: [measure_horizon(measurements, point(), s, config)],
        name=horizon_label,
        noun="horizons",
        folder=folder,
        configuration=config,
    )
    from experiments.stability.report import (
        CHOICE_FILE,
        PICTURE_FILE,
        markdown_report,
        notes,
        terminal_report,
    )

    publish(
        folder,
        markdown_report(records, config, meta),
        terminal_report(records) if records else None,
        notes(config, meta),
    )
    if records:
        from experiments.stability.plots import plot_choice, plot_limits

        plot_limits(folder / PICTURE_FILE, records, config)
        plot_choice(folder / CHOICE_FILE, config.momentum)
    return meta["status"] == "complete"


def measure_horizon(
    measurements: Measurements, point: Point, s: float, config: StabilityConfig
) -> StabilityRecord:
    """Predicts and observes one horizon: near a point, at the edge, and with mini-batches."""
    scale, curvature = config.scale, point.sharpest.curvature
    limit = float(max_learning_rate(curvature, s, config.momentum))
    radii = [measurements.growth(point, f * limit, s, scale.local_steps) for f in LOCAL_FACTORS]
    local = crossing(LOCAL_FACTORS, radii)
    factors = BATCH_FACTORS if scale.batch_steps else ()
    fails = [measurements.fails(f * limit, s, scale.batch_steps) for f in factors]
    steps, sharpness = _follow_edge(measurements, s, config)
    return StabilityRecord(
        s=s,
        curvature=curvature,
        predicted_limit=limit,
        local_factors=list(LOCAL_FACTORS),
        local_predicted=[
            float(spectral_radius(curvature, f * limit, s, config.momentum)) for f in LOCAL_FACTORS
        ],
        local_measured=[_finite(radius) for radius in radii],
        local_limit=None if local is None else local * limit,
        edge_steps=steps,
        edge_sharpness=sharpness,
        batch_factors=list(factors),
        batch_fails=fails,
        batch_limit=_last_before_failure(fails, limit),
    )


def _follow_edge(
    measurements: Measurements, s: float, config: StabilityConfig
) -> tuple[list[int], list[float | None]]:
    """γh(1 + 2s) along full-batch training."""
    scale, state = config.scale, None
    steps = list(range(scale.edge_every, scale.edge_steps + 1, scale.edge_every))
    sharpness: list[float | None] = []
    for _ in steps:
        state = measurements.train(scale.edge_rate, s, scale.edge_every, state)
        sharpness.append(_finite(scale.edge_rate * measurements.sharpness(state[0]) * (1 + 2 * s)))
    return steps, sharpness


def _last_before_failure(fails: list[bool], limit: float) -> float | None:
    """The largest learning rate below the first at which training failed; None if all failed."""
    first = fails.index(True) if True in fails else len(fails)
    return BATCH_FACTORS[first - 1] * limit if first else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
