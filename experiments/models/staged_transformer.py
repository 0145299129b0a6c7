"""A decoder transformer for characters, cut into stages of one block each."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.models.staged import Staged, normalized
from experiments.models.transformer import TransformerBlock

WIDTH, HEADS, WINDOW, CHARACTERS = 32, 4, 32, 65

_BLOCK = TransformerBlock(HEADS, causal=True)


def init(key: jax.Array, stages: int) -> Any:
    """Draws the parameters of all stages, with an axis for them in front."""
    keys = jax.random.split(key, 4)
    x = jnp.zeros((1, WINDOW, WIDTH))
    blocks = jax.vmap(lambda key: _BLOCK.init(key, x)["params"])(jax.random.split(keys[0], stages))

    def drawn(key: jax.Array, rows: int, columns: int, scale: float) -> jax.Array:
        return scale * jax.random.normal(key, (stages, rows, columns))

    return {
        "embedding": drawn(keys[1], CHARACTERS, WIDTH, 0.1),
        "positions": drawn(keys[2], WINDOW, WIDTH, 0.02),
        "block": blocks,
        "leave": drawn(keys[3], WIDTH, CHARACTERS, WIDTH**-0.5),
    }


def enter(params: Any, batch: Any) -> jax.Array:
    """From characters to the trunk, ``[rows, WINDOW, WIDTH]``."""
    # As a product, whose gradient is one as well: on a CPU a gather's is slow.
    read = jax.nn.one_hot(batch["tokens"][:, :-1], CHARACTERS)
    return read @ params["embedding"] + params["positions"][None]


def block(params: Any, x: jax.Array) -> jax.Array:
    """Attention and a two-layer MLP."""
    return _BLOCK.apply({"params": params["block"]}, x)[0]  # pyright: ignore[reportReturnType]


def scores(params: Any, x: jax.Array) -> jax.Array:
    """From the trunk to a score for each next character."""
    return normalized(x) @ params["leave"]


NETWORK = Staged(init, enter, block, scores, targets=lambda batch: batch["tokens"][:, 1:])
