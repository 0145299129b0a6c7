"""A policy and a value of the same observation, for PPO."""

from collections.abc import Sequence

import jax
from flax import linen as nn


class ActorCritic(nn.Module):
    """Two tanh networks that share no weights.

    Weights are drawn for a gain of √2, of 0.01 for the logits, so that the first policy is nearly
    uniform, and of 1 for the value.

    Attributes:
        hidden: width of each hidden layer, of both.
        actions: number of actions.
    """

    hidden: Sequence[int]
    actions: int

    @nn.compact
    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps ``[..., features]`` to logits, ``[..., actions]``, and values, ``[...]``."""
        logits = self._network("policy", observations, self.actions, 0.01)
        values = self._network("value", observations, 1, 1.0)
        return logits, values[..., 0]

    def _network(self, name: str, inputs: jax.Array, outputs: int, gain: float) -> jax.Array:
        for layer, width in enumerate(self.hidden):
            inputs = nn.tanh(_dense(width, 2**0.5, f"{name}_{layer}")(inputs))
        return _dense(outputs, gain, f"{name}_out")(inputs)


def _dense(width: int, gain: float, name: str) -> nn.Dense:
    # Not orthogonal, as is customary: that takes QR, and two of them for several networks at once
    # wait for each other for ever in JAX 0.10.2 on a CPU of two cores.
    scaled = nn.initializers.variance_scaling(gain**2, "fan_in", "normal")
    return nn.Dense(width, kernel_init=scaled, name=name)
