"""LeNet-5 (LeCun et al., 1998) with ReLU and maximum pooling."""

import jax
from flax import linen as nn

from experiments.models.mlp import MLP


class LeNet(nn.Module):
    """LeNet-5; 62,006 parameters for 32 x 32 x 3 and 10 classes.

    Attributes:
        outputs: number of logits.
    """

    outputs: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        del train
        activations = images
        for channels in (6, 16):
            activations = nn.relu(nn.Conv(channels, (5, 5), padding="VALID")(activations))
            activations = nn.max_pool(activations, (2, 2), strides=(2, 2))
        flat = activations.reshape(len(activations), -1)
        return MLP(hidden=(120, 84), outputs=self.outputs)(flat)


class InnerLeNet(nn.Module):
    """The same as part of another module: recorded runs of ``lenet`` drew its parameters so.

    Attributes:
        outputs: number of logits.
    """

    outputs: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        return LeNet(self.outputs)(images, train)
