"""A residual network for digits, cut into stages of one block each."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.training.pipeline import Cut

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
    hidden = jax.nn.relu(_normalized(x) @ params["in"] + params["in_bias"][None])
    return x + hidden @ params["out"]


def logits(params: Any, x: jax.Array) -> jax.Array:
    """From the trunk to a score for each class."""
    return _normalized(x) @ params["leave"] + params["leave_bias"][None]


def loss(params: Any, x: jax.Array, batch: Any) -> jax.Array:
    """Mean cross-entropy."""
    scores = logits(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"]).mean()


CUT = Cut(enter, block, loss)


def whole(params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    """Loss and accuracy of all stages one after the other, on one device."""
    stages = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(len(params["in"]))]
    x = enter(stages[0], batch)
    for stage in stages:
        x = block(stage, x)
    right = jnp.argmax(logits(stages[-1], x), axis=-1) == batch["label"]
    return loss(stages[-1], x, batch), jnp.mean(right)


def _normalized(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
