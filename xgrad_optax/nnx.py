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
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from xgrad_optax._batch_stats import averaged_batch_stats
from xgrad_optax._exchange import consist_of_the_same, straight_through
from xgrad_optax._optional import without_flax
from xgrad_optax._points import base_point, predicted_point
from xgrad_optax._trees import unboxed
from xgrad_optax._typing import OptState, Params, PyTree

try:
    from flax import nnx
except ModuleNotFoundError as _error:
    raise without_flax(__name__, _error) from None

ModelT = TypeVar("ModelT", bound=nnx.Module)
Batch = TypeVar("Batch")


@contextlib.contextmanager
def predicted_weights(model: ModelT, optimizer: nnx.Optimizer) -> Iterator[ModelT]:
    """Puts the predicted weights θ̂ into the model: take the loss and its gradient here.

    Afterwards the model has its own weights again, and ``optimizer.update(model, grads)`` goes on
    from them. Only what the optimizer trains (``optimizer.wrt``) is exchanged: BatchNorm
    statistics, random streams and caches keep what the forward pass did to them. Where the model
    holds θ̂ already, nothing is touched: in the drop-in form (:func:`xgrad_optax.xgrad`), in the
    in-place form, and where a named optimizer predicts for s = 0.

    The block may be inside or outside of ``nnx.jit``, ``nnx.grad``, ``nnx.vmap``, ``nnx.scan``,
    ``nnx.remat`` and so on; the gradient is that at θ̂ in either place. Blocks may be nested: the
    inner one starts from θ too, not from what the outer one put in. Only the step from one block
    into another must not cross one of these transformations.

    Args:
      model: the module that is trained.
      optimizer: its ``nnx.Optimizer``, with a transform of this library in any nesting.

    Yields:
      ``model``.

    Raises:
      TypeError: ``optimizer`` is no ``nnx.Optimizer``.
      ValueError: the optimizer holds no prediction, or was made for another model; it is used
        inside the block to update the model, where the update would be lost; or the block is inside
        another one of this optimizer and the model is not the model of that one, as it is inside a
        transformed function.

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
    with _weights_at(predicted_point, "predicted_weights", model, optimizer):
        yield model


@contextlib.contextmanager
def base_weights(model: ModelT, optimizer: nnx.Optimizer) -> Iterator[ModelT]:
    """Puts the base weights θ into the model: evaluate and export it here.

    To resume, save model and optimizer as they are, outside of the block. Afterwards the model has
    its own weights again. In the explicit form it holds θ already and nothing is touched.
    Transformations and nested blocks: as in :func:`predicted_weights`.

    What is taken from the model inside the block keeps θ if it is a copy: ``nnx.clone``,
    ``nnx.merge(..., copy=True)``, ``nnx.as_pure``, ``nnx.to_pure_dict``, ``copy.deepcopy``,
    ``jax.tree.map``, arrays such as ``model.kernel[...]``. What shares the model's variables goes
    back with the model: ``nnx.state``, ``nnx.split``, ``nnx.unpack``, ``nnx.to_flat_state``,
    ``nnx.merge`` without ``copy=True``, ``nnx.view``, ``copy.copy``. So an export that is
    written after the block, or in the background, takes ``nnx.as_pure(nnx.state(model))``.

    Args:
      model: the module that is trained.
      optimizer: its ``nnx.Optimizer``, with a transform of this library in any nesting.

    Yields:
      ``model``, with weights in the dtype in which they are kept (``base_dtype``).

    Raises:
      TypeError: as :func:`predicted_weights`.
      ValueError: as :func:`predicted_weights`.

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
    with _weights_at(base_point, "base_weights", model, optimizer):
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

    A statistic is a running mean if a forward pass writes m·old + (1-m)·found over it, 0 <= m < 1,
    whatever the layer calls m. Some ten passes on the first batch find that out; then each batch
    takes one. The averages are exact to float32 at any scale, or to the dtype in which the pass
    writes them: during the passes, statistics kept in low precision are float32. What is no running
    mean (counters, the ``u`` and ``sigma`` of ``nnx.SpectralNorm``, random keys), and what no pass
    updates, is left alone.

    Args:
      model: the module; running means among its ``nnx.BatchStat`` variables are replaced.
        Everything else is as before, random streams included.
      forward: ``(model, batch) -> anything``, runs the model in training mode; wrap it in
        ``nnx.jit``.
      batches: training batches of equal size, some dozens of them.

    Raises:
      ValueError: the model has no batch statistics, none of them is a running mean that ``forward``
        updates, or there are no batches; the statistics are then as before.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = nnx.BatchNorm(3, use_running_average=False, rngs=nnx.Rngs(0))
      >>> batches = 2.0 + jax.random.normal(jax.random.key(0), (10, 100, 3))
      >>> recalibrate_batch_stats(model, nnx.jit(lambda model, batch: model(batch)), batches)
      >>> bool(jnp.allclose(model.mean[...], batches.mean((0, 1)), rtol=1e-5))
      True
    """
    stats, streams, rest = map(unboxed, nnx.state(model, nnx.BatchStat, nnx.RngState, ...))
    start = streams  # of the random numbers for the current batch

    def update(stats: PyTree, batch: Batch, again: bool) -> PyTree:
        nonlocal start
        start = start if again else unboxed(nnx.state(model, nnx.RngState))
        # All of it: a pass may change weights, too, as that of nnx.SpectralNorm does.
        nnx.update(model, rest, start, stats)
        forward(model, batch)
        return unboxed(nnx.state(model, nnx.BatchStat))

    measured = stats
    try:
        measured = averaged_batch_stats(update, stats, batches)
    finally:
        nnx.update(model, rest, streams, measured)


# --------------------------------------------------------------------------------------------------
# Exchanging weights
# --------------------------------------------------------------------------------------------------

# What open blocks have put away: raw values, by the identity of their variables.
_put_away: dict[int, Any] = {}


def _weights_at(
    point: Callable[[Params, OptState], Params], name: str, model: Any, optimizer: Any
) -> contextlib.AbstractContextManager[None]:
    """A block in which the model holds ``point``; touches only variables that differ from it."""
    variables, structure = _trained_variables(name, model, optimizer)
    _refuse_unknown_weights(name, variables, optimizer)
    held = [unboxed(v) for v in variables]
    own = [_put_away.get(id(v), h) for v, h in zip(variables, held, strict=True)]
    wanted = structure.flatten_up_to(
        straight_through(point, structure.unflatten(own), optimizer.opt_state)
    )
    exchanges = [
        _Exchange(*exchange)
        for exchange in zip(variables, held, wanted, strict=True)
        if not consist_of_the_same(*exchange[1:])
    ]
    return _exchanged(exchanges, optimizer) if exchanges else contextlib.nullcontext()


class _Exchange(NamedTuple):
    """A variable and two raw values: what it holds before and after the block, and inside."""

    variable: nnx.Variable
    held: Any
    wanted: Any


@contextlib.contextmanager
def _exchanged(exchanges: list[_Exchange], optimizer: nnx.Optimizer) -> Iterator[None]:
    outermost = [x for x in exchanges if id(x.variable) not in _put_away]
    marks = not _is_marked(optimizer)
    if marks:
        # Not an assignment: Flax forbids that where the optimizer is of an outer trace.
        object.__setattr__(optimizer, "update", _refused_update)
    try:
        _put_away.update({id(x.variable): x.held for x in outermost})
        for exchange in exchanges:
            # A copy: who donates the model's arrays must not give away what is put away.
            nnx.update(exchange.variable, jax.tree.map(jnp.copy, exchange.wanted))
        yield
    finally:
        for exchange in exchanges:
            nnx.update(exchange.variable, exchange.held)
        for exchange in outermost:
            del _put_away[id(exchange.variable)]
        if marks:
            object.__delattr__(optimizer, "update")


def _refused_update(*_: Any, **__: Any) -> None:
    """Takes the place of ``optimizer.update`` inside a block.

    It also marks the optimizer: as a static attribute it goes with it into transformed functions,
    where the variables are other objects than those of the block.
    """
    raise ValueError(
        "optimizer.update was called inside `with predicted_weights(model, optimizer):` or"
        " `with base_weights(model, optimizer):`, where the model holds weights that are put away"
        " again. Compute the gradients inside the block and call optimizer.update(model, grads)"
        " after it."
    )


def _is_marked(optimizer: nnx.Optimizer) -> bool:
    return vars(optimizer).get("update") is _refused_update


def _trained_variables(name: str, model: Any, optimizer: Any) -> tuple[list[nnx.Variable], Any]:
    """The variables that the optimizer trains, and the tree whose leaves they are."""
    if not isinstance(optimizer, nnx.Optimizer):
        raise TypeError(
            f"{name}(model, optimizer) needs the nnx.Optimizer that trains the model, got an object"
            f" of type {type(optimizer).__name__}. For parameters and Optax states use"
            " xgrad_optax.lookahead_params and xgrad_optax.base_params."
        )
    state = nnx.state(model, optimizer.wrt)
    variables, structure = jax.tree.flatten(state, is_leaf=lambda x: isinstance(x, nnx.Variable))
    if not variables:
        raise ValueError(
            f"{name}(model, optimizer): this {type(model).__name__} holds no variables that the"
            f" optimizer trains, wrt={optimizer.wrt}. Pass the model that the optimizer was made"
            " for."
        )
    return variables, structure


def _refuse_unknown_weights(
    name: str, variables: list[nnx.Variable], optimizer: nnx.Optimizer
) -> None:
    """In a block inside a block, the model's own weights must be among those put away."""
    if _is_marked(optimizer) and not any(id(v) in _put_away for v in variables):
        raise ValueError(
            f"{name}(model, optimizer) was entered inside another block of this optimizer, and the"
            " model is not the model of that block, whose own weights are put away: it is a copy,"
            " or the model inside a function under nnx.jit, nnx.grad, nnx.vmap or the like. Close"
            " the outer block first, or enter both blocks on the same side of the transformation."
        )
