"""How far momentum carries without further gradients: the lengths of the damped closed forms.

If all gradients after step t are zero, the direction of step t + k is that of step t, shrunk to a
weight w_k. So s steps go as far as one step times their *reach*

    Σ_{k=1..s} w_k,    linear between whole s,

in place of the s of a closed form that expects the same step again and again.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xgrad_optax._hyperparameters import Hyperparameters, is_array

Reach = jax.Array


def none(s: Any, state: Any, hyperparameters: Hyperparameters) -> Any:
    """Every step is like the next one; for Lion's sign(m) that is so without gradients too."""
    del state, hyperparameters
    return s


def of_velocity(s: Any, state: Any, hyperparameters: Hyperparameters) -> Reach:
    """SGDM, RMSprop with momentum: w_k = μᵏ; with Nesterov's momentum μᵏ⁺¹."""
    del state
    momentum = _scalar(hyperparameters["momentum"])
    first = momentum if hyperparameters["nesterov"] else jnp.ones_like(momentum)
    return first * _geometric_sum(_scalar(s), momentum)


def of_adam(s: Any, state: Any, hyperparameters: Hyperparameters) -> Reach:
    """Adam, NAdam: both moments decay, m_{t+k} = β₁ᵏ m_t and v_{t+k} = β₂ᵏ v_t."""
    return _of_moments(s, state, hyperparameters, shrink=jnp.sqrt(_scalar(hyperparameters["b2"])))


def of_first_moment(s: Any, state: Any, hyperparameters: Hyperparameters) -> Reach:
    """Yogi: only the first moment decays, and v_{t+k} = v_t."""
    return _of_moments(s, state, hyperparameters, shrink=1.0)


def _of_moments(s: Any, state: Any, hyperparameters: Hyperparameters, shrink: Any) -> Reach:
    """The weights are those of m̂ over those of √v̂, bias corrections of step t + k included.

    w_k = (β₁/shrink)ᵏ (1-β₁ᵗ)/(1-β₁ᵗ⁺ᵏ) √[(1-β₂ᵗ⁺ᵏ)/(1-β₂ᵗ)]; NAdam's m̂ is one step further on.
    """
    b1, b2 = _scalar(hyperparameters["b1"]), _scalar(hyperparameters["b2"])
    t = _scalar(jnp.maximum(state.count, 1))  # before the first step the prediction is discarded
    further = 1.0 if hyperparameters["nesterov"] else 0.0

    def weight(k: jax.Array) -> jax.Array:
        # One power of the ratio: each of the two by itself would underflow where s is large.
        decay = b1**further * (b1 / shrink) ** k
        first = (1 - b1**t) / (1 - b1 ** (t + k + further))
        second = (1 - b2 ** (t + k)) / (1 - b2**t)
        return decay * first * jnp.sqrt(second)

    return _sum(s, weight)


def _sum(s: Any, weight: Callable[[jax.Array], jax.Array]) -> Reach:
    """Σ w_k over s steps, the last one in part; without a loop if s is a number."""

    def part(k: jax.Array) -> jax.Array:
        return jnp.clip(s - k + 1, 0, 1) * weight(k)

    if not is_array(s):
        return jnp.sum(part(_scalar(jnp.arange(1, math.ceil(s) + 1))))
    s = _scalar(s)
    last = jnp.ceil(s).astype(jnp.int32)
    return jax.lax.fori_loop(1, last + 1, lambda k, done: done + part(_scalar(k)), _scalar(0))


def _geometric_sum(s: jax.Array, ratio: jax.Array) -> Reach:
    """Σ ratioᵏ over s steps, also for a ratio of 1, and exact to rounding close to it."""
    whole = jnp.floor(s)
    shrunk = jnp.expm1(jax.scipy.special.xlog1py(whole, ratio - 1))  # ratio^whole - 1
    constant = ratio == 1
    full = jnp.where(constant, whole, ratio * shrunk / jnp.where(constant, 1, ratio - 1))
    return full + (s - whole) * ratio ** (whole + 1)


def _scalar(x: Any) -> jax.Array:
    return jnp.asarray(x, dtype=jnp.result_type(float))
