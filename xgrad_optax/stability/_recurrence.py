"""The recurrence of one step: its coefficients, without and with a delay of the gradient."""

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
    a, b, c, s, mu, step = _step_of(
        curvature, learning_rate, s, momentum, method, weight_decay, coupled
    )
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


class Parts(NamedTuple):
    """The characteristic polynomial in two parts, of which the second is late by a delay.

    P(z) = z^τ (z² - (1 + μ - b - c) z + (1 - b) μ) + a [(1 + s) z - (1 - b) s], where b is γλ for
    decoupled and c is ηλ for coupled decay: decay acts at once, and only the gradient is late.

    Attributes:
      at_once: the coefficients of the first part, the highest power first, ``[..., 3]``.
      late: those of the second, ``[..., 2]``.
    """

    at_once: jax.Array
    late: jax.Array

    def delayed(self, delay: int) -> jax.Array:
        """The coefficients of P, the highest power first, ``[..., τ+3]``."""
        batch = [(0, 0)] * (self.late.ndim - 1)
        late = jnp.pad(self.late, [*batch, (delay + 1, 0)])
        return jnp.pad(self.at_once, [*batch, (0, delay)]) + late


def parts_of(
    curvature: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    method: str,
    weight_decay: ArrayLike,
    coupled: bool,
) -> Parts:
    """Checks the arguments of the public functions and computes the polynomial."""
    a, b, c, s, mu, _ = _step_of(
        curvature, learning_rate, s, momentum, method, weight_decay, coupled
    )
    at_once = jnp.stack([jnp.ones_like(a), b + c - 1 - mu, (1 - b) * mu], axis=-1)
    return Parts(at_once, jnp.stack([a * (1 + s), -a * (1 - b) * s], axis=-1))


def _step_of(
    curvature: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    method: str,
    weight_decay: ArrayLike,
    coupled: bool,
) -> tuple[jax.Array, ...]:
    """Checks the arguments; returns a, b and c of one step, and s, μ and η."""
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
    return a, b, c, s, mu, step


def gradient_share(method: str, mu: jax.Array) -> jax.Array:
    """How much of a gradient enters the velocity."""
    if method not in METHODS:
        raise ValueError(
            f"method must be 'sgdm' (v = μv + g) or 'ema' (v = μv + (1-μ)g), got {method!r}."
        )
    return 1 - mu if method == "ema" else jnp.ones_like(mu)
