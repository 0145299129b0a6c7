"""Inception-V3 (Szegedy et al., arXiv 1512.00567), without the auxiliary head.

For 32 x 32 pixels the convolutions and poolings before the first module keep the size, as is usual;
the modules are the original's.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolutions import ConvNorm, global_average, max_pool_3

Layer = tuple[int, int | tuple[int, int]]
"""A convolution: its number of channels and the size of its kernel."""


class InceptionV3(nn.Module):
    """A few convolutions, eleven inception modules at three resolutions, and a linear layer.

    Attributes:
        outputs: number of logits.
        divisor: divides all numbers of channels.
        strides: of the first convolution and of the two poolings before the modules; a pooling of
            stride 1 is left out. ``(2, 2, 2)`` is the original.
        padding: zeros around what is convolved and pooled there; 0 is the original, for images of
            299 x 299.
        dropout: share of the features that is dropped.
    """

    outputs: int
    divisor: int = 1
    strides: tuple[int, int, int] = (1, 1, 1)
    padding: int = 1
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Maps images, ``[batch, height, width, channels]``, to logits, ``[batch, outputs]``."""
        activations = self._stem(images, train)
        modules = (
            *(ModuleA(self.divisor, pooled) for pooled in (32, 64, 64)),
            ReductionA(self.divisor),
            *(ModuleB(self.divisor, inner) for inner in (128, 160, 160, 192)),
            ReductionB(self.divisor),
            ModuleC(self.divisor),
            ModuleC(self.divisor),
        )
        for module in modules:
            activations = module(activations, train)
        features = global_average(activations)
        return nn.Dense(self.outputs)(nn.Dropout(self.dropout, deterministic=not train)(features))

    def _stem(self, images: jax.Array, train: bool) -> jax.Array:
        def convolved(activations: jax.Array, channels: int, stride: int = 1) -> jax.Array:
            convolution = ConvNorm(channels // self.divisor, 3, stride, self.padding)
            return convolution(activations, train)

        def pooled(activations: jax.Array, stride: int) -> jax.Array:
            return activations if stride == 1 else max_pool_3(activations, stride, self.padding)

        first, second, third = self.strides
        activations = convolved(convolved(images, 32, first), 32)
        activations = pooled(ConvNorm(64 // self.divisor, 3)(activations, train), second)
        activations = ConvNorm(80 // self.divisor, 1)(activations, train)
        return pooled(convolved(activations, 192), third)


class Branching(nn.Module):
    """What the modules share: several branches side by side.

    Attributes:
        divisor: divides all numbers of channels.
    """

    divisor: int

    def chain(
        self, activations: jax.Array, train: bool, *layers: Layer, stride: int = 1
    ) -> jax.Array:
        """Applies convolutions one after the other.

        Args:
            activations: ``[batch, height, width, inputs]``.
            train: whether to use the batch's statistics.
            *layers: the convolutions.
            stride: of the last of them, which is not padded if it is above 1.
        """
        for number, (channels, size) in enumerate(layers, 1):
            reduces = stride > 1 and number == len(layers)
            width = channels // self.divisor
            convolution = ConvNorm(width, size, stride, 0) if reduces else ConvNorm(width, size)
            activations = convolution(activations, train)
        return activations


class ModuleA(Branching):
    """Branches of up to two 3x3 convolutions; figure 5, with a 5x5 one left as it was.

    Attributes:
        divisor: divides all numbers of channels.
        pooled: number of channels after the pooling.
    """

    pooled: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height, width, channels]``."""
        branches = [
            self.chain(inputs, train, (64, 1)),
            self.chain(inputs, train, (48, 1), (64, 5)),
            self.chain(inputs, train, (64, 1), (96, 3), (96, 3)),
            self.chain(_averaged(inputs), train, (self.pooled, 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


class ModuleB(Branching):
    """Branches of 7x7 convolutions, each factored into 1x7 and 7x1; figure 6.

    Attributes:
        divisor: divides all numbers of channels.
        inner: number of channels within the branches.
    """

    inner: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height, width, 768]``."""
        row, column = (1, 7), (7, 1)
        once = ((self.inner, 1), (self.inner, row), (192, column))
        twice = (
            (self.inner, 1),
            (self.inner, column),
            (self.inner, row),
            (self.inner, column),
            (192, row),
        )
        branches = [
            self.chain(inputs, train, (192, 1)),
            self.chain(inputs, train, *once),
            self.chain(inputs, train, *twice),
            self.chain(_averaged(inputs), train, (192, 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


class ModuleC(Branching):
    """Branches that end in a 1x3 and a 3x1 convolution side by side; figure 7."""

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height, width, 2048]``."""
        once = self.chain(inputs, train, (384, 1))
        twice = self.chain(inputs, train, (448, 1), (384, 3))
        branches = [
            self.chain(inputs, train, (320, 1)),
            *(
                self.chain(activations, train, (384, size))
                for activations in (once, twice)
                for size in ((1, 3), (3, 1))
            ),
            self.chain(_averaged(inputs), train, (192, 1)),
        ]
        return jnp.concatenate(branches, axis=-1)


class ReductionA(Branching):
    """Halves height and width by pooling and by 3x3 convolutions side by side; figure 10."""

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, 288]`` to ``[batch, height', width', 768]``."""
        branches = [
            self.chain(inputs, train, (384, 3), stride=2),
            self.chain(inputs, train, (64, 1), (96, 3), (96, 3), stride=2),
            max_pool_3(inputs, stride=2, padding=0),
        ]
        return jnp.concatenate(branches, axis=-1)


class ReductionB(Branching):
    """Halves height and width as :class:`ReductionA` does, one branch with 1x7 and 7x1 before."""

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, 768]`` to ``[batch, height', width', 1280]``."""
        factored = ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3))
        branches = [
            self.chain(inputs, train, (192, 1), (320, 3), stride=2),
            self.chain(inputs, train, *factored, stride=2),
            max_pool_3(inputs, stride=2, padding=0),
        ]
        return jnp.concatenate(branches, axis=-1)


def _averaged(activations: jax.Array) -> jax.Array:
    return nn.avg_pool(activations, (3, 3), strides=(1, 1), padding="SAME")
