"""Numbers as a train step holds them, although a compiler may keep more digits.

XLA may drop a conversion to a shorter dtype and back (``xla_allow_excess_precision``), so that the
same sum has other digits in one program than in another. What must be the same everywhere, because
it is added once and taken off again later, is therefore rounded explicitly.
"""

from typing import Any

import jax
import jax.numpy as jnp


def widened(x: jax.Array) -> jax.Array:
    """In float32 at least, with the digits that the dtype of ``x`` has."""
    if not is_short(x.dtype):
        return x
    return _with_digits_of(x.dtype, x.astype(jnp.promote_types(x.dtype, jnp.float32)))


def rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """In ``dtype``, with no digit more than that."""
    return _with_digits_of(dtype, x).astype(dtype) if is_short(dtype) else x.astype(dtype)


def moved(param: jax.Array, displacement: jax.Array) -> jax.Array:
    """The parameter, displaced; added in the wider dtype and rounded once, to its own."""
    with jax.numpy_dtype_promotion("standard"):
        return rounded(widened(param) + widened(displacement), param.dtype)


def moved_back(param: jax.Array, displacement: jax.Array, dtype: Any) -> jax.Array:
    """The parameter before it was displaced, in ``dtype``."""
    with jax.numpy_dtype_promotion("standard"):
        return rounded(widened(param) - widened(displacement), dtype)


def is_short(dtype: Any) -> bool:
    """Whether a dtype is a real floating-point one below float32."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32


def _with_digits_of(dtype: Any, x: jax.Array) -> jax.Array:
    # The exponent keeps its range: subnormal numbers of float16 would be lost otherwise.
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=jnp.finfo(dtype).nmant)
