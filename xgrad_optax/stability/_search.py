"""Search for a minimum by sections."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_GOLDEN = 0.5 * (5**0.5 - 1)
_SECTIONS = 60  # shrink an interval by 3e-13


def lowest(
    function: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array
) -> jax.Array:
    """Where a function that falls and then rises, elementwise, is the smallest in [low, high]."""

    def shrink(_: int, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = interval
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        falls = function(left) > function(right)
        return jnp.where(falls, left, low), jnp.where(falls, high, right)

    low, high = jax.lax.fori_loop(0, _SECTIONS, shrink, (low, high))
    return 0.5 * (low + high)
