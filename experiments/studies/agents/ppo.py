"""Proximal policy optimization: advantages and loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def advantages(
    rewards: jax.Array,
    values: jax.Array,
    following: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: float,
    trace: float,
) -> jax.Array:
    r"""Returns generalized advantage estimates, ``[steps, actors]`` as all arguments.

    .. math::
        A_t = δ_t + γλ\,(1 - \text{ended}_t)\,A_{t+1},\qquad
        δ_t = r_t + γ\,(1 - \text{terminated}_t)\,V(o'_t) - V(o_t)

    An episode that was cut off by the time limit, or that goes on after the last step, is valued by
    what would have followed; only one that terminated is worth nothing more. No estimate reaches
    from one episode into the next.

    Args:
        rewards: of each action.
        values: of the observation before it.
        following: of the observation right after it, before any new episode.
        terminated: whether the episode came to its end.
        truncated: whether it was cut off.
        discount: γ.
        trace: λ.

    References:
        Schulman et al., `arXiv 1506.02438 <https://arxiv.org/abs/1506.02438>`_, eq. 16;
        Pardo et al., `arXiv 1712.00378 <https://arxiv.org/abs/1712.00378>`_, on time limits.
    """
    surprises = rewards + discount * jnp.where(terminated, 0.0, following) - values
    goes_on = ~(terminated | truncated)

    def back(later: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        surprise, goes_on = step
        here = surprise + discount * trace * jnp.where(goes_on, later, 0.0)
        return here, here

    return jax.lax.scan(back, jnp.zeros_like(values[0]), (surprises, goes_on), reverse=True)[1]


class Examples(NamedTuple):
    """What is learnt from; all ``[examples, ...]``.

    Attributes:
        observation: what was seen.
        action: what was done.
        log_probability: of that, when it was done.
        advantage: what it gained.
        target: what the value is fitted to.
    """

    observation: jax.Array
    action: jax.Array
    log_probability: jax.Array
    advantage: jax.Array
    target: jax.Array


def loss(
    logits: jax.Array,
    values: jax.Array,
    examples: Examples,
    *,
    clip: float,
    value_weight: float,
    entropy_weight: float,
) -> jax.Array:
    r"""Returns the loss of a minibatch, a scalar.

    .. math::
        -\overline{\min(ρA,\ \operatorname{clip}(ρ, 1-ε, 1+ε)A)}
        + c_V\,\tfrac12\overline{(V - V^{\text{target}})^2} - c_H\,\overline{H(π)},\qquad
        ρ = \frac{π(a \mid o)}{π_{\text{old}}(a \mid o)}

    Advantages are shifted and scaled to mean 0 and deviation 1 over the minibatch. Values are not
    clipped.

    Args:
        logits: of the policy now, ``[examples, actions]``.
        values: now, ``[examples]``.
        examples: what is learnt from.
        clip: ε.
        value_weight: :math:`c_V`.
        entropy_weight: :math:`c_H`.

    References:
        Schulman et al., `arXiv 1707.06347 <https://arxiv.org/abs/1707.06347>`_, eq. 9.
    """
    log_policy = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_policy, examples.action[:, None], axis=1)[:, 0]
    ratio = jnp.exp(chosen - examples.log_probability)
    advantage = (examples.advantage - examples.advantage.mean()) / (examples.advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    error = jnp.square(values - examples.target) / 2
    entropy = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=1)
    return -gain.mean() + value_weight * error.mean() - entropy_weight * entropy.mean()
