"""The command ``stability``: predict from the Hessian where each s diverges, and look."""

import functools
from collections.abc import Callable

from experiments.folder import number
from experiments.problems import load_problem
from experiments.progress import Progress
from experiments.studies.stability.ask import BATCH_FACTORS, LOCAL_FACTORS, Config, Record
from experiments.studies.stability.measure import Measurements, Point, crossing
from experiments.training.batches import check_batch
from xgrad_optax.stability import max_learning_rate, spectral_radius


def prepare(config: Config, progress: Progress) -> Callable[[float], list[Record]]:
    """Loads the problem; returns what measures a horizon."""
    del progress  # a horizon takes seconds
    problem = load_problem(config.problem, config.data_dir, config.scale.examples)
    if config.scale.batch_steps:
        check_batch(problem.train, problem.batch_size)
    measurements = Measurements(problem, config.momentum, config.seed)

    @functools.cache
    def point() -> Point:
        scale = config.scale
        params, _ = measurements.train(scale.warmup_rate, 0.0, scale.warmup_steps)
        return measurements.point(params)

    return lambda s: [measure_horizon(measurements, point(), s, config)]


def measure_horizon(measurements: Measurements, point: Point, s: float, config: Config) -> Record:
    """Predicts and observes one horizon: near a point, at the edge, and with mini-batches."""
    scale, curvature = config.scale, point.sharpest.curvature
    limit = float(max_learning_rate(curvature, s, config.momentum))
    radii = [measurements.growth(point, f * limit, s, scale.local_steps) for f in LOCAL_FACTORS]
    local = crossing(LOCAL_FACTORS, radii)
    factors = BATCH_FACTORS if scale.batch_steps else ()
    fails = [measurements.fails(f * limit, s, scale.batch_steps) for f in factors]
    steps, sharpness = _follow_edge(measurements, s, config)
    return Record(
        s=s,
        curvature=curvature,
        predicted_limit=limit,
        local_factors=list(LOCAL_FACTORS),
        local_predicted=[
            float(spectral_radius(curvature, f * limit, s, config.momentum)) for f in LOCAL_FACTORS
        ],
        local_measured=[number(radius) for radius in radii],
        local_limit=None if local is None else local * limit,
        edge_steps=steps,
        edge_sharpness=sharpness,
        batch_factors=list(factors),
        batch_fails=fails,
        batch_limit=_last_before_failure(fails, limit),
    )


def _follow_edge(
    measurements: Measurements, s: float, config: Config
) -> tuple[list[int], list[float | None]]:
    """γh(1 + 2s) along full-batch training."""
    scale, state = config.scale, None
    steps = list(range(scale.edge_every, scale.edge_steps + 1, scale.edge_every))
    sharpness: list[float | None] = []
    for _ in steps:
        state = measurements.train(scale.edge_rate, s, scale.edge_every, state)
        sharpness.append(number(scale.edge_rate * measurements.sharpness(state[0]) * (1 + 2 * s)))
    return steps, sharpness


def _last_before_failure(fails: list[bool], limit: float) -> float | None:
    """The largest learning rate below the first at which training failed; None if all failed."""
    first = fails.index(True) if True in fails else len(fails)
    return BATCH_FACTORS[first - 1] * limit if first else None
