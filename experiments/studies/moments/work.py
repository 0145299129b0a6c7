"""Training with the plain optimizer in step beside it, measured as it goes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xgrad_optax
from experiments.errors import UsageError
from experiments.folder import number
from experiments.problems import Problem, load_problem
from experiments.progress import Progress
from experiments.studies.moments.ask import B1, B2, LAG, QUANTITIES, RATIO, Arm, Config, Record
from experiments.studies.moments.measure import Run, measure, moments
from experiments.training.batches import check_batch, epoch_batches, number_of_examples, take


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the problem; returns what trains an arm at every seed."""
    del progress  # an arm takes seconds
    problem = load_problem(config.problem, config.data_dir, config.examples)
    check_batch(problem.train, problem.batch_size)
    steps = number_of_examples(problem.train) // problem.batch_size
    if config.every > steps:
        raise UsageError(
            f"--every {config.every}: an epoch of {number_of_examples(problem.train)} examples has "
            f"{steps} steps, and at least one of them is to be measured; give a smaller --every"
        )
    runs = {name: make_run(problem, name, config) for name in config.optimizers}

    def work(arm: Arm) -> list[Record]:
        measured = {seed: runs[arm.optimizer](arm, seed) for seed in config.seeds}
        return [
            Record(**arm._asdict(), seed=seed, **by_epoch(found, config.every, steps))
            for seed, found in measured.items()
        ]

    return work


def make_run(
    problem: Problem, optimizer: str, config: Config
) -> Callable[[Arm, int], dict[str, np.ndarray]]:
    """Returns what trains an arm at a seed, compiled once for all rates and horizons.

    It returns all of ``QUANTITIES`` that the optimizer has by name, one entry for each measurement,
    the first after ``config.every`` steps.
    """

    @jax.jit
    def run(examples: Any, seed: Any, rate: Any, s: Any) -> Any:
        init, order = jax.random.split(jax.random.key(seed))
        params = problem.init(init)
        batches = jax.vmap(
            lambda key: epoch_batches(key, number_of_examples(examples), problem.batch_size)
        )(jax.random.split(order, config.epochs))
        rules = [_rule(optimizer, rate, horizon, config.momentum) for horizon in (s, 0)]

        def step(carry: Any, indices: Any) -> tuple[Any, None]:
            runs, before = carry  # both runs; the last first moments of the one that predicts
            first = moments(runs[0].opt_state).first
            before = jax.tree.map(lambda old, new: jnp.append(old[1:], new[None], 0), before, first)
            batch = take(examples, indices)
            runs = [_step(rule, problem, batch, run) for rule, run in zip(rules, runs, strict=True)]
            return (runs, before), None

        def until_measured(carry: Any, steps: Any) -> tuple[Any, dict[str, Any]]:
            carry, _ = jax.lax.scan(step, carry, steps)
            (predicted, plain), before = carry
            earlier = jax.tree.map(lambda firsts: firsts[0], before)
            return carry, measure(lambda p: problem.loss(p, examples), predicted, plain, earlier)

        zeros = optax.tree.zeros_like(params)
        runs = [Run(params, rule.tx.init(params), zeros, zeros) for rule in rules]
        before = jax.tree.map(lambda zero: jnp.stack([zero] * LAG), zeros)
        steps = batches.reshape(-1, problem.batch_size)
        # What is left over at the end would be measured by nobody.
        groups = steps[: len(steps) // config.every * config.every].reshape(
            -1, config.every, problem.batch_size
        )
        return jax.lax.scan(until_measured, (runs, before), groups)[1]

    def run_arm(arm: Arm, seed: int) -> dict[str, np.ndarray]:
        arguments = np.uint32(seed), np.float32(arm.learning_rate), np.float32(arm.s)
        return jax.tree.map(np.asarray, run(problem.train, *arguments))

    return run_arm


def _rule(optimizer: str, rate: Any, s: Any, momentum: float) -> xgrad_optax.WeightPrediction:
    if optimizer == "sgdm":
        return xgrad_optax.sgdm(rate, s=s, momentum=momentum)
    return xgrad_optax.adam(rate, s=s, b1=B1, b2=B2)


def _step(rule: xgrad_optax.WeightPrediction, problem: Problem, batch: Any, run: Run) -> Run:
    point = rule.lookahead_params(run.params, run.opt_state)
    gradient = jax.grad(problem.loss)(point, batch)
    update, opt_state = rule.tx.update(gradient, run.opt_state, run.params)
    return Run(optax.apply_updates(run.params, update), opt_state, gradient, update)


def by_epoch(measured: Mapping[str, np.ndarray], every: int, steps: int) -> dict[str, Any]:
    """Returns the mean over each epoch's measurements by name, geometric for ratios.

    Args:
        measured: one entry for each measurement.
        every: steps from one to the next.
        steps: of an epoch.
    """
    step = every * np.arange(1, len(measured["loss"]) + 1)
    epoch = (step - 1) // steps
    known = {"persistence": step > LAG}
    return {
        name: [
            _mean(values[(epoch == one) & known.get(name, True)], QUANTITIES[name].judged)
            for one in range(epoch[-1] + 1)
        ]
        for name, values in measured.items()
    }


def _mean(values: np.ndarray, judged: str) -> float | None:
    if not values.size:
        return None
    values = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = np.exp(np.log(values).mean()) if judged == RATIO else values.mean()
        return number(np.float32(mean))
