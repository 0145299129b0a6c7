"""What others do about late gradients: PipeMare and DC-ASGD, for any Optax optimizer.

A delay may be traced: the stages of a pipeline are late by different numbers of updates.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PIPEMARE_DECAY = 0.135
"""PipeMare's D, about e⁻²: the part of a drift that is left after as many updates as the delay."""

_MEAN_SQUARE_DECAY, _EPSILON = 0.95, 1e-7  # DC-ASGD's, section 6


def pipemare_schedule(rate: Any, delay: Any, annealed: int) -> optax.Schedule:
    r"""PipeMare's rate by delay, arXiv 1910.05124, section 3.1.

    .. math::
        \gamma_k = \gamma\, \tau^{-p_k}, \qquad p_k = 1 - \min(k / K, 1)

    Args:
        rate: γ, a number or a schedule.
        delay: τ.
        annealed: K, the number of updates over which the division by τ goes away.
    """

    def schedule(step: Any) -> Any:
        power = 1 - jnp.minimum(step / annealed, 1.0)
        now: Any = rate(step) if callable(rate) else rate
        return now * jnp.maximum(delay, 1.0) ** -power

    return schedule


class DriftState(NamedTuple):
    """State of :func:`following_drift`.

    Attributes:
        inner_state: the transform's.
        drift: δ, a tree like the parameters.
    """

    inner_state: Any
    drift: Any


def following_drift(
    inner: optax.GradientTransformation, delay: Any
) -> optax.GradientTransformation:
    r"""Keeps PipeMare's mean of the updates that are made, arXiv 1910.05124, section 3.2.

    .. math::
        \delta_{t+1} = D^{1/\tau} \delta_t + (1 - D^{1/\tau}) (w_{t+1} - w_t)

    PipeMare takes τδ off the weights of the backward pass, which are younger there than those of
    the forward pass. Where both passes see the same weights, those that the gradient is applied to
    are τ updates further, and τδ can be added to the point of the gradient instead.

    Args:
        inner: the transform whose updates are applied.
        delay: τ; nothing is kept of what moved before the last update where it is 0.
    """
    kept = jnp.where(jnp.asarray(delay) > 0, PIPEMARE_DECAY ** (1 / jnp.maximum(delay, 1)), 0.0)

    def init(params: Any) -> DriftState:
        return DriftState(inner.init(params), optax.tree.zeros_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, inner_state = inner.update(updates, state.inner_state, params)
        drift = jax.tree.map(lambda d, u: kept * d + (1 - kept) * u, state.drift, updates)
        return updates, DriftState(inner_state, drift)

    return optax.GradientTransformation(init, update)


class CompensationState(NamedTuple):
    """State of :func:`compensated`.

    Attributes:
        past: the parameters of the last updates, oldest first, leaves ``[longest, ...]``.
        mean_square: of the gradients, a tree like the parameters.
    """

    past: Any
    mean_square: Any


def compensated(
    delay: Any, strength: Any, adaptive: Any, longest: int | None = None
) -> optax.GradientTransformation:
    r"""DC-ASGD's second-order correction of a late gradient, arXiv 1609.08326, algorithm 2.

    .. math::
        \tilde g = g_t + \lambda_t\, g_t \odot g_t \odot (w_{t+\tau} - w_t), \qquad
        \lambda_t = \lambda_0 \quad\text{or}\quad \lambda_0 / \sqrt{M_t + \epsilon}

    of which the second is the paper's adaptive form (section 6),
    with :math:`M_t = 0.95 M_{t-1} + 0.05\, g_t \odot g_t`. Goes in front of an optimizer that is
    given late gradients only.

    Args:
        delay: τ.
        strength: λ₀.
        adaptive: whether it is divided by the root, 1 or 0.
        longest: the largest that a traced delay can be.
    """
    length = delay if longest is None else longest

    def init(params: Any) -> CompensationState:
        def repeated(leaf: jax.Array) -> jax.Array:
            return jnp.broadcast_to(leaf, (length, *jnp.shape(leaf)))

        return CompensationState(jax.tree.map(repeated, params), optax.tree.zeros_like(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        mean_square = jax.tree.map(
            lambda m, g: _MEAN_SQUARE_DECAY * m + (1 - _MEAN_SQUARE_DECAY) * g**2,
            state.mean_square,
            updates,
        )

        def corrected(grad: Any, known: Any, param: Any, square: Any) -> Any:
            scale = jnp.where(adaptive > 0, jax.lax.rsqrt(square + _EPSILON), 1.0)
            return grad + strength * scale * grad**2 * (param - known[length - delay])

        known = jax.tree.map(lambda p, new: jnp.append(p, new[None], 0), state.past, params)
        found = jax.tree.map(corrected, updates, known, params, mean_square)
        return found, CompensationState(jax.tree.map(lambda p: p[1:], known), mean_square)

    return optax.GradientTransformation(init, update)
