"""AlexNet (Krizhevsky et al., 2012), for small images.

As is usual for 32 x 32 pixels one linear layer takes the place of the original's three, and with
them goes the dropout; maximum pooling is over 2 x 2 squares.
"""

import jax
from flax import linen as nn

from experiments.models.convolutions import max_pool_2


class AlexNet(nn.Module):
    """Five convolutions, three of them followed by maximum pooling, and a linear layer.

    Attributes:
        outputs: number of logits.
        divisor: divides all numbers of channels.
    """

    outputs: int
    divisor: int = 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        del train
        activations = self._convolved(images, 64, 11, stride=4)
        activations = self._convolved(max_pool_2(activations), 192, 5)
        activations = self._convolved(max_pool_2(activations), 384, 3)
        activations = self._convolved(activations, 256, 3)
        activations = max_pool_2(self._convolved(activations, 256, 3))
        return nn.Dense(self.outputs)(activations.reshape(len(activations), -1))

    def _convolved(self, inputs: jax.Array, channels: int, size: int, stride: int = 1) -> jax.Array:
        convolution = nn.Conv(
            channels // self.divisor, (size, size), strides=(stride, stride), padding=size // 2
        )
        return nn.relu(convolution(inputs))
