"""Gradient prediction with the Neural Tangent Kernel (arXiv 2511.05187), for a small network.

All by hand: backpropagation, kernels, ridge regression; and for leave-one-out the honest way, one
regression for each example that is left out.

    a(x) = tanh(W2 tanh(W1 x + b1) + b2)   features       r   output residual, softmax - one-hot
    ã = (a, 1)                                            δ = W r, what backpropagation starts from
    G                                      gradients of the examples, one a row `[n, P]`
    K_ij = (δ_i·δ_j)(ã_i·ã_j)              the kernel     λ   ridge
"""

from typing import NamedTuple

import numpy as np

from tests.reference.optimizers import Vector


class TanhTrunk(NamedTuple):
    """Parameters of the trunk, and W of the linear head on top."""

    W1: Vector
    b1: Vector
    W2: Vector
    b2: Vector
    W: Vector
    b: Vector

    def forward(self, x: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
        """a `[n, d]`, r `[n, classes]` and δ `[n, d]` for inputs `[n, inputs]`, labels `[n]`."""
        a = np.tanh(np.tanh(x @ self.W1 + self.b1) @ self.W2 + self.b2)
        logits = a @ self.W + self.b
        p = np.exp(logits - logits.max(1, keepdims=True))
        r = p / p.sum(1, keepdims=True)
        r[np.arange(len(y)), y] -= 1
        return a, r, r @ self.W.T

    def gradients(self, x: Vector, δ: Vector) -> dict[str, Vector]:
        """Backpropagation of δ through the trunk, example by example, `[n, ...]`."""
        z = np.tanh(x @ self.W1 + self.b1)
        a = np.tanh(z @ self.W2 + self.b2)
        d2 = δ * (1 - a**2)
        d1 = d2 @ self.W2.T * (1 - z**2)
        return {
            "W1": x[:, :, None] * d1[:, None],
            "b1": d1,
            "W2": z[:, :, None] * d2[:, None],
            "b2": d2,
        }


def kernel(name: str, left: tuple[Vector, Vector], right: tuple[Vector, Vector]) -> Vector:
    """K between two sets of (δ, a), pair by pair."""
    K = np.zeros((len(left[0]), len(right[0])))
    for i, (δ, a) in enumerate(zip(*left, strict=True)):
        for j, (ε, c) in enumerate(zip(*right, strict=True)):
            distance = np.linalg.norm(δ / np.linalg.norm(δ) - ε / np.linalg.norm(ε))
            sizes = np.linalg.norm(δ) * np.linalg.norm(ε)
            similarity = {
                "linear": δ @ ε,
                "gaussian": sizes * np.exp(-(distance**2) / 2),
                "laplace": sizes * np.exp(-distance),
            }[name]
            K[i, j] = similarity * (a @ c + 1)
    return K


class Fit(NamedTuple):
    """U `[P, k]`, (M + λI)⁻¹Vᵀ `[k, n]`, and λ over the largest eigenvalue."""

    U: Vector
    coefficients: Vector
    ridge: float

    def predict(self, k: Vector) -> Vector:
        """h `[P, m]` from kernels with the learnt examples `[n, m]`."""
        return self.U @ (self.coefficients @ k)


def fit(K: Vector, G: Vector, rank: int, ridges: tuple[float, ...]) -> Fit:
    """Of rank k, with the ridge of the smallest leave-one-out error of the gradients."""
    μ, V = np.linalg.eigh(K)
    top, V = μ[-rank:], V[:, -rank:]
    errors = [leave_one_out_error(V * top @ V.T, G, ridge * μ[-1]) for ridge in ridges]
    ridge = ridges[int(np.argmin(errors))]
    return Fit(G.T @ V, V.T / (top + ridge * μ[-1])[:, None], ridge)


def leave_one_out_error(K: Vector, G: Vector, λ: float) -> float:
    """Σ_j ‖g_j - prediction of g_j from all others‖², by as many regressions."""
    total = 0.0
    for j in range(len(K)):
        rest = np.arange(len(K)) != j
        weights = np.linalg.solve(K[np.ix_(rest, rest)] + λ * np.eye(len(K) - 1), K[rest, j])
        total += np.sum((G[j] - weights @ G[rest]) ** 2)
    return total
