"""What an arm's gradients cost: counted in operations, and by the clock."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Piece(NamedTuple):
    """A part of the work that is counted once, however many arms do it.

    Attributes:
        control_fraction: of a step; None for a fit.
        examples: of the step or the fit.
        predicts: whether the others are predicted.
        importance: what control examples are chosen by.
    """

    control_fraction: float | None
    examples: int
    predicts: bool = False
    importance: str | None = None


def pieces(program: "Program") -> list[Piece]:
    """What there is to count for an arm: its fit, its steps, and the plain one beside them."""
    kind, size = ARMS[program.arm.kind], program.arm.batch_size
    # That "auto" chooses a control fraction at each fit is some hundred operations.
    fit = [Piece(None, program.fit_size, True, kind.importance)] if kind.predicts else []
    return fit + [_step(program, f) for f in program.gradient.fractions] + [Piece(1.0, size)]


def _step(program: "Program", control_fraction: float) -> Piece:
    kind, size = ARMS[program.arm.kind], program.arm.batch_size
    if control_fraction == 1:
        return Piece(1.0, size)
    return Piece(control_fraction, size, kind.predicts, kind.importance)


def operations(program: "Program", piece: Piece, train: Any) -> float:
    """Counts the operations of a piece; the same on every machine with the same software."""
    gradient, key = program.gradient, jax.random.key(0)
    # Shapes are enough: nothing is drawn.
    params = jax.eval_shape(program.problem.init, key, train[0])
    state = jax.eval_shape(gradient.init, params, key)
    batch = jax.eval_shape(lambda: program.draw(key, train, piece.examples))
    if piece.control_fraction is None:
        return fit_flops(gradient, params, state, batch)
    return step_flops(gradient, piece.control_fraction, params, state, batch)


def costs_of(program: "Program", counts: Mapping[Piece, float]) -> Costs:
    """Puts an arm's costs together from the operations of its pieces."""
    gradient, kind = program.gradient, ARMS[program.arm.kind]
    steps = {f: counts[_step(program, f)] for f in gradient.fractions}
    if not kind.control_fraction:
        return Costs(steps, 0.0, math.nan)
    fit = sum(counts[piece] for piece in pieces(program) if piece.control_fraction is None)
    f = min(steps)
    plain = counts[_step(program, 1.0)]
    relative = (steps[f] + fit / gradient.refit_interval) / plain
    return Costs(
        steps, fit, cost_ratio_of(f, relative, chosen_after_forward=kind.importance is not None)
    )


def timed(program: "Program", plain: "Program", train: Any) -> float:
    """Measures c by the clock, of all that a step of the arm does, fits included.

    Both programs are compiled and have run: they are timed in turn, with a fit at the first step
    and without, so that a slow moment hits them alike.

    Args:
        program: of an arm with one control fraction.
        plain: of the plain gradient at the same batch size.
        train: the training examples.
    """
    ages = {"without": 0, "with": program.gradient.refit_interval}
    seconds: dict[str, list[float]] = {"plain": [], **{name: [] for name in ages}}
    fits: dict[str, int] = {}
    for _ in range(_REPETITIONS):
        seconds["plain"].append(_run(plain, train, age=0)[0])
        for name, age in ages.items():
            taken, fits[name] = _run(program, train, age)
            seconds[name].append(taken)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
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
