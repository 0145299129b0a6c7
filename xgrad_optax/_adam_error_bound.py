"""How far a prediction for Adam can be off on a smooth loss, from what is known beforehand."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax

from xgrad_optax._checks import checked_whole_number
from xgrad_optax._error_bound import floating, rates_ahead, total_error


def adam_error_bound(
    horizon: int,
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    *,
    count: jax.typing.ArrayLike,
    smoothness: jax.typing.ArrayLike,
    update_norm: jax.typing.ArrayLike,
    gradient_gap: jax.typing.ArrayLike,
    scale_gap: jax.typing.ArrayLike,
    largest_update: jax.typing.ArrayLike,
    largest_gradient: jax.typing.ArrayLike,
    point_distance: jax.typing.ArrayLike,
    s: jax.typing.ArrayLike = 0.0,
    noise: jax.typing.ArrayLike = 0.0,
    largest_noise: jax.typing.ArrayLike | None = None,
    epsilon_share: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    r"""Bounds the error :math:`\lVert\hat\theta_{t+h} - \theta_{t+h}\rVert` of Adam's closed form.

    Adam is :math:`\theta_t = \theta_{t-1} - \gamma_t u_t` with :math:`u_t = \hat m_t / D_t` and
    :math:`D_t = \sqrt{\hat v_t} + \varepsilon`, entry by entry. Its gradient :math:`g_t` is taken
    at :math:`x_t = \theta_{t-1} - s\gamma_t u_{t-1}`, and the prediction is
    :math:`\hat\theta_{t+h} = \theta_t - h\gamma_{t+1} u_t`. As in :func:`sgdm_error_bound` its
    error is exactly

    .. math::
        \hat\theta_{t+h} - \theta_{t+h} = \sum_{k=1}^h \gamma_{t+k} (u_{t+k} - u_t)
            + \sum_{k=1}^h (\gamma_{t+k} - \gamma_{t+1})\, u_t, \qquad
        u_{t+k} - u_t = \frac{\hat m_{t+k} - \hat m_t}{D_{t+k}}
            + u_t \Bigl(\frac{D_t}{D_{t+k}} - 1\Bigr)

    Both moments move towards the gradients to come, bias corrections included:

    .. math::
        \hat m_{t+k} - \hat m_t = \frac{1-\beta_1}{1-\beta_1^{t+k}}
            \sum_{j=1}^k \beta_1^{k-j} (g_{t+j} - \hat m_t), \qquad
        \hat v_{t+k} - \hat v_t = \frac{1-\beta_2}{1-\beta_2^{t+k}}
            \sum_{j=1}^k \beta_2^{k-j} (g_{t+j}^2 - \hat v_t)

    **Distances of gradients are measured in Adam's own scale**, that of :math:`D_t` at the step of
    the prediction. Let gradients of the loss obey
    :math:`\lVert (g(x) - g(y)) / D_t \rVert \le L \lVert x - y \rVert` and those of mini-batches
    miss them by at most σ in the norm and :math:`\sigma_\infty` in an entry, both over
    :math:`D_t`. If the points are at most :math:`r_j` apart, :math:`g_{t+j} / D_t` differs from
    :math:`g_t / D_t` by at most :math:`d_j = 2\sigma + L r_j` in the norm and
    :math:`\delta_j = 2\sigma_\infty + L r_j` in an entry. So the first moment moves by at most

    .. math::
        M_k = \frac{1-\beta_1}{1-\beta_1^{t+k}} \sum_{j=1}^k \beta_1^{k-j}
            \Bigl(\lVert (g_t - \hat m_t) / D_t \rVert + d_j\Bigr)

    over :math:`D_t`. What is left of the second moment without further gradients bounds the scale
    from below, :math:`D_{t+k} \ge \sqrt{\rho_k}\, D_t` with
    :math:`\rho_k = \beta_2^k (1-\beta_2^t) / (1-\beta_2^{t+k})`, and the largest gradients from
    above, :math:`D_{t+k} \le U_k D_t`, where e is the largest share of ε in :math:`D_t`:

    .. math::
        U_k = \sqrt{\rho_k (1-e)^2 + A_k} + e, \qquad
        A_k = \frac{1-\beta_2}{1-\beta_2^{t+k}} \sum_{j=1}^k \beta_2^{k-j}
            \Bigl(\lVert g_t / D_t \rVert_\infty + \delta_j\Bigr)^2

    The second term of :math:`u_{t+k} - u_t` is at most the lesser of what these allow,
    :math:`\lVert u_t \rVert \max(1/\sqrt{\rho_k} - 1,\; 1 - 1/U_k)`, and of what the movement of
    the second moment allows,

    .. math::
        R_k = \frac{1}{\sqrt{\rho_k}\,(1 + \sqrt{\rho_k})}\, \frac{1-\beta_2}{1-\beta_2^{t+k}}
            \sum_{j=1}^k \beta_2^{k-j} \Bigl(
            \lVert u_t (g_t^2 - \hat v_t) / (D_t \sqrt{\hat v_t}) \rVert
            + \lVert \hat m_t / \sqrt{\hat v_t} \rVert_\infty
            \Bigl(2 \lVert g_t / D_t \rVert_\infty + \delta_j\Bigr) d_j \Bigr)

    because :math:`D_{t+k} - D_t = (\hat v_{t+k} - \hat v_t) / (\sqrt{\hat v_{t+k}} +
    \sqrt{\hat v_t})`. Together :math:`\lVert u_{t+k} - u_t \rVert` is at most

    .. math::
        G_k = \frac{M_k}{\sqrt{\rho_k}} + \min\Bigl(R_k,\;
            \lVert u_t \rVert \max\Bigl(\frac{1}{\sqrt{\rho_k}} - 1,\; 1 - \frac{1}{U_k}\Bigr)\Bigr)

    from which :math:`r_j` and the bound itself follow as in :func:`sgdm_error_bound`, with
    :math:`u_t` in place of :math:`v_t`.

    Args:
      horizon: h, a whole number of steps >= 1.
      learning_rate: γ, a number or a schedule.
      b1: β₁.
      b2: β₂, above 0.
      count: t, the number of updates made, at least 1.
      smoothness: L: gradients at two of the points, over D_t, differ by at most L times the
        distance of the points.
      update_norm: ‖u_t‖, the norm of the last update without the learning rate.
      gradient_gap: ‖(g_t - m̂_t) / D_t‖ for the last gradient g_t.
      scale_gap: ‖u_t (g_t² - v̂_t) / (D_t √v̂_t)‖; entries with v̂_t = 0 count as 0.
      largest_update: the largest entry of \|m̂_t\| / √v̂_t, likewise: but for ε that of \|u_t\|.
      largest_gradient: the largest entry of \|g_t\| / D_t.
      point_distance: ‖x_{t+1} - x_t‖, how far the next point at which a gradient is taken is from
        the last one; without prediction (``s=0``) the norm of the last update.
      s: the horizon that training itself uses.
      noise: σ, the largest distance of a mini-batch gradient from that of the loss, over D_t; 0 for
        full batches.
      largest_noise: σ_∞, the largest entry of such a distance; by default, which is always enough,
        ``noise``.
      epsilon_share: e, the largest ε / D_t among entries with u_t ≠ 0.

    Returns:
      The bound; arguments may be arrays of a common shape, which it then has.

    Raises:
      TypeError: ``horizon`` is not a whole number.
      ValueError: ``horizon`` or ``count`` is below 1.

    Examples:
      >>> # A gradient of 1 after nine of 0, without momentum: v̂_10 is about 1/10 and the update
      >>> # √10. If the gradient stays, v̂_11 is about 2/11 and the next update only √(11/2).
      >>> bound = adam_error_bound(
      ...     1, 0.1, 0.0, count=10, smoothness=0.0, update_norm=10**0.5, gradient_gap=0.0,
      ...     scale_gap=9 * 10**0.5, largest_update=10**0.5, largest_gradient=10**0.5,
      ...     point_distance=0.1 * 10**0.5,
      ... )
      >>> round(float(bound), 3), round(0.1 * (10**0.5 - 5.5**0.5), 3)
      (0.082, 0.082)

    References:
      Ours.
    """
    rates = rates_ahead(learning_rate, count, checked_whole_number(horizon, "horizon"))
    t, share = floating(_checked_count(count)), floating(epsilon_share)
    update, distance, entry = map(floating, (update_norm, point_distance, largest_gradient))
    sigma = floating(noise)
    sigma_entry = sigma if largest_noise is None else floating(largest_noise)

    def drift_after(sums: Any, k: int, reach: jax.Array) -> tuple[Any, jax.Array]:
        d = 2 * sigma + smoothness * reach
        delta = 2 * sigma_entry + smoothness * reach
        terms = (
            (b1, gradient_gap + d),  # M
            (b2, (entry + delta) ** 2),  # A
            (b2, scale_gap + largest_update * (2 * entry + delta) * d),  # R
        )
        sums = [decay * so_far + new for so_far, (decay, new) in zip(sums, terms, strict=True)]
        moment, square, movement = (
            (1 - decay) / _debiased(decay, t + k) * total
            for total, (decay, _) in zip(sums, terms, strict=True)
        )
        kept = b2**k * _debiased(b2, t) / _debiased(b2, t + k)  # ρ
        lowest, highest = jnp.sqrt(kept), jnp.sqrt(kept * (1 - share) ** 2 + square) + share
        within = update * jnp.maximum(1 / lowest - 1, 1 - 1 / highest)
        rescaled = jnp.minimum(within, movement / (lowest * (1 + lowest)))
        return sums, moment / lowest + rescaled

    return total_error(rates, update, distance, s, [jnp.zeros_like(update)] * 3, drift_after)


def _debiased(decay: Any, count: jax.Array) -> jax.Array:
    """1 - βᵗ, to full precision where βᵗ is near 1."""
    return -jnp.expm1(count * jnp.log(floating(decay)))


def _checked_count(count: Any) -> Any:
    """Returns the number of updates made; refuses one below 1 unless it is traced."""
    if not isinstance(count, jax.core.Tracer) and np.any(np.asarray(count) < 1):
        raise ValueError(
            f"count must be at least 1, got {count}: before the first update there are no moments"
            " to predict from, and the prediction is where the parameters are."
        )
    return count
