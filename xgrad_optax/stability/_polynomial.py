"""Polynomials ``[..., n + 1]``, monic, the highest power first: where their roots lie."""

import jax
import jax.numpy as jnp


def companion(polynomial: jax.Array) -> jax.Array:
    """The matrix whose eigenvalues are the roots, ``[..., n, n]``."""
    degree = polynomial.shape[-1] - 1
    shift = jnp.eye(degree - 1, degree, dtype=polynomial.dtype)
    shift = jnp.broadcast_to(shift, (*polynomial.shape[:-1], degree - 1, degree))
    return jnp.concatenate([-polynomial[..., None, 1:], shift], axis=-2)


def largest_modulus(matrix: jax.Array) -> jax.Array:
    """The spectral radius of matrices ``[..., n, n]``."""
    return jnp.abs(jnp.linalg.eigvals(matrix)).max(axis=-1)


def innovations_share(polynomial: jax.Array, at_one: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether all roots lie inside the unit circle, and the product of 1 - k² over all steps down.

    The step down from degree m to m - 1 (Schur, Cohn, Levinson, Durbin) is
    P'(z) = (P(z) - k z^m P(1/z)) / (z (1 - k²)), where k is the last coefficient of P. All roots
    lie inside iff every |k| < 1, and an autoregressive process with this polynomial has the
    variance of its innovations over that product.

    Args:
      polynomial: the coefficients.
      at_one: P(1) without cancellation: the distance to 1 of a slow root.
    """
    stable, share = jnp.ones_like(at_one, bool), jnp.ones_like(at_one)
    while polynomial.shape[-1] > 2:
        k = polynomial[..., -1]
        stable = stable & (jnp.abs(k) < 1)
        rest = jnp.where(stable, 1 - k**2, 1)
        down = polynomial[..., :-1] - k[..., None] * polynomial[..., :0:-1]
        polynomial = down / rest[..., None]
        at_one = at_one / jnp.where(stable, 1 + k, 1)  # P'(1) (1 - k²) = P(1) (1 - k)
        share = share * rest
    # The last k is at_one - 1, so that 1 - k² is a product that does not cancel.
    stable = stable & (at_one > 0) & (at_one < 2)
    return stable, share * jnp.where(stable, at_one * (2 - at_one), 1)
