"""The closed forms: the direction an optimizer will take next, read off its moments.

One function per family, in the papers' notation. Each takes the Optax state that holds the moments
after step t >= 1 and returns the tree of directions r_t such that the predicted next update is

    d_t = -γ r_t

with γ the learning rate of step t + 1. A direction is what the optimizer would do if the next
gradient agreed with its running mean. Sources: XGrad (arXiv 2305.18240, table 1) for SGDM, RMSprop,
Adam, AdamW, AdaBelief and AdaM3, arXiv 2302.00195 for AdamW; the others follow the same principle.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax._typing import Updates
from xgrad_optax.predictors import _damping
from xgrad_optax.transforms import (
    ScaleByAdaBoundState,
    ScaleByAdaM3State,
    adabound_direction,
    adam3_ratio,
)

Direction = Updates


def velocity(state: optax.TraceState) -> Direction:
    """SGDM: r_t = v_t, where v_t = μ v_{t-1} + g_t."""
    return state.trace


def scaled_velocity(state: optax.TraceState) -> Direction:
    """RMSprop with momentum: r_t = -b_t.

    Optax applies the learning rate *before* the momentum buffer, b_t = μ b_{t-1} - γ_t g_t/√v_t, so
    the buffer already is the update and there is no learning rate left to multiply with.
    """
    return jax.tree.map(jnp.negative, state.trace)


def adam(state: optax.ScaleByAdamState, *, b1: Any, b2: Any, eps: Any, eps_root: Any) -> Direction:
    """Adam, AdamW, Yogi, NAdam: r_t = m̂_t / (√(v̂_t + ε_root) + ε)."""
    m_hat, v_hat = _debiased(state, b1, b2)
    return jax.tree.map(
        lambda m, v: m / (jnp.sqrt(v + _like(eps_root, v)) + _like(eps, v)), m_hat, v_hat
    )


def adabelief(state: optax.ScaleByBeliefState, *, b1: Any, b2: Any, eps: Any) -> Direction:
    """AdaBelief: r_t = m̂_t / (√ŝ_t + ε)."""
    m_hat, s_hat = _debiased(state, b1, b2)
    return jax.tree.map(lambda m, s: m / (jnp.sqrt(s) + _like(eps, s)), m_hat, s_hat)


def adam3(state: ScaleByAdaM3State, *, b1: Any, b2: Any) -> Direction:
    """AdaM3: r_t = m̂_t / √v̂_t."""
    m_hat, v_hat = _debiased(state, b1, b2)
    return jax.tree.map(adam3_ratio, m_hat, v_hat)


def radam(
    state: optax.ScaleByAdamState, *, b1: Any, b2: Any, eps: Any, eps_root: Any, threshold: Any
) -> Direction:
    """RAdam (arXiv 1908.03265): Adam's direction times r_t where ρ_t is large enough, else m̂_t."""
    t = _float_count(state.count)
    decay = _like(b2, t)
    rho_inf = 2.0 / (1.0 - decay) - 1.0
    rho = rho_inf - 2.0 * t * decay**t / (1.0 - decay**t)
    rectification = jnp.sqrt(
        (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)
    )
    m_hat, _ = _debiased(state, b1, b2)
    adaptive = adam(state, b1=b1, b2=b2, eps=eps, eps_root=eps_root)
    return jax.tree.map(
        lambda a, m: jnp.where(
            rho >= _like(threshold, rho), _like(rectification, a) * a, m.astype(a.dtype)
        ),
        adaptive,
        m_hat,
    )


def lion(state: optax.ScaleByLionState) -> Direction:
    """Lion (arXiv 2302.06675): r_t = sign(m_t)."""
    return jax.tree.map(jnp.sign, state.mu)


def adabound(
    state: ScaleByAdaBoundState,
    *,
    b1: Any,
    b2: Any,
    eps: Any,
    final_scale: Any,
    gamma: Any,
) -> Direction:
    """AdaBound (arXiv 1902.09843): r_t = clip(step size)_t ⊙ m_t."""
    return adabound_direction(
        state.mu,
        state.nu,
        jnp.maximum(state.count, 1),
        b1=b1,
        b2=b2,
        eps=eps,
        final_scale=final_scale,
        gamma=gamma,
    )


class Family(NamedTuple):
    """A closed form and the Optax state it reads.

    Attributes:
      name: how error messages call it.
      state_type: type of the state that holds the moments.
      direction: the function above.
      reach: of the damped form, ``(s, state, hyperparameters) -> steps``, see ``_damping.py``.
      counts_steps: whether that state has a ``count`` of the updates made.
    """

    name: str
    state_type: type
    direction: Callable[..., Direction]
    reach: Callable[[Any, Any, Hyperparameters], Any] = _damping.none
    counts_steps: bool = True


SGDM = Family("sgdm", optax.TraceState, velocity, _damping.of_velocity, counts_steps=False)
RMSPROP_MOMENTUM = Family(
    "rmsprop with momentum",
    optax.TraceState,
    scaled_velocity,
    _damping.of_velocity,
    counts_steps=False,
)
ADAM = Family("adam", optax.ScaleByAdamState, adam, _damping.of_adam)
YOGI = Family("yogi", optax.ScaleByAdamState, adam, _damping.of_first_moment)
ADABELIEF = Family("adabelief", optax.ScaleByBeliefState, adabelief, _damping.of_first_moment)
ADAM3 = Family("adam3", ScaleByAdaM3State, adam3, _damping.of_first_moment)
RADAM = Family("radam", optax.ScaleByAdamState, radam)
LION = Family("lion", optax.ScaleByLionState, lion)
ADABOUND = Family("adabound", ScaleByAdaBoundState, adabound)

FAMILIES = {
    family.name: family
    for family in (SGDM, RMSPROP_MOMENTUM, ADAM, YOGI, ADABELIEF, ADAM3, RADAM, LION, ADABOUND)
}


def _debiased(state: Any, b1: Any, b2: Any) -> tuple[Direction, Direction]:
    """m̂ = m/(1-β₁ᵗ) and v̂ = v/(1-β₂ᵗ), both in the wider dtype of the two."""
    # Once for the whole tree: what is written per leaf is traced, lowered and optimized per leaf.
    t = _float_count(state.count)
    m_weight, v_weight = (1.0 - _like(decay, t) ** t for decay in (b1, b2))

    def debias(moment: jax.Array, other: jax.Array, weight: jax.Array) -> jax.Array:
        moment = moment.astype(jnp.promote_types(moment.dtype, other.dtype))
        return moment / weight.astype(moment.dtype)

    m_hat = jax.tree.map(lambda m, v: debias(m, v, m_weight), state.mu, state.nu)
    v_hat = jax.tree.map(lambda m, v: debias(v, m, v_weight), state.mu, state.nu)
    return m_hat, v_hat


def _float_count(count: Any) -> jax.Array:
    """The step t as a float; 1 before the first step, whose direction is discarded anyway."""
    return jnp.maximum(count, 1).astype(jnp.result_type(float))


def _like(scalar: Any, array: jax.Array) -> jax.Array:
    return jnp.asarray(scalar, dtype=array.dtype)
