"""What the convolutional networks are made of."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn


def batch_norm(train: bool) -> nn.BatchNorm:
    """Returns batch normalization (arXiv 1502.03167), by the batch's own statistics in training.

    A batch is a tenth of the running statistics.
    """
    return nn.BatchNorm(use_running_average=not train, momentum=0.9)


class ConvNorm(nn.Module):
    """A convolution, batch normalization and, if asked for, ReLU.

    Attributes:
        channels: number of output channels.
        size: height and width of the kernel, or both in one number.
        stride: in both directions.
        padding: zeros on every side; None for half the kernel, which for a stride of 1 keeps the
            size.
        use_bias: whether the convolution adds a bias, which the normalization takes off again.
        relu: whether to end with ReLU.
    """

    channels: int
    size: int | tuple[int, int]
    stride: int = 1
    padding: int | None = None
    use_bias: bool = False
    relu: bool = True

    @nn.compact
    def __call__(self, activations: jax.Array, train: bool) -> jax.Array:
        """Maps ``[batch, height, width, inputs]`` to ``[batch, height', width', channels]``."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        padding = (height // 2, width // 2) if self.padding is None else 2 * (self.padding,)
        convolution = nn.Conv(
            self.channels,
            (height, width),
            strides=(self.stride, self.stride),
            padding=[(zeros, zeros) for zeros in padding],
            use_bias=self.use_bias,
        )
        activations = batch_norm(train)(convolution(activations))
        return nn.relu(activations) if self.relu else activations


def first_kernel(stride: int) -> int:
    """Returns the size of a network's first kernel: for a stride of 1 it is 3, else 7.

    The originals, for photographs of 224 x 224, have 7 and reduce these by 4 before their first
    block; for 32 x 32 it is usual to take 3 and to reduce by nothing.
    """
    return 3 if stride == 1 else 7


def max_pool_2(activations: jax.Array) -> jax.Array:
    """Returns the maximum of each 2 x 2 square of ``[batch, height, width, channels]``.

    The same as ``nn.max_pool``, whose gradient takes several times as long on a CPU.
    """
    count, height, width, channels = activations.shape
    squares = activations.reshape(count, height // 2, 2, width // 2, 2, channels)
    return squares.max(axis=(2, 4))


def max_pool_3(activations: jax.Array, stride: int, padding: int = 1) -> jax.Array:
    """Returns the maximum of 3 x 3 squares of ``[batch, height, width, channels]``.

    Written out for the same reason as :func:`max_pool_2`.
    """
    borders = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(activations, borders, constant_values=-jnp.inf)
    return _maxima_of_3(_maxima_of_3(padded, 1, stride), 2, stride)


def _maxima_of_3(activations: jax.Array, axis: int, stride: int) -> jax.Array:
    size = activations.shape[axis] - 2
    neighbours = (
        jax.lax.slice_in_dim(activations, start, start + size, stride, axis) for start in range(3)
    )
    return functools.reduce(jnp.maximum, neighbours)


def global_average(activations: jax.Array) -> jax.Array:
    """Averages ``[batch, height, width, channels]`` over each image."""
    return activations.mean(axis=(1, 2))
