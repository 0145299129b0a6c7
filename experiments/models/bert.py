"""BERT (Devlin et al., arXiv 1810.04805): a transformer over a pair of sentences.

Normalizations come behind the additions, and a token that begins each pair stands for it. Token 0
is padding.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

_INITIAL = nn.initializers.truncated_normal(0.02)
_Dense = functools.partial(nn.Dense, kernel_init=_INITIAL)
_Embed = functools.partial(nn.Embed, embedding_init=_INITIAL)
_Norm = functools.partial(nn.LayerNorm, epsilon=1e-12)
_gelu = functools.partial(nn.gelu, approximate=False)


class Encoder(nn.Module):
    """Embeddings of words, positions and segments, and the blocks above them.

    Attributes:
        vocabulary: number of tokens.
        width: size of a token's vector; each block's MLP is four times as wide.
        layers: number of blocks.
        heads: number of attention heads.
        positions: largest number of tokens.
        dropout: share of the activations dropped behind the embeddings and each layer.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    positions: int
    dropout: float = 0.1

    def setup(self) -> None:
        """Makes the layers."""
        self.words = _Embed(self.vocabulary, self.width)
        self.places = _Embed(self.positions, self.width)
        self.parts = _Embed(2, self.width)
        self.norm = _Norm()
        self.drop = nn.Dropout(self.dropout)
        self.blocks = [Block(self.heads, self.dropout) for _ in range(self.layers)]

    def __call__(self, tokens: jax.Array, segments: jax.Array, train: bool) -> jax.Array:
        """Maps tokens and their segments, ``[pairs, tokens]``, to ``[pairs, tokens, width]``."""
        places = self.places(jnp.arange(tokens.shape[1]))
        embedded = self.norm(self.words(tokens) + places + self.parts(segments))
        activations = self.drop(embedded, deterministic=not train)
        mask = (tokens != 0)[:, None, None]
        for block in self.blocks:
            activations = block(activations, mask, train)
        return activations


class Block(nn.Module):
    """Attention and a two-layer MLP, each added to its input and then normalized.

    Attributes:
        heads: number of attention heads.
        dropout: as for :class:`Encoder`.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, activations: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """Maps ``[pairs, tokens, width]`` to the same shape.

        Args:
            activations: what comes from below.
            mask: which tokens may be looked at, bool ``[pairs, 1, 1, tokens]``.
            train: whether to drop.
        """
        width = activations.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            self.heads, kernel_init=_INITIAL, dropout_rate=self.dropout, deterministic=not train
        )
        activations = _Norm()(activations + drop(attention(activations, mask=mask)))
        hidden = _gelu(_Dense(4 * width)(activations))
        return _Norm()(activations + drop(_Dense(width)(hidden)))


class PairClassifier(nn.Module):
    """An encoder whose first token, behind a ``tanh`` layer, is what a pair is classified by.

    Attributes:
        encoder: the encoder.
        outputs: number of logits.
    """

    encoder: Encoder
    outputs: int

    @nn.compact
    def __call__(self, tokens: jax.Array, segments: jax.Array, train: bool) -> jax.Array:
        """Maps tokens and their segments, ``[pairs, tokens]``, to logits, ``[pairs, outputs]``."""
        first = self.encoder(tokens, segments, train)[:, 0]
        pooled = nn.tanh(_Dense(self.encoder.width, name="pooler")(first))
        drop = nn.Dropout(self.encoder.dropout, deterministic=not train)
        return _Dense(self.outputs, name="head")(drop(pooled))


class MaskedLanguageModel(nn.Module):
    """An encoder that names tokens that were hidden, its output tied to its input.

    Attributes:
        encoder: the encoder.
    """

    encoder: Encoder

    @nn.compact
    def __call__(
        self, tokens: jax.Array, segments: jax.Array, hidden: jax.Array, train: bool
    ) -> jax.Array:
        """Names the tokens at some places.

        Args:
            tokens: ``[pairs, tokens]``.
            segments: ``[pairs, tokens]``.
            hidden: the places, ``[pairs, places]``.
            train: whether to drop.

        Returns:
            Logits, ``[pairs, places, vocabulary]``.
        """
        encoded = self.encoder(tokens, segments, train)
        wanted = jnp.take_along_axis(encoded, hidden[..., None], axis=1)
        features = _Norm()(_gelu(_Dense(self.encoder.width)(wanted)))
        bias = self.param("bias", nn.initializers.zeros, (self.encoder.vocabulary,))
        return self.encoder.words.attend(features) + bias
