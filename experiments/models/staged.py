"""Networks that are cut into stages of equal shapes, for pipelines."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Staged(NamedTuple):
    """A network of as many blocks as there are stages; it scores classes.

    Attributes:
        init: ``(key, stages) -> params`` of all stages, with an axis for them in front; each has
            what the first and the last one need.
        enter: ``(params, batch) -> x``, of the first stage.
        block: ``(params, x) -> x``, of every stage.
        scores: ``(params, x) -> [..., classes]``, of the last stage.
        targets: ``batch -> [...]``, the classes.
    """

    init: Callable[[jax.Array, int], Any]
    enter: Callable[[Any, Any], jax.Array]
    block: Callable[[Any, jax.Array], jax.Array]
    scores: Callable[[Any, jax.Array], jax.Array]
    targets: Callable[[Any], jax.Array]

    def loss(self, params: Any, x: jax.Array, batch: Any) -> jax.Array:
        """Mean cross-entropy, of the last stage."""
        targets = self.targets(batch)
        scores = self.scores(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(scores, targets).mean()

    def whole(self, params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        """Loss and accuracy of all stages one after the other, on one device."""
        number = len(jax.tree.leaves(params)[0])
        stages = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(number)]
        x = self.enter(stages[0], batch)
        for stage in stages:
            x = self.block(stage, x)
        right = jnp.argmax(self.scores(stages[-1], x), axis=-1) == self.targets(batch)
        return self.loss(stages[-1], x, batch), jnp.mean(right)


def normalized(x: jax.Array) -> jax.Array:
    """Returns x with a mean square of 1 over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
