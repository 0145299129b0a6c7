"""Trains every arm, the one that sets its horizon itself among them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import xgrad_optax
from experiments.folder import number
from experiments.problems import Problem, load_problem
from experiments.progress import Progress
from experiments.studies.horizon.ask import FAILED, Arm, Config, Record
from experiments.studies.horizon.stable_horizon import stable_horizon
from experiments.training.batches import check_batch, epoch_batches, number_of_examples, take


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the problem; returns what trains an arm at every seed."""
    del progress  # an arm takes seconds
    problem = load_problem(config.problem, config.data_dir, config.examples)
    check_batch(problem.train, problem.batch_size)
    run = _make_run(problem, config)
    return lambda arm: [_record(arm, seed, run(arm, seed)) for seed in config.seeds]


def _make_run(problem: Problem, config: Config) -> Any:
    """Compiles training with a given s, and with one that sets itself, each once."""

    @functools.partial(jax.jit, static_argnames="auto")
    def run(examples: Any, seed: Any, rate: Any, s: Any, auto: bool) -> Any:
        init, order = jax.random.split(jax.random.key(seed))
        params = problem.init(init)
        batches = jax.vmap(
            lambda key: epoch_batches(key, number_of_examples(examples), problem.batch_size)
        )(jax.random.split(order, config.epochs))
        tx: Any
        lookahead_params, tx = (
            stable_horizon(rate, config.momentum, config.s_max)
            if auto
            else xgrad_optax.sgdm(rate, s=s, momentum=config.momentum)
        )

        def step(carry: Any, indices: Any) -> Any:
            params, state = carry
            point = lookahead_params(params, state)
            loss, grads = jax.value_and_grad(problem.loss)(point, take(examples, indices))
            updates, state = tx.update(grads, state, params)
            used = state.s if auto else s
            return (optax.apply_updates(params, updates), state), (loss, used)

        steps = batches.reshape(-1, problem.batch_size)
        (after, _), (losses, horizons) = jax.lax.scan(step, (params, tx.init(params)), steps)
        ends = [problem.loss(params, examples), problem.loss(after, examples)]
        return losses, horizons, *ends, problem.loss(after, problem.held_out)

    def run_arm(arm: Arm, seed: int) -> Any:
        arguments = (np.uint32(seed), np.float32(arm.learning_rate), np.float32(arm.s or 0))
        return jax.tree.map(np.asarray, run(problem.train, *arguments, auto=arm.s is None))

    return run_arm


def _record(arm: Arm, seed: int, outcome: Any) -> Record:
    losses, horizons, before, after, held_out = outcome
    early = losses[: -(-len(losses) // 4)]
    return Record(
        learning_rate=arm.learning_rate,
        arm=arm.label,
        seed=seed,
        failed=not after <= FAILED * before,
        early_loss=number(float(early.mean())),
        train_loss=number(float(after)),
        held_out_loss=number(float(held_out)),
        s_quartiles=[float(s) for s in np.quantile(horizons, [0.25, 0.5, 0.75]).round(3)],
    )
