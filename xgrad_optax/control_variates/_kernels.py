"""Ridge regression in the kernels of (δ, ã): the kernels, and the choice of the ridge."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

Kernel = Literal["linear", "gaussian", "laplace"]

# Candidates for the ridge, as multiples of the largest eigenvalue of the kernel.
RIDGES = tuple(10.0**exponent for exponent in range(-7, 1))


def kernel_matrix(kernel: Kernel, left: Any, right: Any) -> jax.Array:
    """K between two sets of (δ, ã), ``[n, d]`` and ``[n, d + 1]`` each: ``[n_left, n_right]``."""
    (delta, features), (other_delta, other_features) = left, right
    return _output_kernel(kernel, delta, other_delta) * (features @ other_features.T)


def kernel_mean(kernel: Kernel, left: Any, right: Any, weights: jax.Array) -> jax.Array:
    """Σ_i w_i K(j, i), ``[n_left]``; for the linear kernel without the matrix."""
    if kernel != "linear":
        return kernel_matrix(kernel, left, right) @ weights
    (delta, features), (other_delta, other_features) = left, right
    mean = (weights[:, None] * other_delta).T @ other_features  # Σ_i w_i δ_i ⊗ ã_i
    return jnp.sum((delta @ mean) * features, axis=1)


def _output_kernel(kernel: Kernel, delta: jax.Array, other: jax.Array) -> jax.Array:
    inner = delta @ other.T
    if kernel == "linear":
        return inner
    norms = _norms(delta)[:, None] * _norms(other)[None]
    cosine = jnp.where(norms > 0, inner / jnp.where(norms > 0, norms, 1.0), 0.0)
    squared = jnp.maximum(2.0 - 2.0 * cosine, 0.0)
    radial = -squared / 2.0 if kernel == "gaussian" else -jnp.sqrt(squared)
    return norms * jnp.exp(radial)


def _norms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(x * x, axis=1))


def leave_one_out_ridge(values: jax.Array, vectors: jax.Array, targets: jax.Array) -> jax.Array:
    r"""The ridge with the smallest leave-one-out error, as a multiple of the largest eigenvalue.

    Kernel ridge regression is the linear smoother :math:`H = V\,\mathrm{diag}(\mu/(\mu+\lambda))
    V^\top`, and its prediction of a left-out target misses by
    :math:`(y_j - (Hy)_j) / (1 - H_{jj})`.

    Args:
      values: μ, ascending, ``[k]``.
      vectors: V, ``[n, k]``.
      targets: y, ``[n, m]``.

    Returns:
      One of :data:`RIDGES`, a scalar.
    """
    projected = vectors.T @ targets

    def error(ridge: jax.Array) -> jax.Array:
        damped = values + ridge * values[-1]
        shrinkage = jnp.where(damped > 0, values / jnp.where(damped > 0, damped, 1.0), 0.0)
        missed = targets - vectors @ (shrinkage[:, None] * projected)
        leverage = (vectors**2) @ shrinkage
        return jnp.sum((missed / jnp.maximum(1 - leverage, 1e-6)[:, None]) ** 2)

    ridges = jnp.asarray(RIDGES, values.dtype)
    return ridges[jnp.argmin(jax.lax.map(error, ridges))]
