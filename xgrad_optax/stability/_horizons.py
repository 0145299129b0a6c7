"""Which horizon: the fastest one, and the one that a rollout amounts to."""

import jax
import jax.numpy as jnp
import numpy as np

from xgrad_optax.stability._inputs import check, inputs
from xgrad_optax.stability._recurrence import Terms, terms_of

ArrayLike = jax.typing.ArrayLike

_BISECTIONS = 60  # halves an interval of length ~1 to below the last bit of a float64


def best_horizon(
    curvatures: ArrayLike,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    *,
    s_max: ArrayLike = np.inf,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The horizon with the smallest spectral radius over a spectrum.

    .. math:: s^* = \arg\min_{0 \le s \le s_{\max}} \max_i \rho(h_i, \gamma, s, \mu)

    For positive curvatures only the smallest and the largest count. For a single one
    :math:`s^* = \max(0, (\mu - (1 - \sqrt{a})^2) / a)`, critical damping, with
    :math:`\rho = |1 - \sqrt a|`.

    Args:
      curvatures: the eigenvalues h, ``[..., n]``; ``[h_min, h_max]`` for all between.
      learning_rate: γ >= 0, of the shape ``[...]`` or less.
      momentum: μ in [0, 1), likewise.
      s_max: largest horizon to consider, likewise; may be infinite.
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0, likewise.
      coupled: whether the decay is part of the gradient.

    Returns:
      s*, ``[...]``; the smallest if several are best. It is the least bad one where none is stable.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: ``curvatures`` is empty, an argument is not finite or outside its range, or
        ``method`` is unknown.

    Examples:
      >>> from xgrad_optax.stability import spectral_radius
      >>> s = best_horizon([0.5, 3.0], learning_rate=0.05, momentum=0.9)
      >>> round(float(s), 2)
      6.41
      >>> round(float(spectral_radius(0.5, 0.05, s, 0.9)), 2)  # s = 0: 0.95
      0.86
    """
    if np.ndim(curvatures) and not np.shape(curvatures)[-1]:
        raise ValueError("best_horizon needs at least one curvature, got an empty spectrum.")
    check(curvature=curvatures, learning_rate=learning_rate, momentum=momentum)
    check(s_max=s_max, weight_decay=weight_decay)
    (learning_rate, momentum, s_max, weight_decay) = (
        jnp.expand_dims(jnp.asarray(value), -1)
        for value in (learning_rate, momentum, s_max, weight_decay)
    )
    setting = (learning_rate, 0.0, momentum, method, weight_decay, coupled)
    terms = terms_of(jnp.atleast_1d(jnp.asarray(curvatures)), *setting)
    limit = jnp.broadcast_to(s_max.astype(terms.trace.dtype), terms.trace.shape)
    return _bisect_radius(terms, limit)


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
    """
    s, mu = inputs(s=s, momentum=momentum)
    whole = jnp.floor(s)
    return mu * (1 - mu**whole) / (1 - mu) + (s - whole) * mu ** (whole + 1)


@jax.jit  # once per shape, not at each call outside of jit
def _bisect_radius(terms: Terms, s_max: jax.Array) -> jax.Array:
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
