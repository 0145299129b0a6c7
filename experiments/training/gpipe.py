"""The pipeline that waits: GPipe, which flushes after m micro-batches; the synchronous reference.

A step runs the forward passes of m micro-batches and then their backward passes, m + P - 1 ticks
each, of which every stage is idle for P - 1. All passes of a step see the same weights: it is the
plain step on the m micro-batches together.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.training.pipeline import AXIS, Pipeline, differentiated, passed, point, send


class Waiting(NamedTuple):
    """What a stage holds between two steps.

    Attributes:
        params: its weights.
        opt_state: its optimizer's state.
        steps: int32, shape ``()``: how many have passed.
    """

    params: Any
    opt_state: Any
    steps: jax.Array


def begin(pipeline: Pipeline, data: Any, params: Any) -> Waiting:
    """A stage with these weights."""
    del data
    return Waiting(params, pipeline.optimizer(jax.lax.axis_index(AXIS)).init(params), jnp.int32(0))


def steps(
    pipeline: Pipeline, micro_batches: int, data: Any, stage: Waiting, number: int
) -> tuple[Waiting, jax.Array]:
    """So many steps in one program, and their losses, which only the last stage knows."""
    return jax.lax.scan(lambda s, _: step(pipeline, micro_batches, data, s), stage, length=number)


def step(
    pipeline: Pipeline, micro_batches: int, data: Any, stage: Waiting
) -> tuple[Waiting, jax.Array]:
    """Forward, backward, flush, update."""
    optimizer = pipeline.optimizer(jax.lax.axis_index(AXIS))
    weights = point(optimizer, stage.params, stage.opt_state)
    first = stage.steps * micro_batches
    inputs, loss = _forward(pipeline, micro_batches, data, first, weights)
    grads = _backward(pipeline, data, first, weights, inputs)
    grads = jax.tree.map(lambda g: g / micro_batches, grads)
    updates, opt_state = optimizer.update(grads, stage.opt_state, stage.params)
    params = optax.apply_updates(stage.params, updates)
    return Waiting(params, opt_state, stage.steps + 1), loss / micro_batches


def _forward(
    pipeline: Pipeline, micro_batches: int, data: Any, first: jax.Array, weights: Any
) -> tuple[jax.Array, jax.Array]:
    """The inputs of all micro-batches at this stage, to be kept, and the sum of their losses."""
    stage = jax.lax.axis_index(AXIS)
    x = jax.eval_shape(lambda: pipeline.cut.enter(weights, pipeline.batch_of(data, first)))
    nothing = jnp.zeros(x.shape, x.dtype)

    def tick(carry: Any, t: jax.Array) -> Any:
        arrived, inputs, total = carry
        number = t - stage
        busy = (number >= 0) & (number < micro_batches)
        output, loss = passed(pipeline, data, first + number, weights, arrived)
        # An idle tick writes behind the end, which drops it.
        inputs = inputs.at[jnp.where(busy, number, micro_batches)].set(arrived, mode="drop")
        total += jnp.where(busy, loss, 0)
        return (send(output, pipeline.stages, 1), inputs, total), None

    inputs = jnp.zeros((micro_batches, *x.shape), x.dtype)
    carry = nothing, inputs, jnp.zeros([], x.dtype)
    (_, inputs, total), _ = jax.lax.scan(tick, carry, jnp.arange(micro_batches + _idle(pipeline)))
    return inputs, total


def _backward(
    pipeline: Pipeline, data: Any, first: jax.Array, weights: Any, inputs: jax.Array
) -> Any:
    """The sum of the gradients of all micro-batches; the last stage begins."""
    micro_batches = len(inputs)
    from_the_end = _idle(pipeline) - jax.lax.axis_index(AXIS)

    def tick(carry: Any, t: jax.Array) -> Any:
        returned, total = carry
        number = t - from_the_end
        busy = (number >= 0) & (number < micro_batches)
        x = inputs[jnp.clip(number, 0, micro_batches - 1)]
        grads, cotangent = differentiated(pipeline, data, first + number, weights, x, returned)
        total = jax.tree.map(lambda sum_, g: sum_ + jnp.where(busy, g, 0), total, grads)
        return (send(cotangent, pipeline.stages, -1), total), None

    carry = jnp.zeros_like(inputs[0]), jax.tree.map(jnp.zeros_like, weights)
    (_, total), _ = jax.lax.scan(tick, carry, jnp.arange(micro_batches + _idle(pipeline)))
    return total


def _idle(pipeline: Pipeline) -> int:
    return pipeline.stages - 1
