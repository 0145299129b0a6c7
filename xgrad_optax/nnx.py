"""Flax NNX: train steps at predicted weights, evaluation at base weights, BatchNorm statistics.

A train step with any optimizer of this library::

    lookahead_params, tx = xgrad_optax.adamw(1e-3, s=1)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, batch):
        with predicted_weights(model, optimizer):
            loss, grads = nnx.value_and_grad(loss_fn)(model, batch)
        optimizer.update(model, grads)
        return loss

Both contexts serve both forms of prediction, so that a loop need not know which one it has.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.core
from flax import nnx

from xgrad_optax._batch_stats import averaged_batch_stats
from xgrad_optax._points import base_point, predicted_point
from xgrad_optax._typing import OptState, Params, PyTree

ModelT = TypeVar("ModelT", bound=nnx.Module)
Batch = TypeVar("Batch")


@contextlib.contextmanager
def predicted_weights(model: ModelT, optimizer: nnx.Optimizer) -> Iterator[ModelT]:
    """Puts the predicted weights θ̂ into the model: take the loss and its gradient here.

    Afterwards the model has its own weights again, and ``optimizer.update(model, grads)`` goes on
    from them. Only what the optimizer trains (``optimizer.wrt``) is exchanged: BatchNorm
    statistics, random streams and caches keep what the forward pass did to them. In the drop-in
    form (:func:`xgrad_optax.xgrad`) the model holds θ̂ already and nothing is exchanged.

    Args:
      model: the module that is trained.
      optimizer: its ``nnx.Optimizer``, with a transform of this library in any nesting.

    Yields:
      ``model``.

    Raises:
      ValueError: the optimizer holds no prediction, or was used to update the model inside the
        block, where the update would be lost.

    Examples:
      >>> import jax.numpy as jnp, xgrad_optax
      >>> from flax import nnx
      >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, xgrad_optax.sgdm(0.1, s=1).tx, wrt=nnx.Param)
      >>> @nnx.jit
      ... def train_step(model, optimizer, inputs, targets):
      ...     def loss_fn(model):
      ...         return jnp.mean((model(inputs) - targets) ** 2)
      ...     with predicted_weights(model, optimizer):
      ...         loss, grads = nnx.value_and_grad(loss_fn)(model)
      ...     optimizer.update(model, grads)
      ...     return loss
      >>> for _ in range(100):
      ...     loss = train_step(model, optimizer, jnp.eye(2), jnp.ones((2, 1)))
      >>> bool(loss < 1e-3)
      True
    """
    step = optimizer.step.get_value()
    with _exchanged_weights(model, optimizer, predicted_point):
        yield model
        if _is_another(optimizer.step.get_value(), step):
            raise ValueError(
                "optimizer.update was called inside `with predicted_weights(model, optimizer):`,"
                " where the model holds weights that are put away again. Compute the gradients"
                " inside the block and call optimizer.update(model, grads) after it."
            )


@contextlib.contextmanager
def base_weights(model: ModelT, optimizer: nnx.Optimizer) -> Iterator[ModelT]:
    """Puts the base weights θ into the model: evaluate, export and checkpoint it here.

    Afterwards the model has its own weights again. ``nnx.clone(model)`` inside the block is a copy
    that keeps θ. In the explicit form the model holds θ already and nothing is exchanged.

    Args:
      model: the module that is trained.
      optimizer: its ``nnx.Optimizer``, with a transform of this library in any nesting.

    Yields:
      ``model``, with weights in the dtype in which they are kept (``base_dtype``).

    Raises:
      ValueError: the optimizer holds no prediction.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> from flax import nnx
      >>> model = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
      >>> optimizer = nnx.Optimizer(model, xgrad_optax.xgrad(optax.sgd(0.5), s=2), wrt=nnx.Param)
      >>> start = model.kernel[...]
      >>> grads = nnx.grad(lambda model: jnp.sum(model.kernel[...]))(model)
      >>> _ = optimizer.update(model, grads)
      >>> with base_weights(model, optimizer):
      ...     float((model.kernel[...] - start).squeeze())
      -0.5
      >>> float((model.kernel[...] - start).squeeze())  # predicted, two steps further
      -1.5
    """
    with _exchanged_weights(model, optimizer, base_point):
        yield model


def recalibrate_batch_stats(
    model: nnx.Module, forward: Callable[[Any, Batch], Any], batches: Iterable[Batch]
) -> None:
    """Measures the model's BatchNorm statistics anew, at the weights that it holds.

    Running statistics belong to the weights of the forward passes that they were collected in: with
    prediction to θ̂, and to those of many past steps. Before evaluating, exporting or averaging
    weights they can be replaced by the plain average over some training batches::

        with base_weights(model, optimizer):
            recalibrate_batch_stats(model, forward, batches)
            evaluate(model)

    Args:
      model: the module; its ``nnx.BatchStat`` variables are replaced.
      forward: ``(model, batch) -> anything``, runs the model in training mode; wrap it in
        ``nnx.jit``.
      batches: training batches of equal size, some dozens of them.

    Raises:
      ValueError: the model has no batch statistics, ``forward`` does not update them, or there are
        no batches; the statistics are then as before.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = nnx.BatchNorm(3, use_running_average=False, rngs=nnx.Rngs(0))
      >>> batches = 2.0 + jax.random.normal(jax.random.key(0), (10, 100, 3))
      >>> recalibrate_batch_stats(model, nnx.jit(lambda model, batch: model(batch)), batches)
      >>> bool(jnp.allclose(model.mean[...], batches.mean((0, 1)), rtol=1e-3))
      True
    """
    before = _copy(nnx.state(model, nnx.BatchStat))

    def update(stats: PyTree, batch: Batch) -> PyTree:
        nnx.update(model, stats)
        forward(model, batch)
        return _copy(nnx.state(model, nnx.BatchStat))

    after = before
    try:
        after = averaged_batch_stats(update, before, batches)
    finally:
        nnx.update(model, after)


@contextlib.contextmanager
def _exchanged_weights(
    model: nnx.Module, optimizer: nnx.Optimizer, point: Callable[[Params, OptState], Params]
) -> Iterator[None]:
    own = _copy(nnx.state(model, optimizer.wrt))
    nnx.update(model, point(own, optimizer.opt_state))
    try:
        yield
    finally:
        nnx.update(model, own)


def _copy(state: PyTree) -> PyTree:
    """The state in variables of its own: ``nnx.update`` on the model does not reach them."""
    return jax.tree.map(lambda x: x, state)


def _is_another(value: jax.Array, old: jax.Array) -> bool:
    """Whether a step count changed; its value is not known while a program is traced."""
    if value is old:
        return False
    if isinstance(value, jax.core.Tracer) or isinstance(old, jax.core.Tracer):
        return True
    return int(value) != int(old)
