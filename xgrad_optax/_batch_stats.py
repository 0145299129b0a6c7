"""Normalization statistics measured anew: the average over batches at weights that stand still."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._typing import PyTree

_PROBE = 1024.0
_LEAST_WEIGHT = 1e-6


def averaged_batch_stats(
    update: Callable[[PyTree, Any], PyTree], stats: PyTree, batches: Iterable[Any]
) -> PyTree:
    """The plain average of what a training-mode forward pass finds in each batch.

    A layer writes m·old + (1-m)·found and, in training mode, reads nothing. So what it writes over
    two different values reveals its momentum m, whatever the layer calls it, and what it writes
    over zero is (1-m)·found.

    Args:
      update: ``(stats, batch) ->`` the statistics that the forward pass writes over ``stats``.
      stats: any statistics of the right shapes.
      batches: the batches, at least one.

    Returns:
      The average statistics.

    Raises:
      ValueError: there are no statistics, no batches, or the forward pass does not update them.
    """
    if not jax.tree.leaves(stats):
        raise ValueError("The model has no batch statistics: there is nothing to recalibrate.")
    zeros = optax.tree.zeros_like(stats)
    total, weight, number = zeros, zeros, 0
    for number, batch in enumerate(batches, 1):
        found = update(zeros, batch)
        if number == 1:
            probe = update(optax.tree.full_like(stats, _PROBE), batch)
            weight = jax.tree.map(lambda p, f: 1.0 - (p - f) / _PROBE, probe, found)
            _check_updated(weight)
        total = optax.tree.add(total, found)
    if not number:
        raise ValueError("recalibrate_batch_stats needs at least one batch, got none.")
    return jax.tree.map(lambda t, w: t / (number * w), total, weight)


def _check_updated(weight: PyTree) -> None:
    for path, w in jax.tree_util.tree_leaves_with_path(weight):
        if bool(jnp.any(w < _LEAST_WEIGHT)):
            raise ValueError(
                f"The forward pass did not update the batch statistics"
                f" {jax.tree_util.keystr(path)}. Run the model in training mode, with"
                " use_running_average=False."
            )
