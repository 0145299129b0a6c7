"""The recurrence of one step, and what follows from its coefficients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from xgrad_optax.stability._inputs import inputs

ArrayLike = jax.typing.ArrayLike

METHODS = ("sgdm", "ema")


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
