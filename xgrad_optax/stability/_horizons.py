"""Horizons that follow from the momentum alone."""

import jax
import jax.numpy as jnp

from xgrad_optax.stability._inputs import inputs, whole_delay
from xgrad_optax.stability._search import lowest

ArrayLike = jax.typing.ArrayLike


def effective_horizon(s: ArrayLike, momentum: ArrayLike) -> jax.Array:
    r"""The s of the closed form that moves as far as the rollout of ``zero_gradient()``.

    .. math::
        s_{\text{eff}} = \sum_{k=1}^{s} \mu^k = \frac{\mu (1 - \mu^s)}{1 - \mu}

    for whole s, linear in between: with zero gradients the velocity shrinks by μ each step. It
    never exceeds :math:`\mu / (1 - \mu)`. Exact for momentum without weight decay, and for Adam
    up to its bias correction.

    Args:
      s: the horizon of the rollout in steps, >= 0.
      momentum: μ in [0, 1).

    Returns:
      s_eff, in the shape that the arguments broadcast to.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range.

    Examples:
      >>> round(float(effective_horizon(1, momentum=0.9)), 4)  # Nesterov's method
      0.9
      >>> float(effective_horizon(2.5, momentum=0.5))  # 0.5 + 0.25 + half of 0.125
      0.8125
      >>> round(float(effective_horizon(1 + 4, momentum=0.9)), 2)  # for gradients 4 updates late
      3.69
    """
    s, mu = inputs(s=s, momentum=momentum)
    whole = jnp.floor(s)
    return mu * (1 - mu**whole) / (1 - mu) + (s - whole) * mu ** (whole + 1)


def widest_horizon(momentum: ArrayLike, *, delay: int) -> jax.Array:
    r"""The horizon with the largest stable learning rate for gradients that come late.

    .. math:: s^* = \arg\max_{s \ge 0} \gamma_{\max}(s, \mu, \tau)

    The border of stability is the curve, for ω in (0, π/(τ+1)),

    .. math::
        a = 2 \tan\tfrac\omega2 \,[\sin (\tau+1)\omega - \mu \sin \tau\omega], \qquad
        s a = \mu \cos \tau\omega - \cos (\tau+1)\omega - \tfrac12 a

    and s* is that of its highest point, whatever the curvature. Without a delay it is 0.

    Args:
      momentum: μ in [0, 1).
      delay: τ, how many updates late each gradient is applied; a whole number, not traced.

    Returns:
      s*, in the shape of ``momentum``.

    Raises:
      TypeError: ``momentum`` is not a real number or array, or ``delay`` not a whole number.
      ValueError: an argument is outside its range.

    Examples:
      >>> from xgrad_optax.stability import max_learning_rate
      >>> s = widest_horizon(0.9, delay=1)
      >>> round(float(s), 2), round(float(max_learning_rate(1.0, s, 0.9, delay=1)), 4)
      (1.49, 0.3025)
    """
    (mu,) = inputs(momentum=momentum)
    if not (delay := whole_delay(delay)):
        return jnp.zeros_like(mu)

    def border(omega: jax.Array) -> jax.Array:
        rise = jnp.sin((delay + 1) * omega) - mu * jnp.sin(delay * omega)
        return 2 * jnp.tan(0.5 * omega) * rise

    last = jnp.full_like(mu, jnp.pi / (delay + 1))
    omega = lowest(lambda omega: -border(omega), jnp.zeros_like(mu), last)
    a = border(omega)
    lead = mu * jnp.cos(delay * omega) - jnp.cos((delay + 1) * omega) - 0.5 * a
    return jnp.maximum(lead / a, 0)
