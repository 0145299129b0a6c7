"""The largest stable learning rate."""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from xgrad_optax.stability._inputs import inputs, whole_delay
from xgrad_optax.stability._recurrence import gradient_share

ArrayLike = jax.typing.ArrayLike

_BISECTIONS = 60  # halves an interval of length ~1 to below the last bit of a float64


def max_learning_rate(
    curvature: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
    delay: int = 0,
) -> jax.Array:
    r"""The learning rate below which a step is stable.

    .. math:: \gamma_{\max} = \frac{2 (1 + \mu)}{h (1 + 2 s)}

    for ``method="sgdm"`` without weight decay and h > 0; ``"ema"`` multiplies it by
    :math:`1 / (1 - \mu)`. For a spectrum it is that of the largest curvature. With a delay τ it is

    .. math::
        \gamma_{\max} = \frac{2 \sin\tfrac\omega2}{h}
            \sqrt{\frac{(1-\mu)^2 + 4\mu\sin^2\tfrac\omega2}
                       {1 + 4 s (1+s) \sin^2\tfrac\omega2}}

    at the lowest frequency ω of an oscillation that goes on for ever (docs/late-gradients.md). It
    is found by bisection, runs everywhere and can be differentiated.

    Args:
      curvature: h, see :func:`companion_matrix`.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.
      delay: τ, how many updates late each gradient is applied; a whole number, not traced.

    Returns:
      The supremum of stable learning rates: 0 where none is stable (negative curvature that no
      decay makes up for), infinity where none diverges (zero curvature).

    Raises:
      TypeError: an argument is not a real number or array, or ``delay`` not a whole number.
      ValueError: an argument is not finite or outside its range, ``method`` is unknown, or there is
        a weight decay with a delay.

    Examples:
      >>> import jax.numpy as jnp
      >>> max_learning_rate(10.0, jnp.array([0.0, 1.0, 2.0]), momentum=0.9)
      Array([0.38..., 0.126..., 0.076...], dtype=float32)
      >>> round(float(max_learning_rate(10.0, 1, momentum=0.9, method="ema")), 4)  # Adam's β₁
      1.2667
      >>> late = max_learning_rate(1.0, jnp.array([0.0, 1.0, 1.5]), momentum=0.9, delay=1)
      >>> [round(float(limit), 4) for limit in late]  # without the delay 3.8, 1.2667 and 0.95
      [0.1, 0.2702, 0.3025]

    References:
      For s = 0: Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964. For Adam: Cohen et al., `Adaptive
      Gradient Methods at the Edge of Stability <https://arxiv.org/abs/2207.14484>`_, 2022.
    """
    delay = whole_delay(delay)
    if delay and (isinstance(weight_decay, jax.core.Tracer) or np.any(weight_decay)):
        raise ValueError(
            "max_learning_rate has no formula for weight_decay with a delay: compare learning rates"
            f" by spectral_radius, which has. Got weight_decay={weight_decay} and delay={delay}."
        )
    h, s, mu, decay = inputs(curvature=curvature, s=s, momentum=momentum, weight_decay=weight_decay)
    scaled = gradient_share(method, mu) * h
    if delay:
        return jnp.where(scaled < 0, 0, _divide(_delayed_limit(s, mu, delay), scaled))
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


def _delayed_limit(s: jax.Array, mu: jax.Array, delay: int) -> jax.Array:
    """The a at which the first pair of roots reaches the unit circle."""
    square = jnp.sin(0.5 * _first_frequency(s, mu, delay)) ** 2
    distances = square * ((1 - mu) ** 2 + 4 * mu * square) / (1 + 4 * s * (1 + s) * square)
    return 2 * jnp.sqrt(distances)


def _first_frequency(s: jax.Array, mu: jax.Array, delay: int) -> jax.Array:
    """The ω in (0, π) at which a pair of roots reaches the unit circle."""

    def lag(omega: jax.Array, s: jax.Array, mu: jax.Array) -> jax.Array:
        """(τ + ½) ω, that of the momentum, less the lead of the prediction."""
        chord = 2 * jnp.sin(0.5 * omega) ** 2  # 1 - cos ω
        momentum = jnp.arctan2(jnp.sin(omega), 1 - mu - chord)
        prediction = jnp.arctan2((1 + s) * jnp.sin(omega), 1 - (1 + s) * chord)
        return (delay + 0.5) * omega + momentum - prediction

    def halve(_: int, interval: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = interval
        middle = 0.5 * (low + high)
        early = lag(middle, *fixed) < 0.5 * jnp.pi
        return jnp.where(early, middle, low), jnp.where(early, high, middle)

    # Below the first frequency the lag is less than a quarter turn, and above it more.
    fixed = jax.lax.stop_gradient((s, mu))
    low, high = jnp.zeros_like(s), jnp.full_like(s, jnp.pi)
    omega = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))[0]
    # A last step of Newton's method has the derivatives that bisection lacks.
    slope = jax.jvp(lambda x: lag(x, *fixed), (omega,), (jnp.ones_like(omega),))[1]
    return omega - (lag(omega, s, mu) - 0.5 * jnp.pi) / slope


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The limit set by ``numerator - γ denominator > 0``: none where the denominator is <= 0."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), jnp.inf)
