"""LeNet-5 (LeCun et al., 1998) with ReLU and maximum pooling."""

import jax
from flax import linen as nn

from experiments.models import LeNet as Layers


class LeNet(nn.Module):
    """LeNet-5; 62,006 parameters for 32 x 32 x 3 and 10 classes.

    Attributes:
        outputs: number of logits.
    """

    outputs: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        del train
        return Layers(self.outputs)(images)
