"""LeNet for many full-batch gradients on a CPU: convolutions as products of matrices.

XLA's gradients of convolutions are slow on CPUs, most of all within ``lax.scan``.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.mlp import MLP

_SIDE = 5


class PatchConv(nn.Module):
    """``nn.Conv(features, (5, 5), padding="VALID")`` as one product of matrices.

    Attributes:
        features: number of output channels.
    """

    features: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]`` to ``[batch, height - 4, width - 4, out]``."""
        shape = (_SIDE, _SIDE, images.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        height, width = (side - _SIDE + 1 for side in images.shape[1:3])
        patches = jnp.concatenate(
            [
                images[:, row : row + height, column : column + width]
                for row in range(_SIDE)
                for column in range(_SIDE)
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
