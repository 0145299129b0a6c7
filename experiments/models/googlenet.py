"""GoogLeNet (Szegedy et al., arXiv 1409.4842) with batch normalization, for small images.

As is usual for 32 x 32 pixels one 3x3 convolution takes the place of all that comes before the
first inception module, two 3x3 convolutions that of each 5x5 one, and there are no auxiliary heads.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolutions import (
    ConvNorm,
    first_kernel,
    global_average,
    max_pool_3,
)


class Widths(NamedTuple):
    """Numbers of channels of an inception module, a row of table 1.

    Attributes:
        single: of the 1x1 convolution.
        reduced_3: of the 1x1 convolution before the 3x3 one.
        wide_3: of the 3x3 convolution.
        reduced_5: of the 1x1 convolution before the 5x5 one.
        wide_5: of the 5x5 convolution.
        pooled: of the 1x1 convolution after the pooling.
    """

    single: int
    reduced_3: int
    wide_3: int
    reduced_5: int
    wide_5: int
    pooled: int


# The modules 3a to 5b, a group for each resolution.
GROUPS = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)


class GoogLeNet(nn.Module):
    """A convolution, nine inception modules at three resolutions, and a linear layer.

    Attributes:
        outputs: number of logits.
        divisor: divides all numbers of channels.
        stride: of the first convolution, 3x3 for 1 and else 7x7.
    """

    outputs: int
    divisor: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        stem = ConvNorm(192 // self.divisor, first_kernel(self.stride), self.stride, use_bias=True)
        activations = stem(images, train)
        for group, modules in enumerate(GROUPS):
            if group:
                activations = max_pool_3(activations, stride=2)
            for widths in modules:
                divided = Widths(*(channels // self.divisor for channels in widths))
                activations = Inception(divided)(activations, train)
        return nn.Dense(self.outputs)(global_average(activations))


class Inception(nn.Module):
    """Convolutions of several sizes side by side.

    Attributes:
        widths: their numbers of channels.
    """

    widths: Widths

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height, width, channels]``."""

        def convolved(activations: jax.Array, channels: int, size: int) -> jax.Array:
            return ConvNorm(channels, size, use_bias=True)(activations, train)

        widths = self.widths
        of_3 = convolved(convolved(inputs, widths.reduced_3, 1), widths.wide_3, 3)
        of_5 = convolved(convolved(inputs, widths.reduced_5, 1), widths.wide_5, 3)
        branches = [
            convolved(inputs, widths.single, 1),
            of_3,
            convolved(of_5, widths.wide_5, 3),
            convolved(max_pool_3(inputs, stride=1), widths.pooled, 1),
        ]
        return jnp.concatenate(branches, axis=-1)
