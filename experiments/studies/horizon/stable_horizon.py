"""A prototype of SGDM with a horizon that sets itself; ``docs/stability.md`` has the verdict."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax import WeightPrediction, predictors

# Chosen on digits with seeds 0 to 7, from 0, 0.9, 0.98 and 0.25, 0.5, 1.
MEMORY = 0.98
MARGIN = 0.5


class StableHorizonState(NamedTuple):
    """State of :func:`stable_horizon`: five numbers beside the state of ``optax.sgd``.

    Attributes:
        inner_state: the state of ``optax.sgd``.
        s: the horizon of the next prediction.
        slope: ⟨g_t, d_t⟩, the last gradient along the predicted update that followed it.
        size: ⟨d_t, d_t⟩.
        rise: running sum of ⟨g_{t+1} - g_t, d_t⟩.
        sizes: running sum of ⟨d_t, d_t⟩.
    """

    inner_state: Any
    s: jax.Array
    slope: jax.Array
    size: jax.Array
    rise: jax.Array
    sizes: jax.Array


def stable_horizon(learning_rate: Any, momentum: Any, s_max: float) -> WeightPrediction:
    r"""SGD with momentum whose horizon follows the curvature along its updates.

    The state holds d_t = -γ v_t before and after a step, so the secant
    :math:`q = \gamma \langle g_{t+1} - g_t, d_t \rangle / \langle d_t, d_t \rangle` needs no old
    gradient: its second half is known when :math:`d_t` is. By the recursion of the momentum all of
    it follows from two dot products a step, ⟨g, d⟩ and ⟨g, g⟩. At the edge of stability the
    velocity changes its sign at each step and q is :math:`\gamma h (1 + 2 s) = 2 (1 + \mu)`. The
    horizon is kept at :math:`c (1 + \mu) / q - \tfrac12` within [0, s_max]; with c = 1 that is the
    largest stable one if the velocity does not oscillate.

    Args:
        learning_rate: γ, constant.
        momentum: μ.
        s_max: the horizon where nothing speaks against it.

    Returns:
        ``(lookahead_params, tx)``.
    """
    inner, predictor = optax.sgd(learning_rate, momentum=momentum), predictors.sgdm(learning_rate)

    def predicted_update(state: StableHorizonState, params: Any) -> Any:
        return predictor.predict((), state.inner_state, params, 1.0)

    def lookahead_params(params: Any, opt_state: Any) -> Any:
        d = predicted_update(opt_state, params)
        return jax.tree.map(lambda p, d: p + opt_state.s.astype(p.dtype) * d, params, d)

    def init_fn(params: Any) -> StableHorizonState:
        zero = jnp.zeros([])
        return StableHorizonState(inner.init(params), zero + s_max, zero, zero, zero, zero)

    def update_fn(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        grads = updates
        along = optax.tree.vdot(grads, predicted_update(state, params))
        squared = optax.tree.vdot(grads, grads)
        rise = MEMORY * state.rise + along - state.slope
        sizes = MEMORY * state.sizes + state.size
        q = jnp.where(sizes > 0, learning_rate * rise / jnp.where(sizes > 0, sizes, 1), 0)
        s = jnp.where(q > 0, MARGIN * (1 + momentum) / jnp.where(q > 0, q, 1) - 0.5, s_max)
        updates, inner_state = inner.update(grads, state.inner_state, params)
        return updates, StableHorizonState(
            inner_state,
            jnp.clip(s, 0, s_max),
            # d_{t+1} = μ d_t - γ g_{t+1}
            slope=momentum * along - learning_rate * squared,
            size=momentum**2 * state.size
            - 2 * momentum * learning_rate * along
            + learning_rate**2 * squared,
            rise=rise,
            sizes=sizes,
        )

    tx = optax.with_extra_args_support(optax.GradientTransformation(init_fn, update_fn))
    return WeightPrediction(lookahead_params, tx)
