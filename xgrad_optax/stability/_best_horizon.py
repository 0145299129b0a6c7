"""The horizon with the smallest spectral radius."""

import jax
import jax.numpy as jnp
import numpy as np

from xgrad_optax.stability._inputs import check, whole_delay
from xgrad_optax.stability._polynomial import companion, largest_modulus
from xgrad_optax.stability._recurrence import Parts, Terms, parts_of, terms_of
from xgrad_optax.stability._search import lowest

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
    delay: int = 0,
) -> jax.Array:
    r"""The horizon with the smallest spectral radius over a spectrum.

    .. math:: s^* = \arg\min_{0 \le s \le s_{\max}} \max_i \rho(h_i, \gamma, s, \mu)

    For positive curvatures only the smallest and the largest count. For a single one
    :math:`s^* = \max(0, (\mu - (1 - \sqrt{a})^2) / a)`, critical damping, with
    :math:`\rho = |1 - \sqrt a|`.

    With a delay all the given curvatures count, the minimum is searched for by golden section, and
    the radius is that of :func:`spectral_radius`, which needs a CPU or a GPU. In single precision
    the eigenvalues near the minimum leave s uncertain by about a percent.

    Args:
      curvatures: the eigenvalues h, ``[..., n]``; ``[h_min, h_max]`` for all between.
      learning_rate: γ >= 0, of the shape ``[...]`` or less.
      momentum: μ in [0, 1), likewise.
      s_max: largest horizon to consider, likewise; may be infinite.
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0, likewise.
      coupled: whether the decay is part of the gradient.
      delay: τ, how many updates late each gradient is applied; a whole number, not traced.

    Returns:
      s*, ``[...]``; the smallest if several are best. It is the least bad one where none is stable.

    Raises:
      TypeError: an argument is not a real number or array, or ``delay`` not a whole number.
      ValueError: ``curvatures`` is empty, an argument is not finite or outside its range, or
        ``method`` is unknown.

    Examples:
      >>> from xgrad_optax.stability import spectral_radius
      >>> s = best_horizon([0.5, 3.0], learning_rate=0.05, momentum=0.9)
      >>> round(float(s), 2)
      6.41
      >>> round(float(spectral_radius(0.5, 0.05, s, 0.9)), 2)  # s = 0: 0.95
      0.86
      >>> s = best_horizon([0.5, 3.0], learning_rate=0.01, momentum=0.9, delay=4)
      >>> round(float(spectral_radius(3.0, 0.01, s, 0.9, delay=4)), 2)  # s = 0: 1.005
      0.95
    """
    if np.ndim(curvatures) and not np.shape(curvatures)[-1]:
        raise ValueError("best_horizon needs at least one curvature, got an empty spectrum.")
    check(curvature=curvatures, learning_rate=learning_rate, momentum=momentum)
    check(s_max=s_max, weight_decay=weight_decay)
    (learning_rate, momentum, s_max, weight_decay) = (
        jnp.expand_dims(jnp.asarray(value), -1)
        for value in (learning_rate, momentum, s_max, weight_decay)
    )
    spectrum = jnp.atleast_1d(jnp.asarray(curvatures))
    if delay := whole_delay(delay):
        plain, ahead = (
            parts_of(spectrum, learning_rate, s, momentum, method, weight_decay, coupled)
            for s in (0.0, 1.0)
        )
        slope = Parts(jnp.zeros_like(plain.at_once), ahead.late - plain.late)
        s_max = s_max[..., 0].astype(plain.late.dtype)
        return _search_radius(plain.delayed(delay), slope.delayed(delay), s_max)
    setting = (learning_rate, 0.0, momentum, method, weight_decay, coupled)
    terms = terms_of(spectrum, *setting)
    limit = jnp.broadcast_to(s_max.astype(terms.trace.dtype), terms.trace.shape)
    return _bisect_radius(terms, limit)


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


@jax.jit
def _search_radius(plain: jax.Array, slope: jax.Array, s_max: jax.Array) -> jax.Array:
    """Returns the s of the smallest radius of the polynomials ``plain + s slope``, ``[..., n, :]``.

    The radius falls and then rises with s. No s can win for which one coefficient, which is a sum
    of products of all roots but one, is larger than the radius at s = 0 allows.
    """

    def radius(log_s: jax.Array) -> jax.Array:
        polynomial = plain + jnp.expm1(log_s)[..., None, None] * slope
        return largest_modulus(companion(polynomial)).max(axis=-1)

    zero = jnp.zeros(plain.shape[:-2], plain.dtype)
    degree = plain.shape[-1] - 1
    allowed = jnp.log(degree) + (degree - 1) * jnp.log(radius(zero))[..., None]
    excess = jnp.logaddexp(allowed, jnp.log(jnp.abs(plain[..., -2])))
    bound = jnp.logaddexp(0, excess - jnp.log(jnp.abs(slope[..., -2]))).min(axis=-1)
    bound = jnp.where(jnp.isfinite(bound), bound, 0)  # without curvature s changes nothing
    high = jnp.minimum(bound, jnp.log1p(s_max))
    best = lowest(radius, zero, high)
    return jnp.where(radius(zero) <= radius(best), 0, jnp.expm1(best))
