"""GNMT: LSTMs that read a sentence, LSTMs that write one, and attention between them.

Wu et al., "Google's Neural Machine Translation System", arXiv 1609.08144, in the variant of
NVIDIA's reference implementation: the writer's lowest layer asks, and all above it are told.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.lstm import Carry, FlatDense


class Memory(NamedTuple):
    """What was read.

    Attributes:
        values: one vector a word, ``[sentences, words, width]``.
        known: which of them are words and not padding, bool ``[sentences, words]``.
    """

    values: jax.Array
    known: jax.Array


class Translator(nn.Module):
    """An encoder and a decoder that share their embedding; token 0 is padding.

    Attributes:
        vocabulary: number of tokens of both languages.
        width: size of the embedding and of every state.
        layers: number of layers of each, the encoder's lowest being bidirectional; at least 2.
        dropout: share of the activations dropped before each LSTM layer.
    """

    vocabulary: int
    width: int
    layers: int
    dropout: float = 0.0

    def setup(self) -> None:
        """Makes the layers."""
        self.embedding = nn.Embed(self.vocabulary, self.width)
        self.encoder = Encoder(self.width, self.layers, self.dropout)
        self.decoder = Decoder(self.width, self.layers, self.dropout)
        self.output = FlatDense(self.vocabulary)

    def __call__(self, source: jax.Array, written: jax.Array, train: bool) -> jax.Array:
        """Foretells each next token of a translation.

        Args:
            source: tokens of the sentences, ``[sentences, words]``.
            written: the translations, from the token that begins them,
                ``[sentences, written words]``.
            train: whether to drop.

        Returns:
            Logits, ``[sentences, written words, vocabulary]``.
        """
        carry = self.initial_carry(len(source))
        return self.write(written, self.read(source, train), carry, train)[0]

    def read(self, source: jax.Array, train: bool = False) -> Memory:
        """Returns what is remembered of sentences, ``[sentences, words]``."""
        known = source != 0
        return Memory(self.encoder(self.embedding(source), known.sum(axis=1), train), known)

    def write(
        self, written: jax.Array, memory: Memory, carry: Carry, train: bool = False
    ) -> tuple[jax.Array, Carry]:
        """Returns the logits behind each written token, and the states behind the last."""
        activations, carry = self.decoder(self.embedding(written), memory, carry, train)
        return self.output(activations), carry

    def initial_carry(self, sentences: int) -> Carry:
        """Returns the decoder's states before anything is written."""
        zeros = jnp.zeros((sentences, self.width))
        return ((zeros, zeros),) * self.layers


class Encoder(nn.Module):
    """A bidirectional LSTM layer, one on top, and residual ones above; as :class:`Translator`."""

    width: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(self, activations: jax.Array, lengths: jax.Array, train: bool) -> jax.Array:
        """Maps ``[sentences, words, width]`` to the same shape, given the numbers of words."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        both = nn.Bidirectional(_layer(self.width), _layer(self.width))
        memory: Any = both(drop(activations), seq_lengths=lengths)
        memory = _layer(self.width)(drop(memory), seq_lengths=lengths)
        for _ in range(self.layers - 2):
            memory = memory + _layer(self.width)(drop(memory), seq_lengths=lengths)
        return memory


class Decoder(nn.Module):
    """An LSTM layer that asks the memory, and layers that are told the answer.

    They are residual from the third on; the attributes are as for :class:`Translator`.
    """

    width: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(
        self, activations: jax.Array, memory: Memory, carry: Carry, train: bool
    ) -> tuple[jax.Array, Carry]:
        """Maps ``[sentences, written words, width]`` to the same shape, and the states to new."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        answer, after = None, []
        for number, before in enumerate(carry):
            told = activations if answer is None else jnp.concatenate([activations, answer], -1)
            layer: Any = _layer(self.width, return_carry=True)
            final, outputs = layer(drop(told), initial_carry=before)
            after.append(final)
            activations = outputs if number < 2 else activations + outputs
            if answer is None:
                answer = AdditiveAttention(self.width)(activations, memory)
        return activations, tuple(after)


class AdditiveAttention(nn.Module):
    """Attention of Bahdanau et al. (arXiv 1409.0473).

    Its scores are normalized as by Salimans and Kingma (arXiv 1602.07868).

    Attributes:
        width: of what queries and memory are compared in.
    """

    width: int

    @nn.compact
    def __call__(self, queries: jax.Array, memory: Memory) -> jax.Array:
        """Maps queries, ``[sentences, queries, width]``, to weighted means of the memory."""
        asked = nn.Dense(self.width, use_bias=False)(queries)
        offered = nn.Dense(self.width, use_bias=False)(memory.values)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        direction = self.param("direction", nn.initializers.normal(1.0), (self.width,))
        scale = self.param("scale", nn.initializers.ones, (1,))
        compared = jnp.tanh(asked[:, :, None] + offered[:, None] + bias)
        scores = compared @ (scale * direction / jnp.linalg.norm(direction))
        weights = nn.softmax(jnp.where(memory.known[:, None], scores, -1e9))
        return weights @ memory.values


def _layer(width: int, return_carry: bool = False) -> nn.RNN:
    return nn.RNN(nn.OptimizedLSTMCell(width), return_carry=return_carry)
