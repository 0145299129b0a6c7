"""Ring buffers of trees: what was at each of the last steps, one behind the other."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xgrad_optax._checks import checked_whole_number
from xgrad_optax._typing import Params, PyTree, Updates


def empty(tree: PyTree, length: int) -> PyTree:
    """Buffers for ``length`` trees like ``tree``, leaves ``[length, ...]``."""
    # Broadcasting keeps the sharding of what it broadcasts.
    return jax.tree.map(
        lambda x: jnp.broadcast_to(jnp.zeros_like(x)[None], (length, *x.shape)), tree
    )


def write(buffers: PyTree, tree: PyTree, slot: jax.Array) -> PyTree:
    """The buffers with ``tree`` in one slot."""
    return jax.tree.map(
        lambda buffer, x: jax.lax.dynamic_update_index_in_dim(buffer, x, slot, axis=0),
        buffers,
        tree,
    )


def read(buffers: PyTree, slot: jax.Array) -> PyTree:
    """The tree in one slot."""
    return jax.tree.map(
        lambda buffer: jax.lax.dynamic_index_in_dim(buffer, slot, axis=0, keepdims=False), buffers
    )


class Layout(NamedTuple):
    """Where the predictions for several horizons lie; arrays are int32.

    Attributes:
      kept: the horizons for which a prediction is kept at each step, ``[rings]``.
      ahead: the horizons to judge, ``[horizons]``.
      offset: first slot of the ring from which each is read, ``[horizons]``.
      period: length of that ring, ``[horizons]``.
      factor: what to multiply by what is read, ``[horizons]``.
    """

    kept: np.ndarray
    ahead: np.ndarray
    offset: np.ndarray
    period: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, horizons: tuple[int, ...], *, linear: bool) -> "Layout":
        """One ring for all if a prediction of one step says it all, else a ring for each."""
        h = np.asarray(horizons, np.int32)
        if linear:
            return cls(np.ones_like(h[:1]), h, np.zeros_like(h), np.full_like(h, h[-1]), h)
        return cls(h, h, np.cumsum(h, dtype=np.int32) - h, h, np.ones_like(h))

    @property
    def length(self) -> int:
        """Number of slots of all rings together."""
        return int(self.offset[-1] + self.period[-1])

    def write(
        self, buffers: Updates, predict: Callable[[jax.Array], Updates], count: jax.Array
    ) -> Updates:
        """The buffers with what is predicted at step ``count``, ring by ring."""

        def write_one(buffers: Updates, ring: Any) -> tuple[Updates, None]:
            h, offset, period = ring
            return write(buffers, predict(h.astype(float)), offset + count % period), None

        rings = (a[: len(self.kept)] for a in (self.kept, self.offset, self.period))
        # A loop, not one program for each horizon, which would take long to compile.
        return jax.lax.scan(write_one, buffers, tuple(map(jnp.asarray, rings)))[0]

    def over_horizons(self, judge: Callable[[Any], PyTree]) -> PyTree:
        """``judge((ahead, offset, period, factor))`` for each horizon, stacked."""
        return jax.lax.map(judge, tuple(map(jnp.asarray, self[1:])))


def thinned(leaf: jax.Array, max_entries: int | None) -> jax.Array:
    """At most ``max_entries`` entries, spread evenly and across rows and columns alike."""
    if max_entries is None or leaf.size <= max_entries:
        return leaf
    # Multiples of the golden ratio, modulo 1: a fixed stride could hit one column only.
    places = np.arange(max_entries) * ((1 + math.sqrt(5)) / 2) % 1
    return leaf.reshape(-1)[(places * leaf.size).astype(np.int64)]


def checked_horizons(horizons: Any) -> tuple[int, ...]:
    """Returns the horizons in ascending order; refuses what is none, or given twice."""
    checked = tuple(sorted(checked_whole_number(h, "each of `horizons`") for h in horizons))
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(
            "`horizons` must be one or more different numbers of steps such as range(1, 11), got"
            f" {tuple(horizons)}."
        )
    return checked


def check_same_shapes(rings: Params, params: Params) -> None:
    """Refuses parameters that are not those of the buffers."""
    expected = jax.tree.map(lambda ring: ring.shape[1:], rings)
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    if shapes != expected:
        raise ValueError(
            f"The parameters are not those that `init` was given: shapes {shapes} instead of"
            f" {expected}. Call `init(params, opt_state)` again for other parameters."
        )
