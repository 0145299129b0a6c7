"""What an arm's gradients cost: counted in operations, and by the clock."""

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.studies.predict_gradients.ask import ARMS
from xgrad_optax.control_variates import cost_ratio_of, fit_flops, step_flops

if TYPE_CHECKING:
    from experiments.studies.predict_gradients.program import Program

_REPETITIONS = 3


@dataclasses.dataclass(frozen=True)
class Costs:
    """What an arm's gradients cost in floating-point operations.

    Attributes:
        steps: one step, by control fraction.
        fit: one fit, 0 where nothing is fitted.
        ratio: c, fits included, NaN for the plain gradient.
    """

    steps: dict[float, float]
    fit: float
    ratio: float


def counted(program: "Program", train: Any) -> Costs:
    """Counts the operations of an arm; the same on every machine with the same software."""
    gradient, kind = program.gradient, ARMS[program.arm.kind]
    key = jax.random.key(0)
    params = program.problem.init(key, train[0])
    arguments = (params, gradient.init(params, key))
    batch = program.draw(key, train, program.arm.batch_size)
    steps = {f: step_flops(gradient, f, *arguments, batch) for f in gradient.fractions}
    if not kind.control_fraction:
        return Costs(steps, 0.0, math.nan)
    fit = 0.0
    if kind.predicts:
        fit = fit_flops(gradient, *arguments, program.draw(key, train, program.fit_size))
    plain = steps.get(1.0) or step_flops(gradient, 1.0, *arguments, batch)
    f = min(steps)
    relative = (steps[f] + fit / gradient.refit_interval) / plain
    return Costs(
        steps, fit, cost_ratio_of(f, relative, chosen_after_forward=kind.importance is not None)
    )


def timed(program: "Program", plain: "Program", train: Any) -> float:
    """Measures c by the clock, of all that a step of the arm does, fits included.

    Both programs are compiled already: they are timed in turn, with a fit at the first step and
    without, so that a slow moment hits them alike.

    Args:
        program: of an arm with one control fraction.
        plain: of the plain gradient at the same batch size.
        train: the training examples.
    """
    ages = {"without": 0, "with": program.gradient.refit_interval}
    seconds: dict[str, list[float]] = {"plain": [], **{name: [] for name in ages}}
    fits: dict[str, int] = {}
    for _ in range(_REPETITIONS + 1):  # the first round warms up
        seconds["plain"].append(_run(plain, train, age=0)[0])
        for name, age in ages.items():
            taken, fits[name] = _run(program, train, age)
            seconds[name].append(taken)
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    more = fits["with"] - fits["without"]
    fit = (medians["with"] - medians["without"]) / more if more else 0.0
    step = (medians["without"] - fit * fits["without"]) / program.steps_per_call
    kind = ARMS[program.arm.kind]
    assert isinstance(kind.control_fraction, float)
    return cost_ratio_of(
        kind.control_fraction,
        (step + fit / program.gradient.refit_interval) / (medians["plain"] / plain.steps_per_call),
        chosen_after_forward=kind.importance is not None,
    )


def _run(program: "Program", train: Any, age: int) -> tuple[float, int]:
    """Times one call whose last fit was so many steps ago; also returns how many fits it made."""
    params, opt_state, state, key = program.start(0, train)
    state = state._replace(age=jax.numpy.int32(age))
    begin = time.perf_counter()
    carry, (_, fits) = program.call((params, opt_state, state, key), train)
    jax.block_until_ready(carry)
    return time.perf_counter() - begin, int(np.sum(fits))
