"""A residual network for small photographs, cut into stages of one block each.

Its convolutions are products of matrices: XLA's own are slow on a CPU within a loop.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.patch_lenet import PatchConv
from experiments.models.staged import Staged, normalized

CHANNELS, PATCH, SIDE, CLASSES = 16, 4, 8, 10


class Block(nn.Module):
    """Two convolutions behind a normalization, added to their input.

    Attributes:
        gain: variance of the branch where that of the trunk is 1.
    """

    gain: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``[batch, height, width, channels]`` to the same shape."""
        channels = x.shape[-1]
        hidden = nn.relu(PatchConv(channels, side=3, padding=1)(normalized(x)))
        small = nn.initializers.variance_scaling(self.gain, "fan_in", "normal")
        return x + PatchConv(channels, side=3, padding=1, kernel_init=small)(hidden)


def init(key: jax.Array, stages: int) -> Any:
    """Draws the parameters of all stages, with an axis for them in front."""
    keys = jax.random.split(key, 3)
    x = jnp.zeros((1, SIDE, SIDE, CHANNELS))
    # All branches together are as the trunk.
    own = jax.vmap(lambda key: Block(1 / stages).init(key, x)["params"])
    pixels = PATCH * PATCH * 3

    def drawn(key: jax.Array, inputs: int, outputs: int) -> jax.Array:
        return jax.random.normal(key, (stages, inputs, outputs)) * inputs**-0.5

    return {
        "enter": drawn(keys[0], pixels, CHANNELS),
        "block": own(jax.random.split(keys[1], stages)),
        "leave": drawn(keys[2], CHANNELS, CLASSES),
        "leave_bias": jnp.zeros((stages, CLASSES)),
    }


def enter(params: Any, batch: Any) -> jax.Array:
    """From squares of 4 x 4 pixels to the trunk, ``[batch, 8, 8, CHANNELS]``."""
    images = batch["image"]
    squares = images.reshape(len(images), SIDE, PATCH, SIDE, PATCH, 3).swapaxes(2, 3)
    return squares.reshape(len(images), SIDE, SIDE, -1) @ params["enter"]


def block(params: Any, x: jax.Array) -> jax.Array:
    """One residual branch."""
    return Block(1.0).apply({"params": params["block"]}, x)  # pyright: ignore[reportReturnType]


def scores(params: Any, x: jax.Array) -> jax.Array:
    """From the trunk, averaged over places, to a score for each class."""
    return normalized(x).mean(axis=(1, 2)) @ params["leave"] + params["leave_bias"][None]


NETWORK = Staged(init, enter, block, scores, targets=lambda batch: batch["label"])
