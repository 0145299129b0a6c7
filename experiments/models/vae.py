"""The variational autoencoder (Kingma and Welling, arXiv 1312.6114), fully connected."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


class Autoencoding(NamedTuple):
    """What the autoencoder makes of images.

    Attributes:
        logits: of each pixel being white, ``[batch, pixels]``.
        mean: of the approximate posterior, ``[batch, latent]``.
        log_variance: of the approximate posterior, ``[batch, latent]``.
    """

    logits: jax.Array
    mean: jax.Array
    log_variance: jax.Array


class VAE(nn.Module):
    """One hidden layer on either side; 652,824 parameters for 784 pixels.

    Attributes:
        hidden: width of the encoder's and of the decoder's hidden layer.
        latent: number of latent variables.
    """

    hidden: int = 400
    latent: int = 20

    @nn.compact
    def __call__(self, images: jax.Array, noise: jax.Array) -> Autoencoding:
        """Encodes images, draws a latent vector for each, and decodes it.

        Args:
            images: ``[batch, pixels]`` of 0 to 1.
            noise: standard normal, ``[batch, latent]``.
        """
        encoded = nn.relu(nn.Dense(self.hidden)(images))
        mean = nn.Dense(self.latent)(encoded)
        log_variance = nn.Dense(self.latent)(encoded)
        latent = mean + jnp.exp(log_variance / 2) * noise
        decoded = nn.relu(nn.Dense(self.hidden)(latent))
        return Autoencoding(nn.Dense(images.shape[-1])(decoded), mean, log_variance)
