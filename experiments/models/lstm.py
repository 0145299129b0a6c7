"""LSTM language model with dropout on the connections that are not recurrent.

Zaremba et al., "Recurrent Neural Network Regularization", arXiv 1409.2329.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Carry = tuple[tuple[jax.Array, jax.Array], ...]
"""Each layer's cell and output, ``[rows, width]``."""


class FlatDense(nn.Module):
    """A linear layer that takes all rows and times as one long batch.

    XLA's CPU code for the gradient of a product with more than two axes is half as fast.

    Attributes:
        features: size of the output.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps ``[rows, time, inputs]`` to ``[rows, time, features]``."""
        flat = nn.Dense(self.features)(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], self.features)


class LSTMLanguageModel(nn.Module):
    """A stack of LSTM layers that reads on from where it stopped.

    Attributes:
        vocabulary: number of words.
        width: size of the embedding and of every state.
        layers: number of LSTM layers.
        dropout: share of the activations dropped before each layer and before the output.
    """

    vocabulary: int
    width: int
    layers: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, tokens: jax.Array, start: jax.Array, carry: Carry, train: bool
    ) -> tuple[jax.Array, Carry]:
        """Foretells each next word.

        Args:
            tokens: ``[rows, time]``.
            start: ``[rows]``, whether to forget what came before.
            carry: the states after the windows before these.
            train: whether to drop.

        Returns:
            Logits, ``[rows, time, vocabulary]``, and the states after these windows.
        """
        carry = jax.tree.map(lambda part: jnp.where(start[:, None], 0.0, part), carry)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        activations = nn.Embed(self.vocabulary, self.width)(tokens)
        after = []
        for before in carry:
            layer: Any = nn.RNN(nn.OptimizedLSTMCell(self.width), return_carry=True)
            final, activations = layer(drop(activations), initial_carry=before)
            after.append(final)
        return FlatDense(self.vocabulary)(drop(activations)), tuple(after)

    def initial_state(self, rows: int) -> Carry:
        """Returns the states before anything was read."""
        zeros = jnp.zeros((rows, self.width))
        return ((zeros, zeros),) * self.layers


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
