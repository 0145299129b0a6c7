"""Training all arms of one seed side by side, each by its own clock."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.predict_gradients.config import ARMS, Arm, Clock, PredictConfig
from experiments.predict_gradients.problems import Problem, Splits, with_label_noise
from experiments.training.batches import number_of_examples, take
from xgrad_optax.control_variates import (
    HeadedParams,
    PredictedGradient,
    cost_ratio_of,
    fit_flops,
    from_function,
    measure_cost_ratio,
    neural_tangent_kernel,
    overall_alignment,
    predicted_value_and_grad,
    step_flops,
)

# Checkpoints of an arm's own clock at which it is evaluated.
CHECKPOINTS = 20

# Held out at each fit to measure the alignment on.
_EVALUATED = 64


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


@dataclasses.dataclass(frozen=True)
class Costs:
    """What an arm's gradients cost; in floating-point operations unless said otherwise.

    Attributes:
        steps: one step, by control fraction.
        fit: one fit, 0 where nothing is fitted.
        ratio_flops: c, fits included, NaN for the plain gradient.
        ratio_seconds: the same by the clock.
    """

    steps: dict[float, float]
    fit: float
    ratio_flops: float
    ratio_seconds: float

    def ratio(self, clock: Clock) -> float:
        """Returns c by this clock; 1 for the plain gradient."""
        ratio = self.ratio_seconds if clock == "seconds" else self.ratio_flops
        return 1.0 if math.isnan(ratio) else ratio


class Program:
    """An arm, compiled once for all seeds."""

    def __init__(self, problem: Problem, arm: Arm, config: PredictConfig, train: Any):
        self.arm = arm
        self._config = config
        self.problem = problem
        self.clock: Clock = config.clock
        self.steps_per_call = config.steps_per_call
        self.predicts = ARMS[arm.kind].predicts
        self._transform = optax.adam(arm.learning_rate)
        # A first guess: measuring needs a gradient function, "auto" needs what is measured.
        gradient = self._make_gradient(cost_ratio=0.5)
        self.costs = self._measure_costs(gradient, train)
        self.gradient = self._make_gradient(cost_ratio=max(self.costs.ratio(config.clock), 0.0))
        self.call = jax.jit(self._steps, donate_argnums=0)

    def start(self, seed: int, train: Any) -> Any:
        """Returns the carry of an untrained network."""
        init, gradient, draws = jax.random.split(jax.random.key(seed), 3)
        params = self.problem.init(init, train[0])
        return params, self._transform.init(params), self.gradient.init(params, gradient), draws

    def _make_gradient(self, cost_ratio: float) -> PredictedGradient:
        """The plain arm's is one with a control fraction of 1."""
        kind, config = ARMS[self.arm.kind], self._config
        predictor = (
            neural_tangent_kernel(config.fit_examples, config.rank)
            if kind.predicts
            else from_function(_zero)
        )
        return predicted_value_and_grad(
            self.problem.loss,
            predictor,
            control_fraction=kind.control_fraction or 1.0,
            importance=kind.importance,
            refit_interval=config.refit_interval,
            cost_ratio=cost_ratio,
        )

    def _steps(self, carry: Any, train: Any) -> tuple[Any, Any]:
        """Some steps; returns the control fraction of each, and whether a fit came before it."""
        return jax.lax.scan(
            lambda carry, _: self._step(carry, train), carry, None, self.steps_per_call
        )

    def _step(self, carry: Any, train: Any) -> tuple[Any, Any]:
        params, opt_state, state, key = carry
        key, batch_key, fit_key = jax.random.split(key, 3)
        due = self.gradient.is_due(state) & self.predicts
        if self.predicts:

            def refit() -> Any:
                return self.gradient.fit(params, state, self._draw(fit_key, train, self._fit_size))

            state = jax.lax.cond(due, refit, lambda: state)
        used = self.gradient.control_fraction(state)
        batch = self._draw(batch_key, train, self.arm.batch_size)
        (_, state), grads = self.gradient(params, state, batch)
        updates, opt_state = self._transform.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state, key), (used, due)

    def _draw(self, key: jax.Array, examples: Any, size: int) -> Any:
        """Draws with replacement, so that every row is an independent draw from the data."""
        which, noise = jax.random.split(key)
        indices = jax.random.randint(which, (size,), 0, number_of_examples(examples))
        return with_label_noise(take(examples, indices), self._config.label_noise, noise)

    @property
    def _fit_size(self) -> int:
        return self._config.fit_examples + _EVALUATED

    def _measure_costs(self, gradient: PredictedGradient, train: Any) -> Costs:
        key = jax.random.key(0)
        params = self.problem.init(key, train[0])
        arguments = (params, gradient.init(params, key))
        batch = self._draw(key, train, self.arm.batch_size)
        steps = {f: step_flops(gradient, f, *arguments, batch) for f in gradient.fractions}
        if not ARMS[self.arm.kind].control_fraction:
            return Costs(steps, 0.0, math.nan, math.nan)
        fit_batch = self._draw(key, train, self._fit_size) if self.predicts else None
        fit = 0.0 if fit_batch is None else fit_flops(gradient, *arguments, fit_batch)
        if self.clock == "seconds":  # else timing would only take time
            measured = measure_cost_ratio(gradient, *arguments, batch, fit_batch, repetitions=3)
            return Costs(steps, fit, *measured)
        plain, f = step_flops(gradient, 1.0, *arguments, batch), min(steps)
        relative = (steps[f] + fit / self._config.refit_interval) / plain
        by_importance = ARMS[self.arm.kind].importance is not None
        ratio = cost_ratio_of(f, relative, chosen_after_forward=by_importance)
        return Costs(steps, fit, ratio, math.nan)


class Runner:
    """One arm at one seed."""

    def __init__(self, program: Program, splits: Splits, seed: int):
        self.program = program
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
        return self.seconds if self.program.clock == "seconds" else self._flops / 1e9

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


def race(programs: Sequence[Program], splits: Splits, seed: int, budget: float) -> list[Runner]:
    """Trains every arm for the budget of its own clock; the one furthest behind goes next."""
    runners = [Runner(program, splits, seed) for program in programs]
    for runner in runners:
        # Compiles, and is thrown away: the first call must cost what the others do.
        jax.block_until_ready(
            runner.program.call(runner.program.start(seed, splits.train), splits.train)
        )
    interval = budget / CHECKPOINTS
    while True:
        runner = min(runners, key=lambda runner: runner.clock)
        if runner.clock >= budget:
            return runners
        runner.advance()
        if runner.clock >= interval * len(runner.checkpoints):
            runner.checkpoint()


def _measure(program: Program, params: Any, examples: Any) -> Any:
    return _jitted_measure(program.problem)(params, examples)


@functools.cache
def _jitted_measure(problem: Problem) -> Callable[..., Any]:
    return jax.jit(problem.measure)


def _zero(params: HeadedParams, batch: Any, weights: jax.Array) -> Any:
    del batch, weights
    return jax.tree.map(jnp.zeros_like, params.trunk)
