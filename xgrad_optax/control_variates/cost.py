"""What a predicted gradient costs, read off the compiled programs and off the clock."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from xgrad_optax._typing import Params, PyTree
from xgrad_optax.control_variates import theory
from xgrad_optax.control_variates.gradient import PredictedGradient, PredictedGradientState
from xgrad_optax.control_variates.selection import batch_size_of


class CostRatio(NamedTuple):
    """c of a gradient function: cost of a predicted example over that of a full one.

    Attributes:
      flops: by XLA's count of floating-point operations; the same on every run.
      seconds: by the clock, the median over interleaved runs.
    """

    flops: float
    seconds: float


def measure_cost_ratio(
    gradient: PredictedGradient,
    params: Params,
    state: PredictedGradientState,
    batch: PyTree,
    fit_batch: PyTree | None = None,
    *,
    repetitions: int = 10,
) -> CostRatio:
    r"""Measures c from two compiled steps: the plain one, and the one with the smallest fraction.

    From the relative cost C of a step with control fraction f, :math:`c = (C - f)/(1 - f)`, or
    :math:`c = C - f` where control examples are chosen after the forward pass. Everything that a
    step does for the prediction is in it, and the fits too if ``fit_batch`` is given.

    Args:
      gradient: from ``predicted_value_and_grad``.
      params: parameters.
      state: its state.
      batch: a mini-batch of the size to be used; its size matters, its contents do not.
      fit_batch: what ``fit`` will be called with; adds one fit per ``refit_interval`` steps.
      repetitions: how often each program is timed.

    Returns:
      c by flops and by seconds. May exceed 1: then no alignment pays.

    Raises:
      ValueError: the gradient function has no control fraction below 1, or ``repetitions`` < 1.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from xgrad_optax.control_variates import low_precision, predicted_value_and_grad
      >>> gradient = predicted_value_and_grad(
      ...     lambda params, batch: jnp.sum((batch @ params) ** 2, axis=1), low_precision()
      ... )
      >>> params, batch = jnp.ones((64, 64)), jnp.ones((32, 64))
      >>> state = gradient.init(params, jax.random.key(0))
      >>> measure_cost_ratio(gradient, params, state, batch).flops > 0.9  # a backward pass too
      True
    """
    f = min(gradient.fractions)
    if f == 1:
        raise ValueError("a control fraction of 1 predicts nothing: there is no cost to measure.")
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}.")
    calls = {
        "plain": (gradient.at_fraction(1.0), (params, state, batch)),
        "predicted": (gradient.at_fraction(f), (params, state, batch)),
    }
    if fit_batch is not None:
        calls["fit"] = (gradient.fit, (params, state, fit_batch))
    programs = {name: _compiled(function, *args) for name, (function, args) in calls.items()}
    flops = {name: _counted(program) for name, program in programs.items()}
    if fit_batch is not None:
        flops["fit"] = fit_flops(gradient, params, state, fit_batch)
    arguments = {name: args for name, (_, args) in calls.items()}

    def ratio(costs: dict[str, float]) -> float:
        total = costs["predicted"] + costs.get("fit", 0.0) / gradient.refit_interval
        return theory.cost_ratio_of(
            f, total / costs["plain"], chosen_after_forward=bool(gradient.importance)
        )

    return CostRatio(ratio(flops), ratio(_median_seconds(programs, arguments, repetitions)))


def step_flops(
    gradient: PredictedGradient,
    control_fraction: float,
    params: Params,
    state: PredictedGradientState,
    batch: PyTree,
) -> float:
    """Floating-point operations of one call with this control fraction, by XLA's count."""
    return _flops(gradient.at_fraction(control_fraction), params, state, batch)


def fit_flops(
    gradient: PredictedGradient, params: Params, state: PredictedGradientState, fit_batch: PyTree
) -> float:
    """Floating-point operations of one fit: XLA's count, and what it cannot see."""
    # The body of a loop counts once, so the loops over chunks must be of one chunk.
    unrolled = dataclasses.replace(
        gradient, predictor=gradient.predictor.in_one_chunk(), chunk_size=batch_size_of(fit_batch)
    )
    counted = _flops(unrolled.fit, params, state, fit_batch)
    return counted + gradient.predictor.uncounted_flops


# What is only counted needs no fast machine code: on CPUs that is half of the compilation.
_COUNTED_ONLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def _flops(function: Callable[..., Any], *arguments: Any) -> float:
    options = _COUNTED_ONLY if jax.default_backend() == "cpu" else None
    return _counted(jax.jit(function).lower(*arguments).compile(options))


def _compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function).lower(*arguments).compile()


def _counted(program: Any) -> float:
    return float(program.cost_analysis()["flops"])


def _median_seconds(
    programs: Mapping[str, Any], arguments: Mapping[str, Any], repetitions: int
) -> dict[str, float]:
    """Runs the programs in turn, so that a slow moment hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repetitions + 1):  # the first round warms up
        for name, program in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(*arguments[name]))
            times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values[1:])) for name, values in times.items()}
