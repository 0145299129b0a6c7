"""The draw of the control examples, with every forward and backward pass that it needs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates.losses import ExampleLoss, Rows
from xgrad_optax.control_variates.selection import (
    Selection,
    batch_size_of,
    leave,
    pick,
    regroup,
    select,
    spread,
)


class Drawn(NamedTuple):
    """A mini-batch after the draw.

    Attributes:
      batch: its rows, in the order of the next two.
      rows: their forward pass, ``None`` if nobody needs it.
      weights: w_i of the drawn rows, zero for the others, ``[B]``.
      grads: Σ_i w_i g_i.
      value: the mean loss.
    """

    batch: PyTree
    rows: Rows | None
    weights: jax.Array
    grads: Updates
    value: jax.Array


def draw_evenly(
    loss: ExampleLoss,
    control_fraction: float,
    params: Params,
    batch: PyTree,
    key: jax.Array,
    *,
    needs_rows: bool,
) -> Drawn:
    """The draw comes first, so that every row has one forward pass."""
    selection = select(key, batch_size_of(batch), control_fraction)
    control = pick(batch, selection)
    rows, grads = loss.weighted_gradient(params, control, selection.weights)
    if not needs_rows:
        weights = spread(selection, batch_size_of(batch))
        return Drawn(batch, None, weights, grads, rows.losses.mean())  # equal weights
    others = leave(batch, selection)
    rows = regroup(rows, loss.forward(params, others))
    batch = regroup(control, others)
    first = Selection(jnp.zeros_like(selection.choice), selection.weights)
    return Drawn(batch, rows, spread(first, batch_size_of(batch)), grads, rows.losses.mean())


def draw_by_importance(
    loss: ExampleLoss,
    control_fraction: float,
    params: Params,
    batch: PyTree,
    key: jax.Array,
    *,
    scores: Callable[[Rows], jax.Array],
    defensive: float,
) -> Drawn:
    """The forward pass of all rows decides; that of the drawn ones runs once more."""
    size, rows = batch_size_of(batch), loss.forward(params, batch)
    importance = jax.lax.stop_gradient(scores(rows))
    selection = select(key, size, control_fraction, importance, defensive=defensive)
    _, grads = loss.weighted_gradient(params, pick(batch, selection), selection.weights)
    return Drawn(batch, rows, spread(selection, size), grads, rows.losses.mean())
