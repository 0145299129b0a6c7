"""Steps with late gradients on quadratics, carried out as they are defined."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.quadratics import settings
from xgrad_optax.stability import max_learning_rate


class Step(NamedTuple):
    """One step on ½θᵀHθ with parameters that are late by delays of their own."""

    hessian: np.ndarray
    gamma: float
    s: np.ndarray
    mu: float
    decay: float
    method: str
    coupled: bool
    delays: tuple[int, ...]
    in_queues: bool = False  # gradients of one point in queues, instead of points of several ages

    def __call__(self, theta, velocity, past):
        """``past`` holds the predicted points before this step's, the oldest first."""
        points = np.concatenate([past, (theta - self.s * velocity)[None]])
        ages = [len(points) - 1 - delay for delay in self.delays]
        each = np.arange(len(theta))
        if self.in_queues:
            gradient = (points @ self.hessian.T)[ages, each]
        else:
            gradient = self.hessian @ points[ages, each]
        share = 1 - self.mu if self.method == "ema" else 1.0
        l2, decoupled = (self.decay, 0.0) if self.coupled else (0.0, self.decay)
        velocity = self.mu * velocity + share * self.gamma * (gradient + l2 * theta)
        return (1 - self.gamma * decoupled) * theta - velocity, velocity, points[1:]

    def unravel(self, vector):
        theta, velocity, *past = np.reshape(vector, (-1, len(self.delays)))
        return theta, velocity, np.reshape(past, (max(self.delays), -1))

    def matrix(self):
        size = len(self.delays) * (max(self.delays) + 2)
        columns = [self(*self.unravel(basis)) for basis in np.eye(size)]
        return np.array([np.concatenate([np.ravel(x) for x in column]) for column in columns]).T

    def growth(self, steps=4000):
        """How much a trajectory grows at each step, in the long run."""
        state = np.random.default_rng(0).normal(size=len(self.matrix()))
        logarithm = 0.0
        for t in range(2 * steps):
            state = np.concatenate([np.ravel(x) for x in self(*self.unravel(state))])
            size = np.linalg.norm(state)
            state = state / size
            logarithm += np.log(size) if t >= steps else 0.0
        return np.exp(logarithm / steps)


def one(setting, delay, method="sgdm", coupled=False):
    h, gamma, s, mu, decay = setting
    return Step(np.array([[h]]), gamma, np.array([s]), mu, decay, method, coupled, (delay,))


def radius(step):
    return np.abs(np.linalg.eigvals(step.matrix())).max()


METHODS = st.sampled_from(["sgdm", "ema"])


def late_settings(delay, **options):
    """Settings around the limit of late gradients."""

    def shrink(setting):
        _, gamma, s, mu, _ = setting
        share = abs(setting.curvature) * gamma * (1 + 2 * s) / (2 * (1 + mu))
        limit = float(max_learning_rate(1.0, s, mu, delay=delay))
        return setting._replace(curvature=np.sign(setting.curvature) * share * limit / gamma)

    return settings(**options).map(shrink)


def assert_follows(thetas, matrix, rtol=1e-8):
    """Each θ is what the first row makes of those before it, relative to the terms' size."""
    coefficients = matrix[0]
    windows = np.lib.stride_tricks.sliding_window_view(thetas, len(coefficients) + 1)[:, ::-1]
    terms = coefficients * windows[:, 1:]
    size = np.abs(terms).sum(axis=1) + np.abs(windows[:, 0]) + 1e-6
    np.testing.assert_array_less(np.abs(windows[:, 0] - terms.sum(axis=1)) / size, rtol)
