"""Trains a network with BatchNorm and evaluates each epoch with both kinds of statistics."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import optimizers
from experiments.data import Splits, epoch_batches, take
from experiments.folder import number
from experiments.models import BatchNormNet
from experiments.optimizers import gradient_rule, horizon_label
from experiments.progress import Progress
from experiments.studies.batch_norm.ask import RATES, Arm, Config, Record
from experiments.tasks import load_task
from xgrad_optax.linen import recalibrate_batch_stats

_CHANNELS = (16, 32)


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the digits; returns what trains an arm at every seed."""
    del progress  # an arm takes seconds
    splits = load_task("digits").load()
    return lambda arm: [_train(arm, config, splits, seed) for seed in config.seeds]


def _train(arm: Arm, config: Config, splits: Splits, seed: int) -> Record:
    init_key, order_key = jax.random.split(jax.random.key(seed))
    examples = len(splits.train.labels)
    variables = _model(arm.momentum).init(init_key, _images(splits.test), train=False)
    carry = (variables, _rule(arm).transform.init(variables["params"]))
    evaluations = []
    for key in jax.random.split(order_key, config.epochs):
        batches = epoch_batches(key, examples, config.batch_size)
        carry = _epoch(arm, carry, splits.train, batches)
        variables = carry[0]
        fresh = recalibrate_batch_stats(
            lambda v, rows: _forward(arm.momentum, v, take(splits.train, rows)), variables, batches
        )
        evaluations.append(
            (
                *_evaluate(arm.momentum, variables, splits.test),
                *_evaluate(arm.momentum, {**variables, "batch_stats": fresh}, splits.test),
            )
        )
    running_loss, running_accuracy, recalibrated_loss, recalibrated_accuracy = (
        list(map(number, values)) for values in zip(*evaluations, strict=True)
    )
    return Record(
        optimizer=arm.optimizer,
        s=arm.s,
        momentum=arm.momentum,
        seed=seed,
        running_accuracy=running_accuracy,
        recalibrated_accuracy=recalibrated_accuracy,
        running_loss=running_loss,
        recalibrated_loss=recalibrated_loss,
    )


@functools.cache
def _rule(arm: Arm) -> Any:
    rate, label = RATES[arm.optimizer], horizon_label(arm.s)
    return gradient_rule(optimizers.Arm(arm.optimizer, label, arm.s, rate))


def _model(momentum: float) -> BatchNormNet:
    return BatchNormNet(channels=_CHANNELS, outputs=10, momentum=momentum)


def _images(examples: Any) -> jax.Array:
    return examples.images.reshape(-1, 8, 8, 1)


@functools.partial(jax.jit, static_argnums=0)
def _epoch(arm: Arm, carry: Any, examples: Any, batches: jax.Array) -> Any:
    """One pass over the training set; gradients, and so statistics, are taken at θ̂."""
    rule = _rule(arm)

    def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        variables, opt_state = carry
        batch, params = take(examples, rows), variables["params"]

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = _forward(arm.momentum, {**variables, "params": params}, batch)
            return _cross_entropy(logits, batch.labels), updated

        point = rule.gradient_point(params, opt_state)
        gradient, updated = jax.grad(loss, has_aux=True)(point)
        updates, opt_state = rule.transform.update(gradient, opt_state, params)
        return ({"params": optax.apply_updates(params, updates), **updated}, opt_state), None

    return jax.lax.scan(step, carry, batches)[0]


@functools.partial(jax.jit, static_argnums=0)
def _forward(momentum: float, variables: Any, batch: Any) -> Any:
    return _model(momentum).apply(variables, _images(batch), train=True, mutable=["batch_stats"])


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(momentum: float, variables: Any, test: Any) -> tuple[jax.Array, jax.Array]:
    logits: Any = _model(momentum).apply(variables, _images(test), train=False)
    accuracy = 100.0 * jnp.mean(logits.argmax(-1) == test.labels)
    return _cross_entropy(logits, test.labels), accuracy


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
