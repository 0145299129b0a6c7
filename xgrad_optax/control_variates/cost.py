"""What a predicted gradient costs, read off the compiled programs and off the clock."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from xgrad_optax._typing import Params, PyTree
from xgrad_optax.control_variates import theory
from xgrad_optax.control_variates.gradient import PredictedGradient, PredictedGradientState


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
    programs = {
        "plain": _compiled(gradient.at_fraction(1.0), params, state, batch),
        "predicted": _compiled(gradient.at_fraction(f), params, state, batch),
    }
    if fit_batch is not None:
        programs["fit"] = _compiled(gradient.fit, params, state, fit_batch)
    arguments = dict.fromkeys(programs, (params, state, batch))
    arguments["fit"] = (params, state, fit_batch)
    flops = {name: float(program.cost_analysis()["flops"]) for name, program in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repetitions + 1):  # the first round warms up
        for name, program in programs.items():
            times[name].append(_seconds(program, arguments[name]))
    seconds = {name: float(np.median(values[1:])) for name, values in times.items()}

    def ratio(costs: dict[str, float]) -> float:
        total = costs["predicted"] + costs.get("fit", 0.0) / gradient.refit_interval
        return theory.cost_ratio_of(
            f, total / costs["plain"], chosen_after_forward=bool(gradient.importance)
        )

    return CostRatio(ratio(flops), ratio(seconds))


def _compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function).lower(*arguments).compile()


def _seconds(program: Any, arguments: Any) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - begin
