"""ViT (Dosovitskiy et al., arXiv 2010.11929): a transformer over the patches of an image."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class ViT(nn.Module):
    """An encoder whose first token, a learnt one, is what the image is classified by.

    Attributes:
        outputs: number of logits.
        patch: edge of a square patch in pixels.
        width: size of a patch's embedding.
        hidden: width of the hidden layer of each block's MLP.
        layers: number of blocks.
        heads: number of attention heads.
        dropout: share of the activations that is dropped behind each addition of the positions,
            attention and layer of an MLP.
    """

    outputs: int
    patch: int
    width: int
    hidden: int
    layers: int
    heads: int
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        tokens = self._embedding(images)
        positions = self.param("positions", nn.initializers.normal(0.02), tokens.shape[1:])
        activations = nn.Dropout(self.dropout, deterministic=not train)(tokens + positions)
        for _ in range(self.layers):
            block = EncoderBlock(self.heads, self.hidden, self.dropout)
            activations = block(activations, train)
        return nn.Dense(self.outputs)(nn.LayerNorm()(activations[:, 0]))

    def _embedding(self, images: jax.Array) -> jax.Array:
        """Returns the class token and one for each patch, ``[batch, 1 + patches, width]``."""
        edge = (self.patch, self.patch)
        grid = nn.Conv(self.width, edge, strides=edge, padding="VALID")(images)
        patches = grid.reshape(len(images), -1, self.width)
        token = self.param("class_token", nn.initializers.zeros, (self.width,))
        return jnp.concatenate([jnp.broadcast_to(token, (len(images), 1, self.width)), patches], 1)


class EncoderBlock(nn.Module):
    """Attention and a two-layer MLP, each behind a normalization, each added to its input.

    Attributes:
        heads: number of attention heads.
        hidden: width of the MLP's hidden layer.
        dropout: as for :class:`ViT`.
    """

    heads: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, activations: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, tokens, width]`` to the same shape."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(self.heads)
        activations += drop(attention(nn.LayerNorm()(activations)))
        hidden = drop(nn.gelu(nn.Dense(self.hidden)(nn.LayerNorm()(activations))))
        return activations + drop(nn.Dense(activations.shape[-1])(hidden))
