"""ResNet (He et al., arXiv 1512.03385) with batch normalization, for small images.

As is usual for 32 x 32 pixels the first convolution is 3x3 and no pooling follows it.
"""

import functools
from collections.abc import Sequence

import jax
from flax import linen as nn

from experiments.models.convolutions import ConvNorm, first_kernel, global_average


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to their input.

    Attributes:
        channels: number of channels.
        stride: of the first convolution.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height', width', channels]``."""
        inner = ConvNorm(self.channels, 3, self.stride)(inputs, train)
        inner = ConvNorm(self.channels, 3, relu=False)(inner, train)
        return nn.relu(inner + _shortcut(inputs, self.channels, self.stride, train))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, added to their input.

    Attributes:
        channels: number of channels of the inner convolution; the output has four times as many.
        stride: of the 3x3 convolution.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height', width', 4 * channels]``."""
        inner = ConvNorm(self.channels, 1)(inputs, train)
        inner = ConvNorm(self.channels, 3, self.stride)(inner, train)
        inner = ConvNorm(4 * self.channels, 1, relu=False)(inner, train)
        return nn.relu(inner + _shortcut(inputs, 4 * self.channels, self.stride, train))


def _shortcut(inputs: jax.Array, channels: int, stride: int, train: bool) -> jax.Array:
    """Returns the inputs, brought by a 1x1 convolution to the block's shape if theirs differs."""
    if stride == 1 and inputs.shape[-1] == channels:
        return inputs
    return ConvNorm(channels, 1, stride, relu=False)(inputs, train)


class ResNet(nn.Module):
    """A convolution, residual blocks at four resolutions, and a linear layer.

    Attributes:
        outputs: number of logits.
        stages: number of blocks at each resolution.
        block: the residual block, :class:`BasicBlock` or :class:`BottleneckBlock`.
        divisor: divides all numbers of channels.
        stride: of the first convolution, 3x3 for 1 and else 7x7.
    """

    outputs: int
    stages: Sequence[int]
    block: type[BasicBlock] | type[BottleneckBlock]
    divisor: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        width = 64 // self.divisor
        activations = ConvNorm(width, first_kernel(self.stride), self.stride)(images, train)
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                activations = self.block(width * 2**stage, stride)(activations, train)
        return nn.Dense(self.outputs)(global_average(activations))


# Blocks at each resolution from table 1.
resnet34 = functools.partial(ResNet, stages=(3, 4, 6, 3), block=BasicBlock)
resnet101 = functools.partial(ResNet, stages=(3, 4, 23, 3), block=BottleneckBlock)
