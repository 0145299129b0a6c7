"""Trains every arm at every seed and bounds what its predictions miss."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.curvature import make_stretch
from experiments.folder import number
from experiments.problems import Problem, load_problem
from experiments.progress import Progress
from experiments.studies.error_bound import bounds
from experiments.studies.error_bound.ask import (
    FULL,
    HESSIAN,
    MINI,
    SGDM,
    VISITED,
    Arm,
    Config,
    Record,
)
from experiments.studies.error_bound.measure import Found, train
from experiments.training.batches import check_batch, epoch_batches, number_of_examples, take

_DIGITS = 6


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the problem; returns what trains an arm at every seed.

    Raises:
        UsageError: the data are missing, or fewer than asked for or than a mini-batch needs.
    """
    del progress  # an arm takes seconds
    problem = load_problem(config.problem, config.data_dir, config.examples)
    if MINI in config.batches:
        check_batch(problem.train, problem.batch_size)
    _, unravel = ravel_pytree(problem.init(jax.random.key(0)))

    def loss(params: Any, examples: Any) -> Any:
        return problem.loss(unravel(params), examples)

    stretch = make_stretch(loss)
    compiled = functools.cache(lambda *kind: _make_run(problem, loss, config, *kind))

    def work(arm: Arm) -> list[Record]:
        rule = _rule(arm.optimizer, arm.learning_rate, config)
        run = compiled(arm.optimizer, arm.learning_rate, arm.batches)
        records = []
        for seed in config.seeds:
            after, found = run(problem.train, np.uint32(seed), np.float32(arm.s))
            pairs = zip(found.params, found.scale, strict=True)
            hessian = np.array([stretch(*pair, problem.train) for pair in pairs], np.float32)
            records.append(_record(arm, config, seed, rule, found, hessian, float(after)))
        return records

    return work


def _rule(optimizer: str, learning_rate: float, config: Config) -> bounds.Rule:
    if optimizer == SGDM:
        return bounds.sgdm(learning_rate, config.momentum)
    return bounds.adam(learning_rate)


def _make_run(
    problem: Problem, loss: Any, config: Config, optimizer: str, learning_rate: float, batches: str
) -> Any:
    """Compiles training; the seed and s are arguments, so that it compiles once."""
    rule, ahead = _rule(optimizer, learning_rate, config), config.horizons[-1]

    def run(examples: Any, seed: Any, s: Any) -> tuple[Any, Found]:
        init, order = jax.random.split(jax.random.key(seed))
        start, _ = ravel_pytree(problem.init(init))

        def full_gradient(params: Any) -> Any:
            return jax.grad(loss)(params, examples)

        def gradient(params: Any, indices: Any) -> Any:
            return jax.grad(loss)(params, take(examples, indices))

        if batches == FULL:
            # Nothing is drawn; the steps are counted by what stands for their batches.
            drawn = jnp.zeros(()), jnp.zeros((config.points, config.every))
            how = (lambda params, _: full_gradient(params)), None
        else:
            drawn = _drawn(order, number_of_examples(examples), problem.batch_size, config)
            how = gradient, full_gradient
        after, found = train(rule, learning_rate, *how, start, s, drawn, ahead)
        return loss(after, examples), found

    return jax.jit(run)


def _drawn(key: Any, examples: int, batch_size: int, config: Config) -> tuple[Any, Any]:
    """The examples of the first step's batch, and those of all rounds."""
    steps = 1 + config.points * config.every
    epochs = -(-steps // (examples // batch_size))
    keys = jax.random.split(key, epochs)
    epoch = functools.partial(epoch_batches, examples=examples, batch_size=batch_size)
    indices = jax.vmap(epoch)(keys).reshape(-1, batch_size)[:steps]
    return indices[0], indices[1:].reshape(config.points, config.every, batch_size)


def _record(
    arm: Arm, config: Config, seed: int, rule: bounds.Rule, found: Found, hessian: Any, after: float
) -> Record:
    columns = np.array(config.horizons) - 1
    given = rule, found.measured, arm.s, config.horizons
    chosen = {VISITED: bounds.visited_bounds(*given), HESSIAN: bounds.bounds(*given, hessian)}
    smoothness = {VISITED: found.measured.smoothness[:, columns[-1]], HESSIAN: hessian}
    return Record(
        optimizer=arm.optimizer,
        batches=arm.batches,
        s=arm.s,
        learning_rate=arm.learning_rate,
        seed=seed,
        steps=[1 + place * config.every for place in range(config.points)],
        error=_rows(found.error[:, columns]),
        moved=_rows(found.moved[:, columns]),
        bounds={name: _rows(values) for name, values in chosen.items()},
        parts={name: _rows(values) for name, values in bounds.parts(*given).items()},
        smoothness={name: _numbers(values) for name, values in smoothness.items()},
        train_loss=number(after, _DIGITS),
    )


def _rows(values: Any) -> list[list[float | None]]:
    return [_numbers(row) for row in values]


def _numbers(values: Any) -> list[float | None]:
    return [number(value, _DIGITS) for value in np.asarray(values)]
