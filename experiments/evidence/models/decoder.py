"""A transformer decoder (Vaswani et al., arXiv 1706.03762) as a language model without state."""

from typing import Any

import jax
from flax import linen as nn

from experiments.models import Decoder


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
