"""The largest eigenvalue of a Hessian, by Lanczos iterations on Hessian-vector products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

_TOLERANCE = 1e-4  # relative


class Sharpest(NamedTuple):
    """The direction of largest curvature.

    Attributes:
        curvature: the largest eigenvalue h of the Hessian.
        direction: its unit eigenvector, a tree like the parameters.
    """

    curvature: float
    direction: Any


def make_sharpest(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Sharpest]:
    """Returns ``(params, examples) -> Sharpest``, whose product is compiled only once.

    Args:
        loss: ``(params, examples) -> scalar``.
    """

    @jax.jit
    def product(params: Any, examples: Any, tangent: Any) -> Any:
        def gradient(params: Any) -> Any:
            return jax.grad(loss)(params, examples)

        return jax.jvp(gradient, (params,), (tangent,))[1]

    def sharpest(params: Any, examples: Any) -> Sharpest:
        unravel: Any  # takes what is like an array
        flat, unravel = ravel_pytree(params)

        def multiply(vector: np.ndarray) -> np.ndarray:
            tangent = unravel(vector.ravel().astype(flat.dtype))
            return np.asarray(ravel_pytree(product(params, examples, tangent))[0], np.float64)

        start = np.random.default_rng(0).normal(size=flat.size)  # the same result every time
        # SciPy's annotations know neither these arguments nor a tolerance other than 0.
        make_operator: Any = LinearOperator
        solve: Any = eigsh
        operator = make_operator((flat.size, flat.size), matvec=multiply, dtype=np.float64)
        values, vectors = solve(operator, k=1, which="LA", v0=start, tol=_TOLERANCE)
        return Sharpest(float(values[0]), unravel(vectors[:, 0].astype(flat.dtype)))

    return sharpest
