"""The largest stable learning rate."""

import jax
import jax.numpy as jnp

from xgrad_optax.stability._inputs import inputs
from xgrad_optax.stability._recurrence import gradient_share

ArrayLike = jax.typing.ArrayLike


def max_learning_rate(
    curvature: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The learning rate below which a step is stable.

    .. math:: \gamma_{\max} = \frac{2 (1 + \mu)}{h (1 + 2 s)}

    for ``method="sgdm"`` without weight decay and h > 0; ``"ema"`` multiplies it by
    :math:`1 / (1 - \mu)`. For a spectrum it is that of the largest curvature.

    Args:
      curvature: h, see :func:`companion_matrix`.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.

    Returns:
      The supremum of stable learning rates: 0 where none is stable (negative curvature that no
      decay makes up for), infinity where none diverges (zero curvature).

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> max_learning_rate(10.0, jnp.array([0.0, 1.0, 2.0]), momentum=0.9)
      Array([0.38..., 0.126..., 0.076...], dtype=float32)
      >>> round(float(max_learning_rate(10.0, 1, momentum=0.9, method="ema")), 4)  # Adam's β₁
      1.2667

    References:
      For s = 0: Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964. For Adam: Cohen et al., `Adaptive
      Gradient Methods at the Edge of Stability <https://arxiv.org/abs/2207.14484>`_, 2022.
    """
    h, s, mu, decay = inputs(curvature=curvature, s=s, momentum=momentum, weight_decay=weight_decay)
    scaled = gradient_share(method, mu) * h
    limits = _coupled_limits if coupled else _decoupled_limits
    return limits(scaled, s, mu, gradient_share(method, mu) * decay if coupled else decay)


def _decoupled_limits(h: jax.Array, s: jax.Array, mu: jax.Array, decay: jax.Array) -> jax.Array:
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


def _coupled_limits(h: jax.Array, s: jax.Array, mu: jax.Array, decay: jax.Array) -> jax.Array:
    """The same for decay that is part of the gradient; ``decay`` includes the gradient's share."""
    flip = _divide(2 * (1 + mu), h * (1 + 2 * s) + decay)
    # Where the curvature is negative the prediction amplifies the velocity instead of damping it.
    spin = _divide(1 - mu, -h * s)
    return jnp.where(h + decay < 0, 0, jnp.minimum(flip, spin))


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The limit set by ``numerator - γ denominator > 0``: none where the denominator is <= 0."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), jnp.inf)
