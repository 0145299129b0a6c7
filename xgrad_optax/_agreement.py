"""Comparing a predicted with an actual movement, and the moments of many such comparisons."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._typing import PyTree


class Agreement(NamedTuple):
    """Inner products of the predicted movement p and the actual one m; they add up over leaves.

    Attributes:
      error: ``|p - m|²``.
      predicted: ``|p|²``.
      moved: ``|m|²``.
      common: the inner product of p and m.
    """

    error: jax.Array
    predicted: jax.Array
    moved: jax.Array
    common: jax.Array

    def measures(self) -> tuple[jax.Array, jax.Array]:
        """Relative error and cosine, stacked, and where they exist: where something moved."""
        moved, predicted = (jnp.where(x == 0, 1.0, x) for x in (self.moved, self.predicted))
        relative_error = jnp.sqrt(self.error) / jnp.sqrt(moved)
        cosine = self.common / (jnp.sqrt(predicted) * jnp.sqrt(moved))
        return jnp.stack([relative_error, cosine]), self.moved != 0


def is_agreement(x: Any) -> bool:
    """Whether to stop at ``x`` in a tree of agreements."""
    return isinstance(x, Agreement)


def wide(leaf: jax.Array) -> jax.Array:
    """In JAX's default precision: squares of small numbers must not vanish in a lower one."""
    return leaf.astype(jnp.result_type(complex if jnp.iscomplexobj(leaf) else float))


def agree(predicted: jax.Array, moved: jax.Array) -> Agreement:
    """Compares two arrays of the same shape."""
    predicted, moved = wide(predicted), wide(moved)

    def inner(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(jnp.real(a * jnp.conj(b)))

    error = predicted - moved
    return Agreement(
        inner(error, error),
        inner(predicted, predicted),
        inner(moved, moved),
        inner(predicted, moved),
    )


def total(per_leaf: PyTree, length: int) -> Agreement:
    """All leaves as one vector; fields have the shape ``[length]``."""
    nothing = Agreement(*[jnp.zeros(length)] * 4)
    return functools.reduce(
        optax.tree.add, jax.tree.leaves(per_leaf, is_leaf=is_agreement), nothing
    )


class ErrorStatistics(NamedTuple):
    """What was measured at each horizon; all fields have the shape ``[horizons]``.

    Attributes:
      relative_error: mean of e over time; 1, as without prediction, if nothing could be compared.
      relative_error_std: its standard deviation over time.
      cosine: mean of c over time; 0 if nothing could be compared.
      cosine_std: its standard deviation over time.
      count: number of comparisons, int32. Where nothing moved there is nothing to compare.
    """

    relative_error: jax.Array
    relative_error_std: jax.Array
    cosine: jax.Array
    cosine_std: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple.count)


class RunningMoments(NamedTuple):
    """Means and variances over time by Welford's recurrence, one column for each horizon.

    Attributes:
      count: number of comparisons, ``[horizons]``, int32.
      mean: means of the relative error and of the cosine, ``[2, horizons]``.
      spread: sums of their squared deviations from the mean, same shape.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple.count)
    mean: jax.Array
    spread: jax.Array

    @classmethod
    def create(cls, horizons: Sequence[int]) -> "RunningMoments":
        """Before the first comparison."""
        zeros = jnp.zeros((2, len(horizons)))
        return cls(jnp.zeros(len(horizons), jnp.int32), zeros, zeros)

    def observe(self, agreement: Agreement, known: jax.Array) -> "RunningMoments":
        """Takes in one comparison per horizon, where the prediction is ``known`` and there is one.

        Whatever is left out is left out by selection: a NaN in it must not get into the means.
        """
        values, comparable = agreement.measures()
        counted = known & comparable
        count = self.count + counted.astype(jnp.int32)
        deviation = jnp.where(counted[None], values - self.mean, 0.0)
        mean = self.mean + deviation / jnp.maximum(count, 1).astype(self.mean.dtype)[None]
        change = deviation * jnp.where(counted[None], values - mean, 0.0)
        return RunningMoments(count, mean, self.spread + change)

    def statistics(self) -> ErrorStatistics:
        """The moments as users read them."""
        std = jnp.sqrt(self.spread / jnp.maximum(self.count, 1).astype(self.spread.dtype)[None])
        relative_error = jnp.where(self.count > 0, self.mean[0], 1.0)
        return ErrorStatistics(relative_error, std[0], self.mean[1], std[1], self.count)


def over_moments(function: Callable[..., Any], *trees: PyTree) -> PyTree:
    """``jax.tree.map`` over trees that have running moments for leaves."""
    return jax.tree.map(function, *trees, is_leaf=lambda x: isinstance(x, RunningMoments))
