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

    **Distances of gradients are measured in Adam's own scale** at the step of the prediction, and
    no entry counts for more than C:

    .. math::
        \lvert x \rvert_t = \lVert \min(\lvert x \rvert / D_t,\, C) \rVert, \qquad
        C = \sqrt{2\,(1-\beta_2^t) / (1-\beta_2)}

    Let gradients of the loss obey :math:`\lvert g(x) - g(y) \rvert_t \le L \lVert x - y \rVert`,
    and those of mini-batches miss them by at most σ in :math:`\lvert\cdot\rvert_t` and by
    :math:`\sigma_\infty` in its largest entry. If :math:`x_{t+j}` is at most :math:`r_j` away from
    :math:`x_t`, :math:`g_{t+j}` differs from :math:`g_t` by at most :math:`d_j = 2\sigma + L r_j`,
    and by :math:`\delta_j = \min(2\sigma_\infty + L r_j, C)` in an entry.

    Of the second moment :math:`\rho_k = \beta_2^k (1-\beta_2^t) / (1-\beta_2^{t+k})` is left
    without further gradients, so :math:`D_{t+k} \ge \sqrt{\rho_k}\, D_t`. It also remembers
    :math:`g_t` and :math:`g_{t+j}`, so :math:`\lvert g_{t+j} - g_t \rvert \le C
    \sqrt{\hat v_{t+k} / \rho_k}`. Hence :math:`\lvert g_{t+j} - g_t \rvert / D_{t+k} \le
    \min(\lvert g_{t+j} - g_t \rvert / D_t,\, C) / \sqrt{\rho_k}`, the first term of
    :math:`u_{t+k} - u_t` is at most

    .. math::
        M_k = \frac{1}{\sqrt{\rho_k}}\, \frac{1-\beta_1}{1-\beta_1^{t+k}}
            \sum_{j=1}^k \beta_1^{k-j} \bigl(\lVert (g_t - \hat m_t) / D_t \rVert + d_j\bigr)

    and the second, by :math:`D_{t+k} - D_t = (\hat v_{t+k} - \hat v_t) / (\sqrt{\hat v_{t+k}} +
    \sqrt{\hat v_t})`, at most

    .. math::
        R_k = \frac{1}{\sqrt{\rho_k}}\, \frac{1-\beta_2}{1-\beta_2^{t+k}}
            \sum_{j=1}^k \beta_2^{k-j} \Bigl(
            \frac{w + 2 p\, a\, d_j}{1 + \sqrt{\rho_k}} + \frac{p\, \delta_j d_j}{\sqrt{\rho_k}}
            \Bigr), \qquad
        w = \lVert u_t (g_t^2 - \hat v_t) / (D_t \sqrt{\hat v_t}) \rVert

    where p is the largest entry of :math:`\lvert \hat m_t \rvert / \sqrt{\hat v_t}` and a that of
    :math:`\lvert g_t \rvert / D_t`. It is also at most
    :math:`\lVert u_t \rVert \max(1, 1 / \sqrt{\rho_k} - 1)`, because
    :math:`0 < D_t / D_{t+k} \le 1 / \sqrt{\rho_k}`. With :math:`G_k`, the sum of
    :math:`M_k` and the lesser of these two, in place of that of :func:`sgdm_error_bound`, and
    :math:`u_t` in place of :math:`v_t`, :math:`r_j` and the bound follow as they do there.

    Args:
      horizon: h, a whole number of steps >= 1.
      learning_rate: γ, a number or a schedule.
      b1: β₁.
      b2: β₂, above 0 and below 1.
      count: t, the number of updates made, at least 1.
      smoothness: L: gradients at two of the points differ, in the scale above, by at most L times
        the distance of the points. That of gradients over D_t, without C, is always enough.
      update_norm: ‖u_t‖, the norm of the last update without the learning rate.
      gradient_gap: ‖(g_t - m̂_t) / D_t‖ for the last gradient g_t.
      scale_gap: w, where entries with v̂_t = 0 count as 0.
      largest_update: p, likewise: but for ε the largest entry of \|u_t\|.
      largest_gradient: a, the largest entry of \|g_t\| / D_t.
      point_distance: ‖x_{t+1} - x_t‖, how far the next point at which a gradient is taken is from
        the last one; without prediction (``s=0``) the norm of the last update.
      s: the horizon that training itself uses.
      noise: σ, the largest distance of a mini-batch gradient from that of the loss, in the scale
        above; 0 for full batches.
      largest_noise: σ_∞, the largest entry of such a distance; by default, which is always enough,
        ``noise``.

    Returns:
      The bound; arguments may be arrays of a common shape, which it then has.

    Raises:
      TypeError: ``horizon`` is not a whole number.
      ValueError: ``horizon`` or ``count`` is below 1.

    Examples:
      >>> # Gradients of 1 up to the tenth, then of 0.01, without momentum. After 11 steps v̂ is
      >>> # about 10/11, after 12 it is 10/12, so the next update is larger by √(12/11).
      >>> u = 0.01 / (10 / 11) ** 0.5
      >>> bound = adam_error_bound(
      ...     1, 0.1, 0.0, count=11, smoothness=0.0, update_norm=u, gradient_gap=0.0,
      ...     scale_gap=u, largest_update=u, largest_gradient=u, point_distance=0.1 * u,
      ... )
      >>> round(float(bound) / (0.1 * u), 3), round((12 / 11) ** 0.5 - 1, 3)
      (0.045, 0.044)

    References:
      Ours.
    """
    rates = rates_ahead(learning_rate, count, checked_whole_number(horizon, "horizon"))
    t, update = floating(_checked_count(count)), floating(update_norm)
    sigma = floating(noise)
    sigma_entry = sigma if largest_noise is None else floating(largest_noise)
    most = jnp.sqrt(2 * _debiased(b2, t) / (1 - b2))  # C

    def drift_after(sums: Any, k: int, reach: jax.Array) -> tuple[Any, jax.Array]:
        d = 2 * sigma + smoothness * reach
        delta = jnp.minimum(2 * sigma_entry + smoothness * reach, most)
        terms = (
            (b1, gradient_gap + d),
            (b2, scale_gap + 2 * largest_update * largest_gradient * d),
            (b2, largest_update * delta * d),
        )
        sums = [decay * so_far + new for so_far, (decay, new) in zip(sums, terms, strict=True)]
        moment, linear, square = (
            (1 - decay) / _debiased(decay, t + k) * total
            for total, (decay, _) in zip(sums, terms, strict=True)
        )
        root = jnp.sqrt(b2**k * _debiased(b2, t) / _debiased(b2, t + k))  # √ρ_k
        rescaled = (linear / (1 + root) + square / root) / root
        at_most = update * jnp.maximum(1, 1 / root - 1)
        return sums, moment / root + jnp.minimum(rescaled, at_most)

    nothing = [jnp.zeros_like(update)] * 3
    return total_error(rates, update, floating(point_distance), s, nothing, drift_after)


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
