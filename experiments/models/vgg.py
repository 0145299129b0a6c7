"""VGG (Simonyan and Zisserman, arXiv 1409.1556) with batch normalization, for small images.

As is usual for 32 x 32 pixels one linear layer takes the place of the original's three, which
alone would have more parameters than all convolutions.
"""

import functools
from collections.abc import Sequence

import jax
from flax import linen as nn

from experiments.models.convolutions import ConvNorm, max_pool_2


class VGG(nn.Module):
    """Groups of 3x3 convolutions, each followed by maximum pooling, and a linear layer.

    Attributes:
        outputs: number of logits.
        groups: channels of each convolution of each group.
        divisor: divides all numbers of channels.
    """

    outputs: int
    groups: Sequence[Sequence[int]]
    divisor: int = 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = images
        for group in self.groups:
            for channels in group:
                convolution = ConvNorm(channels // self.divisor, 3, use_bias=True)
                activations = convolution(activations, train)
            activations = max_pool_2(activations)
        return nn.Dense(self.outputs)(activations.reshape(len(activations), -1))


# A group for each resolution: columns A and D of table 1.
vgg11 = functools.partial(VGG, groups=((64,), (128,), (256, 256), (512, 512), (512, 512)))
vgg16 = functools.partial(
    VGG, groups=((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
)
