"""Extreme curvatures of a loss, by Lanczos iterations on Hessian-vector products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

_TOLERANCE = 1e-4  # relative
_STRETCH_TOLERANCE = 1e-2  # of its square
_STRETCH_VECTORS = 10


class Sharpest(NamedTuple):
    """The direction of largest curvature.

    Attributes:
        curvature: the largest eigenvalue h of the Hessian; NaN where that is not finite.
        direction: its unit eigenvector, a tree like the parameters.
    """

    curvature: float
    direction: Any


def make_sharpest(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Sharpest]:
    """Returns ``(params, examples) -> Sharpest``, whose product is compiled only once.

    Args:
        loss: ``(params, examples) -> scalar``.
    """
    product = jax.jit(_hessian_product(loss))

    def sharpest(params: Any, examples: Any) -> Sharpest:
        unravel: Any  # takes what is like an array
        flat, unravel = ravel_pytree(params)

        def multiply(vector: np.ndarray) -> np.ndarray:
            tangent = unravel(vector.ravel().astype(flat.dtype))
            return np.asarray(ravel_pytree(product(params, examples, tangent))[0], np.float64)

        value, vector = _extreme(multiply, flat.size, which="LA", tol=_TOLERANCE)
        return Sharpest(value, unravel(vector.astype(flat.dtype)))

    return sharpest


def make_stretch(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], float]:
    """Returns ``(params, scale, examples) -> float``: the norm of the Hessian over a scale.

    That is the largest singular value of D⁻¹H, with D the diagonal matrix of ``scale``: how much
    gradients over the scale change at most with the parameters. With a scale of 1 it is the largest
    modulus of an eigenvalue. It is NaN where the Hessian is not finite.

    Args:
        loss: ``(params, examples) -> scalar``, with parameters in a vector.
    """
    product = _hessian_product(loss)

    @jax.jit
    def squared(params: Any, scale: Any, examples: Any, vector: Any) -> Any:
        stretched = product(params, examples, vector) / scale
        return product(params, examples, stretched / scale)

    def stretch(params: Any, scale: Any, examples: Any) -> float:
        def multiply(vector: np.ndarray) -> np.ndarray:
            tangent = vector.ravel().astype(params.dtype)
            return np.asarray(squared(params, scale, examples, tangent), np.float64)

        vectors = min(params.size, _STRETCH_VECTORS)
        value, _ = _extreme(multiply, params.size, which="LM", tol=_STRETCH_TOLERANCE, ncv=vectors)
        return float(np.sqrt(value))

    return stretch


def _hessian_product(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def product(params: Any, examples: Any, tangent: Any) -> Any:
        def gradient(params: Any) -> Any:
            return jax.grad(loss)(params, examples)

        return jax.jvp(gradient, (params,), (tangent,))[1]

    return product


def _extreme(
    multiply: Callable[[np.ndarray], np.ndarray], size: int, **options: Any
) -> tuple[float, np.ndarray]:
    """An eigenvalue of a symmetric matrix, as ``eigsh`` is asked for it, and its eigenvector.

    Both are NaN where the matrix is not finite, as after divergence: ARPACK would raise.
    """
    start = np.random.default_rng(0).normal(size=size)  # the same result every time
    if not np.isfinite(multiply(start)).all():
        return np.nan, np.full(size, np.nan)
    # SciPy's annotations know neither these arguments nor a tolerance other than 0.
    make_operator: Any = LinearOperator
    solve: Any = eigsh
    operator = make_operator((size, size), matvec=multiply, dtype=np.float64)
    values, vectors = solve(operator, k=1, v0=start, **options)
    return float(values[0]), vectors[:, 0]
