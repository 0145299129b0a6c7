"""The arguments of the quadratic model: checked, and brought to one shape and dtype."""

import numbers
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

_RULES: dict[str, tuple[str, Any]] = {
    "curvature": ("finite", np.isfinite),
    "hessian": ("finite", np.isfinite),
    "learning_rate": ("finite and >= 0", lambda x: np.isfinite(x) & (x >= 0)),
    "s": ("finite and >= 0", lambda x: np.isfinite(x) & (x >= 0)),
    "s_max": (">= 0", lambda x: x >= 0),
    "momentum": (">= 0 and < 1", lambda x: (x >= 0) & (x < 1)),
    "weight_decay": ("finite and >= 0", lambda x: np.isfinite(x) & (x >= 0)),
    "noise_variance": ("finite and >= 0", lambda x: np.isfinite(x) & (x >= 0)),
}


def check(**values: Any) -> None:
    """Refuses values outside their range; those that are traced are not known yet."""
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            continue
        array = np.asarray(value)
        if array.dtype == bool or not (
            jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
        ):
            raise TypeError(f"{name} must be a real number or array, got {value!r}.")
        rule, holds = _RULES[name]
        array = np.atleast_1d(array)
        if (wrong := array[~holds(array)]).size:
            raise ValueError(f"{name} must be {rule}, got {wrong[0]}.")


def whole_delay(value: Any) -> int:
    """Returns a delay as an int; it is the degree of a polynomial, so it cannot be traced."""
    expected = "delay must be a whole number >= 0 that is known before tracing"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}.")
    if value < 0:
        raise ValueError(f"{expected}, got {value}.")
    return int(value)


def inputs(**values: Any) -> list[jax.Array]:
    """Checks the values and brings them to one shape and one floating-point dtype."""
    check(**values)
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*map(jnp.asarray, values.values()), 1.0)
    return jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values.values()))
