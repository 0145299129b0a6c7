"""LeNet for many full-batch gradients on a CPU: convolutions as products of matrices.

XLA's gradients of convolutions are slow on CPUs, most of all within ``lax.scan``.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.mlp import MLP


class PatchConv(nn.Module):
    """``nn.Conv(features, (side, side))`` as one product of matrices.

    Attributes:
        features: number of output channels.
        side: edge of the kernel.
        padding: zeros around the images; ``side // 2`` keeps their size if the side is odd.
        kernel_init: draws the kernel.
    """

    features: int
    side: int = 5
    padding: int = 0
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]`` to ``[batch, h, w, features]``.

        With ``h = height + 2 * padding - side + 1``, and w alike.
        """
        shape = (self.side, self.side, images.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        around = (self.padding, self.padding)
        images = jnp.pad(images, ((0, 0), around, around, (0, 0)))
        height, width = (side - self.side + 1 for side in images.shape[1:3])
        patches = jnp.concatenate(
            [
                images[:, row : row + height, column : column + width]
                for row in range(self.side)
                for column in range(self.side)
            ],
            axis=-1,
        )
        return patches @ kernel.reshape(-1, self.features) + bias


class PatchLeNet(nn.Module):
    """The network and the parameters of ``experiments.models.lenet.LeNet``.

    Attributes:
        outputs: number of logits.
    """

    outputs: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        del train
        activations = images
        for number, channels in enumerate((6, 16)):
            activations = nn.relu(PatchConv(channels, name=f"Conv_{number}")(activations))
            batch, height, width, _ = activations.shape
            windows = activations.reshape(batch, height // 2, 2, width // 2, 2, channels)
            activations = windows.max(axis=(2, 4))
        flat = activations.reshape(len(activations), -1)
        return MLP(hidden=(120, 84), outputs=self.outputs)(flat)
