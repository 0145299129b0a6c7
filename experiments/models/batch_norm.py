"""A small network with batch normalization."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn


class BatchNormNet(nn.Module):
    """Two convolutions with batch normalization, and a linear classifier of their averages.

    Attributes:
        channels: number of channels of each convolution.
        outputs: number of logits.
        momentum: of the running statistics.
    """

    channels: Sequence[int]
    outputs: int
    momentum: float

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = images
        for channels in self.channels:
            activations = nn.Conv(channels, (3, 3), use_bias=False)(activations)
            norm = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)
            activations = nn.relu(norm(activations))
        return nn.Dense(self.outputs)(jnp.mean(activations, axis=(1, 2)))
