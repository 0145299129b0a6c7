"""Training all arms of one seed side by side, each by its own clock."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.studies.predict_gradients.ask import Clock, Config
from experiments.studies.predict_gradients.problems import Problem, Splits
from experiments.studies.predict_gradients.program import Program
from xgrad_optax.control_variates import overall_alignment

# Checkpoints of an arm's own clock at which it is evaluated.
CHECKPOINTS = 20

_SHOWN = 10  # how often a seed says how far it has come


class Checkpoint(NamedTuple):
    """One arm after some training.

    Attributes:
        seconds: of its own clock, compilation and evaluation left out.
        flops: of its gradients and fits.
        steps: updates made.
        loss: on the validation examples.
        accuracy: on the validation examples, in per cent.
        control_fraction: f of the latest step.
        rho: running alignment, NaN where nothing predicts.
    """

    seconds: float
    flops: float
    steps: int
    loss: float
    accuracy: float
    control_fraction: float
    rho: float


class Runner:
    """One arm at one seed."""

    def __init__(self, program: Program, splits: Splits, seed: int, clock: Clock):
        self.program = program
        self._clock = clock
        self._splits = splits
        self._carry = program.start(seed, splits.train)
        self.seconds = self._flops = 0.0
        self._steps = 0
        self.checkpoints: list[Checkpoint] = [self._measured(math.nan)]

    def advance(self) -> None:
        """Some more steps."""
        begin = time.perf_counter()
        self._carry, (fractions, fits) = self.program.call(self._carry, self._splits.train)
        jax.block_until_ready(self._carry)
        self.seconds += time.perf_counter() - begin
        costs = self.program.costs
        used = {f: int(np.isclose(fractions, f).sum()) for f in costs.steps}
        self._flops += sum(costs.steps[f] * count for f, count in used.items())
        self._flops += costs.fit * int(np.sum(fits))
        self._steps += self.program.steps_per_call
        self._fraction = float(fractions[-1])

    @property
    def clock(self) -> float:
        """What the arm has used up, in the unit of the budget."""
        return self.seconds if self._clock == "seconds" else self._flops / 1e9

    def checkpoint(self) -> None:
        """Evaluates, off the clock."""
        self.checkpoints.append(self._measured(self._fraction))

    def test_accuracy(self) -> float:
        """Accuracy on the test examples, in per cent."""
        return float(_measure(self.program, self._carry[0], self._splits.test)[1])

    def rejected(self) -> int:
        """Steps and fits whose prediction was not finite."""
        return int(self._carry[2].rejected)

    def _measured(self, fraction: float) -> Checkpoint:
        params, _, state, _ = self._carry
        loss, accuracy = _measure(self.program, params, self._splits.validation)
        known = self.program.predicts and float(state.alignment.weight) > 0
        rho = float(overall_alignment(state.alignment).rho) if known else math.nan
        return Checkpoint(
            self.seconds, self._flops, self._steps, float(loss), float(accuracy), fraction, rho
        )


def race(
    programs: Sequence[Program],
    splits: Splits,
    seed: int,
    config: Config,
    show: Callable[[float], None],
) -> list[Runner]:
    """Trains every arm for the budget of its own clock; the one furthest behind goes next.

    Args:
        programs: the arms.
        splits: the data.
        seed: of weights, batches and draws.
        config: says which clock, and how much of it each arm has.
        show: is told which share is done.
    """
    runners = [Runner(program, splits, seed, config.clock) for program in programs]
    shown = 0
    while True:
        runner = min(runners, key=lambda runner: runner.clock)
        if runner.clock >= config.budget:
            return runners
        runner.advance()
        if runner.clock >= config.budget / CHECKPOINTS * len(runner.checkpoints):
            runner.checkpoint()
        done = min(each.clock for each in runners) / config.budget
        if int(_SHOWN * done) > shown:
            shown = int(_SHOWN * done)
            show(min(done, 1.0))


def _measure(program: Program, params: Any, examples: Any) -> Any:
    return _jitted_measure(program.problem)(params, examples)


@functools.cache
def _jitted_measure(problem: Problem) -> Callable[..., Any]:
    return jax.jit(problem.measure)
