"""Train steps as they are compiled: one for all variants, so that only the optimizer differs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.studies.bench.floors import Sizes
from experiments.studies.bench.variants import Way, has_momentum
from experiments.studies.bench.workloads import Workload
from experiments.task import Gradient
from experiments.training.step import step


class Batch(NamedTuple):
    """What one step is fed; arrays, or their shapes.

    Attributes:
        inputs: images or tokens, ``[batch, ...]``.
        labels: classes, ``[batch]`` or ``[batch, time]``.
    """

    inputs: Any
    labels: Any


class Problem(NamedTuple):
    """A workload at one batch size and in one dtype.

    Attributes:
        init: draws parameters from a key.
        loss: ``(params, batch) -> scalar``.
        batch: shapes and dtypes of a batch.
        classes: whole numbers in a batch are below this.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Batch], jax.Array]
    batch: Batch
    classes: int


def make_problem(
    workload: Workload,
    batch_size: int,
    dtype: str,
    *,
    compute: str | None = None,
    **model_settings: Any,
) -> Problem:
    """Builds the model of a workload.

    Args:
        workload: what to train.
        batch_size: examples per step.
        dtype: of the parameters.
        compute: dtype of the activations, to which a step casts the parameters; None for ``dtype``.
        model_settings: further arguments of the model.

    Returns:
        The problem.
    """
    compute = compute or dtype
    model = workload.model.build(**model_settings)
    inputs = jax.ShapeDtypeStruct(
        (batch_size, *workload.example), jnp.int32 if workload.reads_tokens else compute
    )
    labels = jax.ShapeDtypeStruct((batch_size, *workload.labels), jnp.int32)

    def init(key: jax.Array) -> Any:
        params = model.init(key, jnp.zeros((1, *inputs.shape[1:]), inputs.dtype))
        return optax.tree.cast(params, dtype)

    def loss(params: Any, batch: Batch) -> jax.Array:
        logits: Any = model.apply(optax.tree.cast(params, compute), batch.inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    return Problem(init, loss, Batch(inputs, labels), workload.classes)


def draw_batch(problem: Problem, seed: int) -> Batch:
    """Draws a random batch."""
    inputs, labels = jax.random.split(jax.random.key(seed))
    return Batch(
        _draw(inputs, problem.batch.inputs, problem.classes),
        _draw(labels, problem.batch.labels, problem.classes),
    )


def _draw(key: jax.Array, spec: jax.ShapeDtypeStruct, classes: int) -> jax.Array:
    if jnp.issubdtype(spec.dtype, jnp.integer):
        return jax.random.randint(key, spec.shape, 0, classes, spec.dtype)
    return jax.random.normal(key, spec.shape, spec.dtype)


def start(way: Way, params: Any) -> tuple[Any, Any]:
    """Returns what the first step is given: parameters in their container, and the state."""
    params = way.container(jax.tree.map(jnp.copy, params))  # a copy: the step gets it donated
    return params, way.method.transform.init(params)


def start_shapes(problem: Problem, way: Way) -> tuple[Any, Any]:
    """Returns the shapes of what the first step is given; nothing is allocated."""
    return jax.eval_shape(lambda key: start(way, problem.init(key)), jax.random.key(0))


def make_step(problem: Problem, way: Way) -> Any:
    """Returns a newly jitted ``(params, opt_state, batch) -> (params, opt_state, loss)``.

    The first two arguments are donated, as in any training loop that is short of memory.
    """

    def train_step(params: Any, opt_state: Any, batch: Batch) -> tuple[Any, Any, jax.Array]:
        def gradient(params: Any) -> Gradient:
            return Gradient(*jax.value_and_grad(problem.loss)(params, batch), state={})

        def again(params: Any, _: Any) -> Any:  # for SAM, which asks for a second one
            return jax.grad(problem.loss)(params, batch)

        found, params, opt_state = step(way.method, gradient, params, opt_state, grad_fn=again)
        return params, opt_state, found.loss

    return jax.jit(train_step, donate_argnums=(0, 1))


def tree_bytes(tree: Any) -> int:
    """Returns the bytes on one device of all arrays, or shapes, in a tree."""
    return sum(_size(leaf) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def parameters_of(params: Any) -> int:
    """Returns the number of parameters on all devices."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def sizes_of(optimizer: str, params: Any, opt_state: Any) -> Sizes:
    """Returns the sizes on one device that floors are computed from, given the plain step's trees.

    Args:
        optimizer: key into ``OPTIMIZERS``.
        params: the parameters.
        opt_state: the state of the plain optimizer.
    """
    parameters = sum(_size(leaf) for leaf in jax.tree.leaves(params))
    moments = [leaf for leaf in jax.tree.leaves(opt_state) if leaf.ndim]  # without step counts
    return Sizes(parameters, tree_bytes(params), tree_bytes(moments), has_momentum(optimizer))


def _size(leaf: Any) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape)
