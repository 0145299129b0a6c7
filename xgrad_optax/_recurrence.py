"""The recurrence behind :mod:`xgrad_optax.stability`: its coefficients, limits and checks."""

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

ArrayLike = jax.typing.ArrayLike

METHODS = ("sgdm", "ema")

_BISECTIONS = 60  # halves an interval of length ~1 to below the last bit of a float64


class Terms(NamedTuple):
    """θ_{t+1} = T θ_t - D θ_{t-1}, and what follows from it.

    Attributes:
      trace: T.
      determinant: D.
      trace_slope: -∂T/∂s.
      determinant_slope: -∂D/∂s.
      drift: 1 - T + D without its cancellation; 0 where an eigenvalue is 1.
      flip: 1 + T + D, likewise; 0 where an eigenvalue is -1.
      step: what a gradient is multiplied with in its own step.
    """

    trace: jax.Array
    determinant: jax.Array
    trace_slope: jax.Array
    determinant_slope: jax.Array
    drift: jax.Array
    flip: jax.Array
    step: jax.Array


def terms_of(
    curvature: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    method: str,
    weight_decay: ArrayLike,
    coupled: bool,
) -> Terms:
    """Checks the arguments of the public functions and computes the recurrence."""
    h, gamma, s, mu, decay = inputs(
        curvature=curvature,
        learning_rate=learning_rate,
        s=s,
        momentum=momentum,
        weight_decay=weight_decay,
    )
    step = gradient_share(method, mu) * gamma
    a = step * h
    b, c = (jnp.zeros_like(a), step * decay) if coupled else (gamma * decay, jnp.zeros_like(a))
    velocity = mu - s * a  # what is left of the velocity after a step, gradient included
    return Terms(
        trace=1 - b - a - c + velocity,
        determinant=(1 - b) * velocity,
        trace_slope=a,
        determinant_slope=(1 - b) * a,
        drift=a + c + b * (1 - velocity),
        flip=(2 - b) * (1 + mu) - a * (1 + (2 - b) * s) - c,
        step=step,
    )


def gradient_share(method: str, mu: jax.Array) -> jax.Array:
    """How much of a gradient enters the velocity."""
    if method not in METHODS:
        raise ValueError(
            f"method must be 'sgdm' (v = μv + g) or 'ema' (v = μv + (1-μ)g), got {method!r}."
        )
    return 1 - mu if method == "ema" else jnp.ones_like(mu)


def decoupled_limits(h: jax.Array, s: jax.Array, mu: jax.Array, decay: jax.Array) -> jax.Array:
    """The first γ at which an eigenvalue becomes -1 or 1; h includes the gradient's share."""
    # flip = (h s λ) γ² - (λ(1+μ) + h(1+2s)) γ + 2(1+μ)
    square, linear, constant = h * s * decay, decay * (1 + mu) + h * (1 + 2 * s), 2 * (1 + mu)
    root = jnp.sqrt(linear**2 - 4 * square * constant)
    # The smallest positive zero, in whichever of its two forms does not cancel.
    flip = jnp.where(
        linear < 0, _divide(root - linear, -2 * square), _divide(2 * constant, linear + root)
    )
    # drift / γ = h + λ(1-μ) + (h s λ) γ, for negative h only: positive ones do not drift.
    slack = h + decay * (1 - mu)
    drift = jnp.where(slack < 0, 0, _divide(slack, -square))
    return jnp.where(h < 0, jnp.minimum(flip, drift), flip)


def coupled_limits(h: jax.Array, s: jax.Array, mu: jax.Array, decay: jax.Array) -> jax.Array:
    """The same for decay that is part of the gradient; ``decay`` includes the gradient's share."""
    flip = _divide(2 * (1 + mu), h * (1 + 2 * s) + decay)
    # Where the curvature is negative the prediction amplifies the velocity instead of damping it.
    spin = _divide(1 - mu, -h * s)
    return jnp.where(h + decay < 0, 0, jnp.minimum(flip, spin))


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The limit set by ``numerator - γ denominator > 0``: none where the denominator is <= 0."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), jnp.inf)


@jax.jit  # once per shape, not at each call outside of jit
def bisect_radius(terms: Terms, s_max: jax.Array) -> jax.Array:
    """Returns the s of the smallest radius; ``terms`` are those of s = 0, ``[..., n]``.

    Both roots lie within a circle of radius r iff T r <= r² + D, -T r <= r² + D and D <= r². T and
    D are linear in s, so for each r these are bounds on s, and the best r is the smallest whose
    bounds leave an s.
    """

    def bounds(r: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = r[..., None]
        T, D, t, d = terms[:4]
        constants = jnp.stack([r**2 - D, r**2 - T * r + D, r**2 + T * r + D], axis=-1)
        slopes = jnp.stack([d, t * r - d, -t * r - d], axis=-1)
        roots = -constants / jnp.where(slopes == 0, 1, slopes)
        lower = jnp.where(slopes > 0, roots, 0)
        lower = jnp.where((slopes == 0) & (constants < 0), jnp.inf, lower)
        upper = jnp.minimum(jnp.where(slopes < 0, roots, jnp.inf), s_max[..., None])
        return jnp.maximum(lower, 0).max(axis=(-2, -1)), upper.min(axis=(-2, -1))

    def halve(_: int, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        low, high, best = carry
        middle = 0.5 * (low + high)
        lower, upper = bounds(middle)
        feasible = lower <= upper
        return (
            jnp.where(feasible, low, middle),
            jnp.where(feasible, middle, high),
            jnp.where(feasible, lower, best),
        )

    zeros = jnp.zeros(terms.trace.shape[:-1], terms.trace.dtype)
    # |T| + √|D| bounds both roots at s = 0, which is always allowed.
    enough = (jnp.abs(terms.trace) + jnp.sqrt(jnp.abs(terms.determinant))).max(axis=-1)
    return jax.lax.fori_loop(0, _BISECTIONS, halve, (zeros, enough, zeros))[2]


# --------------------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------------------

_RULES: dict[str, tuple[str, Any]] = {
    "curvature": ("finite", np.isfinite),
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


def inputs(**values: Any) -> list[jax.Array]:
    """Checks the values and brings them to one shape and one floating-point dtype."""
    check(**values)
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*map(jnp.asarray, values.values()), 1.0)
    return jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values.values()))
