"""A fully connected network."""

from collections.abc import Sequence

import jax
from flax import linen as nn


class MLP(nn.Module):
    """A fully connected ReLU network that returns logits.

    Attributes:
        hidden: width of each hidden layer.
        outputs: number of logits.
    """

    hidden: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Maps ``inputs``, ``[batch, features]``, to logits, ``[batch, outputs]``."""
        del train
        activations = inputs
        for width in self.hidden:
            activations = nn.relu(nn.Dense(width)(activations))
        return nn.Dense(self.outputs)(activations)
