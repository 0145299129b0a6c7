"""DenseNet-BC (Huang et al., arXiv 1608.06993), for small images.

As is usual for 32 x 32 pixels the first convolution is 3x3 and no pooling follows it.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolutions import batch_norm, first_kernel, global_average


class DenseNet(nn.Module):
    """Blocks of layers that each see all outputs before them in the block.

    Attributes:
        outputs: number of logits.
        blocks: number of layers of each block.
        growth: number of channels that each layer adds.
        stride: of the first convolution, 3x3 for 1 and else 7x7.
    """

    outputs: int
    blocks: Sequence[int]
    growth: int = 32
    stride: int = 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = _convolution(2 * self.growth, first_kernel(self.stride), self.stride)(images)
        for block, layers in enumerate(self.blocks):
            if block:
                activations = Transition()(activations, train)
            for _ in range(layers):
                added = DenseLayer(self.growth)(activations, train)
                activations = jnp.concatenate([activations, added], axis=-1)
        activations = nn.relu(batch_norm(train)(activations))
        return nn.Dense(self.outputs)(global_average(activations))


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution, each behind a normalization and ReLU.

    Attributes:
        growth: number of output channels; the 1x1 convolution has four times as many.
    """

    growth: int

    @nn.compact
    def __call__(self, activations: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height, width, growth]``."""
        for channels, size in ((4 * self.growth, 1), (self.growth, 3)):
            activations = nn.relu(batch_norm(train)(activations))
            activations = _convolution(channels, size)(activations)
        return activations


class Transition(nn.Module):
    """Halves the channels, by a 1x1 convolution, and then height and width, by averages."""

    @nn.compact
    def __call__(self, activations: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to half of each but the batch."""
        channels = activations.shape[-1] // 2
        activations = _convolution(channels, 1)(nn.relu(batch_norm(train)(activations)))
        return nn.avg_pool(activations, (2, 2), strides=(2, 2))


def _convolution(channels: int, size: int, stride: int = 1) -> nn.Conv:
    return nn.Conv(
        channels, (size, size), strides=(stride, stride), padding=size // 2, use_bias=False
    )


# Layers of each block from table 1.
densenet121 = functools.partial(DenseNet, blocks=(6, 12, 24, 16))
