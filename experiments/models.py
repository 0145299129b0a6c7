"""Flax networks that the tasks and the benchmark share.

Each computes in the dtype that its inputs and parameters promote to: cast the parameters to get a
low-precision network.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Placing = Callable[[jax.Array], jax.Array]


def _anywhere(activations: jax.Array) -> jax.Array:
    return activations


class MLP(nn.Module):
    """A fully connected ReLU network that returns logits.

    Attributes:
        hidden: width of each hidden layer.
        outputs: number of logits.
    """

    hidden: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``inputs``, ``[batch, features]``, to logits, ``[batch, outputs]``."""
        activations = inputs
        for width in self.hidden:
            activations = nn.relu(nn.Dense(width)(activations))
        return nn.Dense(self.outputs)(activations)


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al., 1998) with ReLU and maximum pooling.

    Attributes:
        outputs: number of logits.
    """

    outputs: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = images
        for channels in (6, 16):
            activations = nn.relu(nn.Conv(channels, (5, 5), padding="VALID")(activations))
            activations = nn.max_pool(activations, (2, 2), strides=(2, 2))
        flat = activations.reshape(len(activations), -1)
        return MLP(hidden=(120, 84), outputs=self.outputs)(flat)


class BatchNormNet(nn.Module):
    """Two convolutions with batch normalization, and a linear classifier of their averages.

    Attributes:
        channels: number of channels of each convolution.
        outputs: number of logits.
        momentum: of the running statistics.
    """

    channels: Sequence[int]
    outputs: int
    momentum: float

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = images
        for channels in self.channels:
            activations = nn.Conv(channels, (3, 3), use_bias=False)(activations)
            norm = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)
            activations = nn.relu(norm(activations))
        return nn.Dense(self.outputs)(jnp.mean(activations, axis=(1, 2)))


class LSTM(nn.Module):
    """A stack of LSTM layers that predicts each next token.

    Attributes:
        vocabulary: number of tokens.
        width: size of the embedding and of every state.
        layers: number of LSTM layers.
    """

    vocabulary: int
    width: int
    layers: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps ``tokens``, ``[batch, time]``, to logits, ``[batch, time, vocabulary]``."""
        activations = nn.Embed(self.vocabulary, self.width)(tokens)
        # The carry of a cell is made in its `param_dtype`, whatever the parameters are cast to.
        dtype = activations.dtype
        for _ in range(self.layers):
            cell = nn.OptimizedLSTMCell(self.width, param_dtype=dtype)
            activations: Any = nn.RNN(cell)(activations)
        return nn.Dense(self.vocabulary)(activations)


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


class Bottleneck(nn.Module):
    """The residual block of ResNet-50: 1x1, 3x3 and 1x1 convolutions.

    Attributes:
        channels: number of channels of the inner convolution; the output has four times as many.
        stride: of the 3x3 convolution.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]`` to the block's output."""
        stride, outputs = (self.stride, self.stride), 4 * self.channels
        inner = nn.relu(_normalized_convolution(self.channels, 1)(inputs))
        inner = nn.relu(_normalized_convolution(self.channels, 3, stride)(inner))
        inner = _normalized_convolution(outputs, 1)(inner)
        if inputs.shape != inner.shape:
            inputs = _normalized_convolution(outputs, 1, stride)(inputs)
        return nn.relu(inputs + inner)


class ResNet(nn.Module):
    """A ResNet of bottleneck blocks, with group normalization: nothing but parameters to keep.

    Attributes:
        outputs: number of logits.
        stages: number of blocks at each resolution; ``(3, 4, 6, 3)`` is ResNet-50.
    """

    outputs: int
    stages: Sequence[int]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = nn.relu(_normalized_convolution(64, 7, (2, 2))(images))
        activations = nn.max_pool(activations, (3, 3), strides=(2, 2), padding="SAME")
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                activations = Bottleneck(64 * 2**stage, stride)(activations)
        return nn.Dense(self.outputs)(jnp.mean(activations, axis=(1, 2)))


def _normalized_convolution(
    channels: int, size: int, strides: tuple[int, int] = (1, 1)
) -> nn.Sequential:
    convolution = nn.Conv(channels, (size, size), strides=strides, use_bias=False)
    return nn.Sequential([convolution, nn.GroupNorm()])
