"""How far a prediction for SGDM can be off on a smooth loss, from what is known beforehand."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._checks import checked_whole_number
from xgrad_optax._error_bound import floating, rates_ahead, total_error


def sgdm_error_bound(
    horizon: int,
    learning_rate: optax.ScalarOrSchedule,
    momentum: jax.typing.ArrayLike,
    *,
    smoothness: jax.typing.ArrayLike,
    velocity_norm: jax.typing.ArrayLike,
    gradient_gap: jax.typing.ArrayLike,
    point_distance: jax.typing.ArrayLike,
    s: jax.typing.ArrayLike = 0.0,
    noise: jax.typing.ArrayLike = 0.0,
    count: jax.typing.ArrayLike = 0,
) -> jax.Array:
    r"""Bounds the error :math:`\lVert\hat\theta_{t+h} - \theta_{t+h}\rVert` of SGDM's closed form.

    SGDM is :math:`v_t = \mu v_{t-1} + g_t`, :math:`\theta_t = \theta_{t-1} - \gamma_t v_t`, where
    :math:`g_t` is the gradient at the point :math:`x_t = \theta_{t-1} - s\gamma_t v_{t-1}`, and the
    prediction is :math:`\hat\theta_{t+h} = \theta_t - h\gamma_{t+1} v_t`. Its error is exactly

    .. math::
        \hat\theta_{t+h} - \theta_{t+h} = \sum_{k=1}^h \gamma_{t+k} (v_{t+k} - v_t)
            + \sum_{k=1}^h (\gamma_{t+k} - \gamma_{t+1})\, v_t, \qquad
        v_{t+k} - v_t = \sum_{j=1}^k \mu^{k-j} \bigl(g_{t+j} - (1-\mu) v_t\bigr)

    so a prediction is as good as future gradients agree with the running mean
    :math:`(1-\mu) v_t` of the past ones. If the loss is L-smooth and gradients miss the true one by
    at most σ, the differences are at most

    .. math::
        e_j = \lVert g_t - (1-\mu) v_t \rVert + 2\sigma + L\, r_j, \qquad
        r_j \ge \lVert x_{t+j} - x_t \rVert

    With :math:`G_k = \mu G_{k-1} + e_k`, :math:`G_0 = 0`, which bounds
    :math:`\lVert v_{t+k} - v_t \rVert`, the points are no farther apart than

    .. math::
        r_j = \lVert x_{t+1} - x_t \rVert
            + \sum_{i=1}^{j-1} \gamma_{t+i} (\lVert v_t \rVert + G_i)
            + s\,\bigl(\gamma_{t+j} G_{j-1} + |\gamma_{t+j} - \gamma_{t+1}| \lVert v_t \rVert\bigr)

    and the bound is :math:`\sum_k \gamma_{t+k} G_k + |\sum_k (\gamma_{t+k} - \gamma_{t+1})|
    \lVert v_t \rVert`.

    Args:
      horizon: h, a whole number of steps >= 1.
      learning_rate: γ, a number or a schedule.
      momentum: μ.
      smoothness: L: gradients at two of the points differ by at most L times their distance.
      velocity_norm: ‖v_t‖, the norm of ``optax.TraceState.trace``.
      gradient_gap: ‖g_t - (1 - μ) v_t‖ for the last gradient g_t (with L2 decay, if there is any).
      point_distance: ‖x_{t+1} - x_t‖, how far the next point at which a gradient is taken is from
        the last one; without prediction (``s=0``) the norm of the last update.
      s: the horizon that training itself uses.
      noise: σ, the largest distance of a mini-batch gradient from that of the loss; 0 for full
        batches.
      count: t, the number of updates made; only a schedule needs it.

    Returns:
      The bound; arguments may be arrays of a common shape, which it then has.

    Raises:
      TypeError: ``horizon`` is not a whole number.
      ValueError: ``horizon`` is below 1.

    Examples:
      >>> # θ²/2 with γ = 0.1 and μ = 0 from θ = 1: the prediction repeats the update -0.1 from
      >>> # θ = 0.9 to 0.8, the next update leads to 0.81.
      >>> bound = sgdm_error_bound(
      ...     1, 0.1, 0.0, smoothness=1.0, velocity_norm=1.0, gradient_gap=0.0, point_distance=0.1
      ... )
      >>> round(float(bound), 6)
      0.01

    References:
      Ours; the identity generalises eq. 6 of XGrad, arXiv 2305.18240, from s = 1 step.
    """
    rates = rates_ahead(learning_rate, count, checked_whole_number(horizon, "horizon"))
    velocity, distance = floating(velocity_norm), floating(point_distance)
    gap = floating(gradient_gap) + 2 * floating(noise)

    def drift_after(drift: Any, _: int, reach: jax.Array) -> tuple[Any, jax.Array]:
        drift = momentum * drift + gap + smoothness * reach
        return drift, drift

    return total_error(rates, velocity, distance, s, jnp.zeros_like(velocity), drift_after)
