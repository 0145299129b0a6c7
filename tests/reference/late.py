"""Algorithm 1 of XGrad with gradients that arrive late, and with those in flight rolled out."""

import copy
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from tests.reference.algorithm_1 import LearningRate, Trajectory, closed_form, zero_gradient
from tests.reference.optimizers import Optimizer, Vector

LatePrediction = Callable[[Optimizer, Vector, float, LearningRate, Sequence[Vector]], Vector]


def late_algorithm(
    optimizer: Optimizer,
    gradient: Callable[[Vector, int], Vector],
    θ: Vector,
    s: float,
    steps: int,
    γ: LearningRate,
    delay: int,
    predict: LatePrediction | None = None,
) -> Trajectory:
    """Predict, take the gradient there, put it in a queue, step with the one that leaves it.

    Args:
      optimizer: a fresh optimizer; it is used up.
      gradient: ``(θ, t) -> ∇f(θ)`` on mini-batch t.
      θ: initial parameters `[n]`.
      s: the horizon.
      steps: how many gradients are taken; row t of the result stands before gradient t.
      γ: learning rate of update k + 1 as a function of k.
      delay: how many younger gradients are in the queue when one leaves it.
      predict: also given the queue, oldest first; the closed form if None.

    Returns:
      The trajectory.
    """
    predict = predict or without_queue(closed_form)
    θs, θ_hats, moments = [], [], {name: [] for name in optimizer.moments}
    queue: deque[Vector] = deque()
    for t in range(steps):
        θ_hat = predict(optimizer, θ, s, γ, queue)
        θs.append(θ)
        θ_hats.append(θ_hat)
        for name, rows in moments.items():
            rows.append(np.broadcast_to(getattr(optimizer, name), θ.shape))
        queue.append(gradient(θ_hat, t))
        if len(queue) > delay:
            θ = optimizer.step(queue.popleft(), θ, γ(optimizer.t))
    return Trajectory(
        np.array(θs), np.array(θ_hats), {name: np.array(rows) for name, rows in moments.items()}
    )


def without_queue(predict) -> LatePrediction:
    """A prediction that does not look into the queue; nothing before the first update."""
    return lambda optimizer, θ, s, γ, queue: predict(optimizer, θ, s, γ) if optimizer.t else θ


def in_flight(delay: int) -> LatePrediction:
    """The optimizer's own steps with the gradients of the queue, then s - delay with zeros."""

    def predict(optimizer, θ, s, γ, queue):
        optimizer = copy.deepcopy(optimizer)
        for g in queue:
            θ = optimizer.step(g, θ, γ(optimizer.t))
        return zero_gradient(optimizer, θ, s - delay, γ) if queue else θ

    return predict
