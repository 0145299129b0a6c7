"""A small non-convex problem: a two-layer tanh network, squared loss, mini-batches in turn."""

from collections.abc import Mapping

import numpy as np

from tests.reference.optimizers import Vector


class TanhNetwork:
    """f(θ) = ½ mean (aᵀ tanh(W x) - y)²; swapping hidden units shows that f is not convex.

    Attributes:
      x: inputs `[batches, batch, inputs]`, the last input constant 1 (the bias).
      y: targets `[batches, batch]`.
      θ: initial parameters `[n]`, W row by row and then a.
    """

    inputs, hidden, batch, batches = 3, 4, 4, 4

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(self.batches, self.batch, self.inputs))
        self.x[..., -1] = 1.0
        self.y = np.sin(2 * self.x[..., 0]) + 0.3 * rng.normal(size=(self.batches, self.batch))
        self.θ = rng.normal(size=self.hidden * (self.inputs + 1))

    def unflatten(self, θ: Vector) -> dict[str, Vector]:
        """W `[hidden, inputs]` and a `[hidden]`."""
        W, a = np.split(θ, [self.hidden * self.inputs])
        return {"W": W.reshape(self.hidden, self.inputs), "a": a}

    def flatten(self, parameters: Mapping[str, Vector]) -> Vector:
        """The inverse, also for a trajectory `[..., hidden, inputs]` and `[..., hidden]`."""
        W, a = np.asarray(parameters["W"]), np.asarray(parameters["a"])
        return np.concatenate([W.reshape(*W.shape[:-2], -1), a], axis=-1)

    def minibatch(self, t: int) -> tuple[Vector, Vector]:
        """Inputs `[batch, inputs]` and targets `[batch]` of step t."""
        return self.x[t % self.batches], self.y[t % self.batches]

    def gradient(self, θ: Vector, t: int) -> Vector:
        """∇f(θ) on mini-batch t, by the chain rule."""
        x, y = self.minibatch(t)
        W, a = self.unflatten(θ).values()
        h = np.tanh(x @ W.T)
        e = (h @ a - y) / len(y)
        ddW = (e[:, None] * a * (1 - h**2)).T @ x
        dda = h.T @ e
        return self.flatten({"W": ddW, "a": dda})
