"""ResNet of bottleneck blocks (He et al., arXiv 1512.03385) with group normalization."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn


class Bottleneck(nn.Module):
    """The residual block of ResNet-50: 1x1, 3x3 and 1x1 convolutions.

    Attributes:
        channels: number of channels of the inner convolution; the output has four times as many.
        stride: of the 3x3 convolution.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]`` to the block's output."""
        stride, outputs = (self.stride, self.stride), 4 * self.channels
        inner = nn.relu(_normalized_convolution(self.channels, 1)(inputs))
        inner = nn.relu(_normalized_convolution(self.channels, 3, stride)(inner))
        inner = _normalized_convolution(outputs, 1)(inner)
        if inputs.shape != inner.shape:
            inputs = _normalized_convolution(outputs, 1, stride)(inputs)
        return nn.relu(inputs + inner)


class ResNet(nn.Module):
    """A ResNet of bottleneck blocks, with group normalization: nothing but parameters to keep.

    Attributes:
        outputs: number of logits.
        stages: number of blocks at each resolution; ``(3, 4, 6, 3)`` is ResNet-50.
    """

    outputs: int
    stages: Sequence[int]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = nn.relu(_normalized_convolution(64, 7, (2, 2))(images))
        activations = nn.max_pool(activations, (3, 3), strides=(2, 2), padding="SAME")
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                activations = Bottleneck(64 * 2**stage, stride)(activations)
        return nn.Dense(self.outputs)(jnp.mean(activations, axis=(1, 2)))


def _normalized_convolution(
    channels: int, size: int, strides: tuple[int, int] = (1, 1)
) -> nn.Sequential:
    convolution = nn.Conv(channels, (size, size), strides=strides, use_bias=False)
    return nn.Sequential([convolution, nn.GroupNorm()])
