"""The arms as compiled programs."""

import concurrent.futures
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.studies.predict_gradients.ask import ARMS, PLAIN, Arm, Config
from experiments.studies.predict_gradients.costs import (
    Costs,
    Piece,
    costs_of,
    operations,
    pieces,
    timed,
)
from experiments.studies.predict_gradients.problems import Problem, with_label_noise
from experiments.training.batches import number_of_examples, take
from xgrad_optax.control_variates import (
    HeadedParams,
    PredictedGradient,
    from_function,
    neural_tangent_kernel,
    predicted_value_and_grad,
)

# Held out at each fit to measure the alignment on.
_EVALUATED = 64

# "auto" weighs variance against the cost of an example that this arm predicts.
_AUTO, _PREDICTED = "auto", "predicted"


class Program:
    """An arm, compiled once for all seeds.

    Attributes:
        arm: the arm.
        problem: what it trains.
        gradient: how its gradients are made.
        costs: of its gradients.
        cost_ratio_seconds: c by the clock, NaN for the plain gradient and where only operations
            are counted.
        call: ``(carry, train) -> (carry, (control fractions, whether a fit came before))`` of
            ``steps_per_call`` steps; takes the carry over.
    """

    costs: Costs
    call: Any

    def __init__(self, problem: Problem, arm: Arm, config: Config):
        self.arm, self.problem = arm, problem
        self._config = config
        self.steps_per_call = config.steps_per_call
        self.predicts = ARMS[arm.kind].predicts
        self.cost_ratio_seconds = math.nan
        self._transform = optax.adam(arm.learning_rate)
        # A first guess: counting needs a gradient function, "auto" needs what is counted or timed.
        self.gradient = self._make_gradient(cost_ratio=0.5)

    def as_kind(self, kind: str) -> "Program":
        """Returns the same with gradients made in another way."""
        return Program(self.problem, dataclasses.replace(self.arm, kind=kind), self._config)

    def choose_by(self, cost_ratio: float) -> None:
        """Says what a predicted example costs: ``"auto"`` chooses by it."""
        ratio = 1.0 if math.isnan(cost_ratio) else max(cost_ratio, 0.0)
        self.gradient = self._make_gradient(ratio)

    def compile(self, train: Any) -> None:
        """Compiles the steps, and runs them once: a first call costs more than the others do."""
        steps = jax.jit(self._steps, donate_argnums=0)
        shapes = jax.eval_shape(lambda: self.start(0, train))
        self.call = steps.lower(shapes, train).compile()
        jax.block_until_ready(self.call(self.start(0, train), train))

    def start(self, seed: int, train: Any) -> Any:
        """Returns the carry of an untrained network."""
        init, gradient, draws = jax.random.split(jax.random.key(seed), 3)
        params = _jitted_init(self.problem)(init, train[0])
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
                return self.gradient.fit(params, state, self.draw(fit_key, train, self.fit_size))

            state = jax.lax.cond(due, refit, lambda: state)
        used = self.gradient.control_fraction(state)
        batch = self.draw(batch_key, train, self.arm.batch_size)
        (_, state), grads = self.gradient(params, state, batch)
        updates, opt_state = self._transform.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state, key), (used, due)

    def draw(self, key: jax.Array, examples: Any, size: int) -> Any:
        """Draws with replacement, so that every row is an independent draw from the data."""
        which, noise = jax.random.split(key)
        indices = jax.random.randint(which, (size,), 0, number_of_examples(examples))
        return with_label_noise(take(examples, indices), self._config.label_noise, noise)

    @property
    def fit_size(self) -> int:
        """How many examples a fit takes: to learn from, and to measure on."""
        return self._config.fit_examples + _EVALUATED


def _zero(params: HeadedParams, batch: Any, weights: jax.Array) -> Any:
    del batch, weights
    return jax.tree.map(jnp.zeros_like, params.trunk)


@functools.cache
def _jitted_init(problem: Problem) -> Callable[..., HeadedParams]:
    return jax.jit(problem.init)  # one program for all arms and seeds, in place of many small ones


def compile_all(
    problem: Problem, config: Config, train: Any, show: Callable[[str], None]
) -> list[Program]:
    """Compiles all arms, several at a time, and measures what their gradients cost.

    Args:
        problem: what is trained.
        config: the arms and how they are compared.
        train: the training examples.
        show: is told how far it has come.
    """
    programs = [Program(problem, arm, config) for arm in config.arms]
    auto = [program for program in programs if program.arm.kind == _AUTO]
    others = [program for program in programs if program.arm.kind != _AUTO]
    known = others if config.clock == "gigaflops" else others + beside(programs)
    counting = _Counting(programs)
    together = _Together(len(known) + len(auto) + len(counting.jobs), show)
    if config.clock == "gigaflops":  # else timing would only take time
        together.run(counting.jobs, train)
        counting.tell(programs)
        for program in programs:
            program.choose_by(program.costs.ratio)
        together.run(_longest_first([*auto, *known]), train)
        return programs
    together.run(_longest_first(known), train)
    _time(known, train)
    for program in auto:
        program.cost_ratio_seconds = _like(program, _PREDICTED, known).cost_ratio_seconds
        program.choose_by(program.cost_ratio_seconds)
    together.run([*_longest_first(auto), *counting.jobs], train)
    counting.tell(programs)
    return programs


def _longest_first(programs: Iterable[Program]) -> list[Callable[[Any], None]]:
    """Their compilations: fits take longest, and what begins last must not be long."""
    return [each.compile for each in sorted(programs, key=lambda program: not program.predicts)]


class _Counting:
    """Counts the operations of all programs, each piece of their work once.

    Attributes:
        jobs: one for each piece; take the training examples.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        self._counts: dict[Piece, float] = {}
        owners = {piece: program for program in programs for piece in pieces(program)}
        self.jobs = [functools.partial(self._count, *each) for each in owners.items()]

    def _count(self, piece: Piece, program: Program, train: Any) -> None:
        self._counts[piece] = operations(program, piece, train)

    def tell(self, programs: Iterable[Program]) -> None:
        """Gives each program its costs, when all jobs are done."""
        for program in programs:
            program.costs = costs_of(program, self._counts)


def beside(programs: Iterable[Program]) -> list[Program]:
    """What must be timed beside the arms: their plain gradient, and what ``"auto"`` predicts."""
    found = {(program.arm.kind, program.arm.batch_size): program for program in programs}
    missing = {}
    for kind, size in found:
        for needed in {PLAIN: [], _AUTO: [PLAIN, _PREDICTED]}.get(kind, [PLAIN]):
            if (needed, size) not in found:
                missing[needed, size] = found[kind, size].as_kind(needed)
    return list(missing.values())


def _time(programs: Iterable[Program], train: Any) -> None:
    for program in programs:
        if program.arm.kind != PLAIN:
            plain = _like(program, PLAIN, programs)
            program.cost_ratio_seconds = timed(program, plain, train)


def _like(program: Program, kind: str, programs: Iterable[Program]) -> Program:
    """The program of a kind at the same batch size."""
    wanted = kind, program.arm.batch_size
    return next(each for each in programs if (each.arm.kind, each.arm.batch_size) == wanted)


class _Together:
    """Runs jobs on all cores; compilation leaves Python to the others."""

    def __init__(self, total: int, show: Callable[[str], None]) -> None:
        self._done, self._total, self._show = 0, total, show

    def run(self, jobs: Iterable[Callable[[Any], None]], train: Any) -> None:
        pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            for job in concurrent.futures.as_completed([pool.submit(job, train) for job in jobs]):
                job.result()
                self._done += 1
                self._show(f"compiled {self._done} of {self._total}")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for compilation
