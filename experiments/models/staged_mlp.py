"""A residual network for digits, cut into stages of one block each."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.models.staged import Staged, normalized

WIDTH, PIXELS, CLASSES = 64, 64, 10


def init(key: jax.Array, stages: int) -> Any:
    """Draws the parameters of all stages, with an axis for them in front."""
    keys = jax.random.split(key, 4)

    def drawn(key: jax.Array, inputs: int, outputs: int, gain: float = 1.0) -> jax.Array:
        return jax.random.normal(key, (stages, inputs, outputs)) * (gain / inputs) ** 0.5

    return {
        "enter": drawn(keys[0], PIXELS, WIDTH),
        "in": drawn(keys[1], WIDTH, WIDTH, 2.0),
        "in_bias": jnp.zeros((stages, WIDTH)),
        "out": drawn(keys[2], WIDTH, WIDTH, 1 / stages),  # all branches together are as the trunk
        "leave": drawn(keys[3], WIDTH, CLASSES),
        "leave_bias": jnp.zeros((stages, CLASSES)),
    }


def enter(params: Any, batch: Any) -> jax.Array:
    """From pixels to the trunk, ``[batch, WIDTH]``."""
    return batch["image"] @ params["enter"]


def block(params: Any, x: jax.Array) -> jax.Array:
    """One residual branch."""
    hidden = jax.nn.relu(normalized(x) @ params["in"] + params["in_bias"][None])
    return x + hidden @ params["out"]


def scores(params: Any, x: jax.Array) -> jax.Array:
    """From the trunk to a score for each class."""
    return normalized(x) @ params["leave"] + params["leave_bias"][None]


NETWORK = Staged(init, enter, block, scores, targets=lambda batch: batch["label"])
