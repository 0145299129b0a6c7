"""What the bounds on prediction errors share: how a drift of the updates adds up along the way."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._hyperparameters import scheduled


def rates_ahead(learning_rate: optax.ScalarOrSchedule, count: Any, horizon: int) -> list[Any]:
    """γ_{t+1} to γ_{t+h}: Optax reads schedules at the number of updates already made."""
    if not callable(learning_rate):
        return [learning_rate] * horizon
    return [scheduled(learning_rate, count + k) for k in range(horizon)]


def total_error(
    rates: list[Any],
    update_norm: jax.Array,
    point_distance: jax.Array,
    s: Any,
    memory: Any,
    drift_after: Callable[[Any, int, jax.Array], tuple[Any, jax.Array]],
) -> jax.Array:
    """Bounds ‖θ̂_{t+h} - θ_{t+h}‖ where θ_{t+k} = θ_{t+k-1} - γ_{t+k} u_{t+k}.

    Args:
      rates: γ_{t+1} to γ_{t+h}.
      update_norm: ‖u_t‖.
      point_distance: at least ‖x_{t+1} - x_t‖ between points at which gradients are taken.
      s: the horizon of training, x_{t+j} = θ_{t+j-1} - s γ_{t+j} u_{t+j-1}.
      memory: what ``drift_after`` starts from.
      drift_after: ``(memory, k, r_k) -> (memory, G_k)``, with ‖x_{t+k} - x_t‖ <= r_k and
        ‖u_{t+k} - u_t‖ <= G_k.
    """
    drift = jnp.zeros_like(update_norm)  # G_{k-1}
    path = jnp.zeros_like(update_norm)  # how far θ_{t+k-1} can be from θ_t
    error = jnp.zeros_like(update_norm)
    for k, rate in enumerate(rates, 1):
        shift = s * (rate * drift + jnp.abs(rate - rates[0]) * update_norm)
        memory, drift = drift_after(memory, k, point_distance + path + shift)
        path = path + rate * (update_norm + drift)
        error = error + rate * drift
    return error + jnp.abs(sum(rates) - len(rates) * rates[0]) * update_norm


def floating(value: jax.typing.ArrayLike) -> jax.Array:
    """Returns a number or an array as floating-point: strict promotion adds no integers to them."""
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
