"""The networks of DCGAN (Radford et al., arXiv 1511.06434), for images of any size.

Layers are numbered and sized as in the authors' code for WGAN (Arjovsky et al., arXiv 1701.07875):
a linear layer makes the first, smallest image of ``start`` x ``start``, and each of ``doublings``
strided convolutions doubles its edge; the discriminator goes the same way back.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolutions import batch_norm

_KERNEL, _STRIDE = (4, 4), (2, 2)
_SMALL_WEIGHTS = nn.initializers.normal(0.02)  # the paper's, made for layers that are normalized


class Doubling(nn.Module):
    """The transposed 4x4 convolution of stride 2, which doubles the edges.

    A 2x2 square of its output, one pixel off the even places, depends on 2x2 pixels of the input:
    one matrix product makes all squares. The same as ``nn.ConvTranspose``, the gradient of which
    takes several times as long on a CPU.

    Attributes:
        outputs: number of output channels.
    """

    outputs: int

    @nn.compact
    def __call__(self, activations: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, 2 height, 2 width, outputs]``."""
        count, height, width, channels = activations.shape
        padded = jnp.pad(activations, ((0, 0), (1, 1), (1, 1), (0, 0)))
        corners = [
            padded[:, top : top + height + 1, left : left + width + 1]
            for top in (0, 1)
            for left in (0, 1)
        ]
        patches = jnp.concatenate(corners, axis=-1).reshape(-1, 4 * channels)
        product = nn.Dense(4 * self.outputs, use_bias=False, kernel_init=_SMALL_WEIGHTS)(patches)
        squares = product.reshape(count, height + 1, width + 1, 2, 2, self.outputs)
        pixels = squares.swapaxes(2, 3).reshape(count, 2 * height + 2, 2 * width + 2, self.outputs)
        return pixels[:, 1:-1, 1:-1]


class Generator(nn.Module):
    """Noise to images, with batch normalization.

    Attributes:
        start: edge of the smallest image in pixels.
        doublings: number of transposed convolutions.
        width: channels of the last hidden layer; each layer before has twice as many.
        colours: channels of the images.
    """

    start: int
    doublings: int
    width: int
    colours: int

    @nn.compact
    def __call__(self, noise: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, latent]`` to images of -1 to 1, ``[batch, edge, edge, colours]``."""
        channels = [self.width << layer for layer in reversed(range(self.doublings))]
        first = nn.Dense(self.start**2 * channels[0], use_bias=False, kernel_init=_SMALL_WEIGHTS)
        activations = first(noise).reshape(-1, self.start, self.start, channels[0])
        for outputs in (*channels[1:], self.colours):
            activations = nn.relu(batch_norm(train)(activations))
            activations = Doubling(outputs)(activations)
        return nn.tanh(activations)


class Discriminator(nn.Module):
    """Images to one number each: the logit of being real, or a critic's score.

    Attributes:
        start: edge of the smallest image in pixels.
        doublings: number of strided convolutions.
        width: channels of the first; each further one has twice as many.
        normalized: whether all but the first are batch-normalized; they then have no biases.
    """

    start: int
    doublings: int
    width: int
    normalized: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images of -1 to 1, ``[batch, edge, edge, colours]``, to ``[batch]``."""
        weights = _SMALL_WEIGHTS if self.normalized else nn.initializers.lecun_normal()
        biased = not self.normalized
        activations = images
        for layer in range(self.doublings):
            activations = nn.Conv(
                self.width << layer, _KERNEL, _STRIDE, use_bias=biased, kernel_init=weights
            )(activations)
            if self.normalized and layer:
                activations = batch_norm(train)(activations)
            activations = nn.leaky_relu(activations, 0.2)
        flat = activations.reshape(len(activations), -1)
        return nn.Dense(1, use_bias=biased, kernel_init=weights)(flat)[:, 0]
