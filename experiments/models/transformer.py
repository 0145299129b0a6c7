"""Transformers (Vaswani et al., arXiv 1706.03762) over tokens and over the patches of an image.

Each computes in the dtype that its inputs and parameters promote to: cast the parameters to get a
low-precision network.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

Placing = Callable[[jax.Array], jax.Array]


def _anywhere(activations: jax.Array) -> jax.Array:
    return activations


class TransformerBlock(nn.Module):
    """Attention and a two-layer MLP, each behind a normalization, each added to its input.

    Attributes:
        heads: number of attention heads.
        causal: whether a position sees only itself and those before it.
        place: applied to the activations; says how they are laid out over devices.
    """

    heads: int
    causal: bool
    place: Placing = _anywhere

    @nn.compact
    def __call__(self, activations: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        """Maps ``[batch, time, width]`` to the same shape, in the form that ``nn.scan`` wants."""
        width = activations.shape[-1]
        mask = nn.make_causal_mask(activations[..., 0]) if self.causal else None
        normalized = nn.LayerNorm(use_bias=False)(activations)
        attention = nn.MultiHeadDotProductAttention(self.heads, use_bias=False)
        activations = self.place(activations + attention(normalized, mask=mask))
        normalized = nn.LayerNorm(use_bias=False)(activations)
        hidden = nn.gelu(nn.Dense(4 * width, use_bias=False)(normalized))
        return self.place(activations + nn.Dense(width, use_bias=False)(hidden)), None


class TransformerStack(nn.Module):
    """Transformer blocks, one after the other.

    Attributes:
        layers: number of blocks.
        heads: number of attention heads.
        causal: whether a position sees only itself and those before it.
        unroll: None for blocks one by one. A number stacks their parameters and loops over them,
            this many in one pass, so that the program need not grow with the number of blocks; the
            backward pass then computes a block's activations again.
        place: as for :class:`TransformerBlock`.
    """

    layers: int
    heads: int
    causal: bool
    unroll: int | None = None
    place: Placing = _anywhere

    @nn.compact
    def __call__(self, activations: jax.Array) -> jax.Array:
        """Maps ``[batch, time, width]`` to the same shape."""
        if self.unroll is None:
            for _ in range(self.layers):
                activations, _ = TransformerBlock(self.heads, self.causal, self.place)(activations)
        else:
            activations = self._loop(activations, self.unroll)
        return nn.LayerNorm(use_bias=False)(activations)

    def _loop(self, activations: jax.Array, unroll: int) -> jax.Array:
        blocks: Any = nn.scan(
            nn.remat(TransformerBlock),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.layers,
            unroll=unroll,
        )
        activations, _ = blocks(self.heads, self.causal, self.place)(activations, None)
        return activations


class Decoder(nn.Module):
    """A decoder-only transformer that predicts each next token, its output tied to its input.

    Attributes:
        vocabulary: number of tokens.
        width: size of the embedding.
        layers: number of blocks.
        heads: number of attention heads.
        unroll: as for :class:`TransformerStack`.
        place: as for :class:`TransformerBlock`.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    unroll: int | None = None
    place: Placing = _anywhere

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps ``tokens``, ``[batch, time]``, to logits, ``[batch, time, vocabulary]``."""
        embedding = nn.Embed(self.vocabulary, self.width)
        activations = embedding(tokens)
        positions = _positions(self, activations)
        stack = TransformerStack(
            self.layers, self.heads, causal=True, unroll=self.unroll, place=self.place
        )
        return embedding.attend(stack(self.place(activations + positions)))


class DecoderLanguageModel(nn.Module):
    """Foretells each next token from those in the same window.

    Attributes:
        vocabulary: number of tokens.
        width: size of the embedding.
        layers: number of blocks.
        heads: number of attention heads.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int

    @nn.compact
    def __call__(
        self, tokens: jax.Array, start: jax.Array, state: Any, train: bool
    ) -> tuple[jax.Array, Any]:
        """Maps tokens, ``[rows, time]``, to logits, ``[rows, time, vocabulary]``, and no state."""
        del start, train
        return Decoder(self.vocabulary, self.width, self.layers, self.heads)(tokens), state

    def initial_state(self, rows: int) -> Any:
        """Returns no state."""
        del rows
        return {}


class VisionTrunk(nn.Module):
    """A transformer over the patches of an image, averaged into one vector of features.

    Attributes:
        patch: edge of a square patch in pixels.
        width: size of a patch's embedding, and of the features.
        layers: number of blocks.
        heads: number of attention heads.
        unroll: as for :class:`TransformerStack`.
    """

    patch: int
    width: int
    layers: int
    heads: int
    unroll: int | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to features, ``[batch, width]``."""
        # A matrix product instead of a strided convolution, which in a loop is slow on a CPU.
        activations = nn.Dense(self.width)(_patches(images, self.patch))
        positions = _positions(self, activations)
        stack = TransformerStack(self.layers, self.heads, causal=False, unroll=self.unroll)
        return stack(activations + positions).mean(axis=1)


class VisionTransformer(nn.Module):
    """A :class:`VisionTrunk` with a linear head.

    Attributes:
        outputs: number of logits.
        patch: as for the trunk, and so are the others.
        width: size of a patch's embedding.
        layers: number of blocks.
        heads: number of attention heads.
        unroll: as for :class:`TransformerStack`.
    """

    outputs: int
    patch: int
    width: int
    layers: int
    heads: int
    unroll: int | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        trunk = VisionTrunk(self.patch, self.width, self.layers, self.heads, self.unroll)
        return nn.Dense(self.outputs)(trunk(images))


def _patches(images: jax.Array, size: int) -> jax.Array:
    """Cuts images into square patches, ``[batch, patches, size * size * channels]``."""
    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // size, size, width // size, size, channels)
    return blocks.swapaxes(2, 3).reshape(count, -1, size * size * channels)


def _positions(module: nn.Module, activations: jax.Array) -> jax.Array:
    """Returns one learnt vector for each place in a sequence, ``[time, width]``."""
    return module.param("positions", nn.initializers.normal(0.02), activations.shape[1:])
