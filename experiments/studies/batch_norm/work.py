"""Trains a network with BatchNorm and evaluates each epoch with both kinds of statistics."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.arms import arm_of, make_method
from experiments.data.digits import load_digits
from experiments.folder import number
from experiments.models.batch_norm import BatchNormNet
from experiments.progress import Progress
from experiments.studies.batch_norm.ask import RATES, Arm, Config, Record
from experiments.task import Data, Gradient
from experiments.training.batches import epoch_batches, on_device, take
from experiments.training.step import step as train_step
from xgrad_optax.linen import recalibrate_batch_stats

_CHANNELS = (16, 32)


def prepare(config: Config, progress: Progress) -> Callable[[Arm], list[Record]]:
    """Loads the digits; returns what trains an arm at every seed."""
    del progress  # an arm takes seconds
    data = on_device(load_digits())
    return lambda arm: [_train(arm, config, data, seed) for seed in config.seeds]


def _train(arm: Arm, config: Config, data: Data, seed: int) -> Record:
    init_key, order_key = jax.random.split(jax.random.key(seed))
    examples = len(data.train["label"])
    variables = _model(arm.momentum).init(init_key, _images(data.test), train=False)
    carry = (variables, _method(arm).transform.init(variables["params"]))
    evaluations = []
    for key in jax.random.split(order_key, config.epochs):
        batches = epoch_batches(key, examples, config.batch_size)
        carry = _epoch(arm, carry, data.train, batches)
        variables = carry[0]
        fresh = recalibrate_batch_stats(
            lambda v, rows: _forward(arm.momentum, v, take(data.train, rows)), variables, batches
        )
        evaluations.append(
            (
                *_evaluate(arm.momentum, variables, data.test),
                *_evaluate(arm.momentum, {**variables, "batch_stats": fresh}, data.test),
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
def _method(arm: Arm) -> Any:
    return make_method(arm.optimizer, arm_of(arm.s), RATES[arm.optimizer])


def _model(momentum: float) -> BatchNormNet:
    return BatchNormNet(channels=_CHANNELS, outputs=10, momentum=momentum)


def _images(examples: Any) -> jax.Array:
    return examples["image"].reshape(-1, 8, 8, 1)


@functools.partial(jax.jit, static_argnums=0)
def _epoch(arm: Arm, carry: Any, examples: Any, batches: jax.Array) -> Any:
    """One pass over the training set; gradients, and so statistics, are taken at θ̂."""
    method = _method(arm)

    def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        variables, opt_state = carry
        batch = take(examples, rows)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, updated = _forward(arm.momentum, {**variables, "params": params}, batch)
            return _cross_entropy(logits, batch["label"]), updated

        def gradient(params: Any) -> Gradient:
            (value, updated), slope = jax.value_and_grad(loss, has_aux=True)(params)
            return Gradient(value, slope, updated)

        found, params, opt_state = train_step(method, gradient, variables["params"], opt_state)
        return ({"params": params, **found.state}, opt_state), None

    return jax.lax.scan(step, carry, batches)[0]


@functools.partial(jax.jit, static_argnums=0)
def _forward(momentum: float, variables: Any, batch: Any) -> Any:
    return _model(momentum).apply(variables, _images(batch), train=True, mutable=["batch_stats"])


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(momentum: float, variables: Any, test: Any) -> tuple[jax.Array, jax.Array]:
    logits: Any = _model(momentum).apply(variables, _images(test), train=False)
    accuracy = 100.0 * jnp.mean(logits.argmax(-1) == test["label"])
    return _cross_entropy(logits, test["label"]), accuracy


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
