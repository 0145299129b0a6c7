"""Algorithm 1 of XGrad (arXiv 2305.18240), for any optimizer and any way to predict."""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.reference.optimizers import Optimizer, Vector

LearningRate = Callable[[int], float]
Prediction = Callable[[Optimizer, Vector, float, LearningRate], Vector]


class Trajectory(NamedTuple):
    """All of a run, row t as it stands after t updates.

    Attributes:
      θ: base parameters `[steps, n]`.
      θ_hat: predicted parameters `[steps, n]`.
      moments: the optimizer's moments by name, each `[steps, n]`.
    """

    θ: Vector
    θ_hat: Vector
    moments: dict[str, Vector]


def algorithm_1(
    optimizer: Optimizer,
    gradient: Callable[[Vector, int], Vector],
    θ: Vector,
    s: float,
    steps: int,
    γ: LearningRate,
    predict: Prediction | None = None,
) -> Trajectory:
    """Predict, take the gradient at the prediction, go back, step.

    Args:
      optimizer: a fresh optimizer; it is used up.
      gradient: ``(θ, t) -> ∇f(θ)`` on mini-batch t.
      θ: initial parameters `[n]`.
      s: the horizon.
      steps: how many rows to record.
      γ: learning rate of update t + 1 as a function of t.
      predict: how to predict; :func:`closed_form` if None.

    Returns:
      The trajectory.
    """
    predict = predict or closed_form
    θs, θ_hats, moments = [], [], {name: [] for name in optimizer.moments}
    for t in range(steps):
        θ_hat = predict(optimizer, θ, s, γ) if t > 0 else θ  # d_0 = 0: nothing to predict from
        θs.append(θ)
        θ_hats.append(θ_hat)
        for name, rows in moments.items():
            rows.append(np.broadcast_to(getattr(optimizer, name), θ.shape))
        g = gradient(θ_hat, t)
        θ = optimizer.step(g, θ, γ(t))
    return Trajectory(
        np.array(θs), np.array(θ_hats), {name: np.array(rows) for name, rows in moments.items()}
    )


def closed_form(optimizer: Optimizer, θ: Vector, s: float, γ: LearningRate) -> Vector:
    """θ̂_{t+s} = θ_t + s d_t, d_t read off the moments (XGrad, table 1)."""
    return θ + s * optimizer.next_update(γ(optimizer.t))


def damped(optimizer: Optimizer, θ: Vector, s: float, γ: LearningRate) -> Vector:
    """θ̂_{t+s} = θ_t + d_t Σ_{k=1..s} w_k, linear between whole steps; γ stays that of d_t."""
    whole = math.floor(s)
    steps = sum(optimizer.weight(k) for k in range(1, whole + 1))
    steps += (s - whole) * optimizer.weight(whole + 1)
    return θ + steps * optimizer.next_update(γ(optimizer.t))


def last_update(optimizer: Optimizer, θ: Vector, s: float, γ: LearningRate) -> Vector:
    """θ̂_{t+s} = θ_t + s u_t."""
    del γ
    return θ + s * optimizer.u


def zero_gradient(optimizer: Optimizer, θ: Vector, s: float, γ: LearningRate) -> Vector:
    """θ̂_{t+s} = θ_{t+s} if all gradients from here on were zero; linear between whole steps."""
    optimizer = copy.deepcopy(optimizer)  # a rollout must leave no trace
    zeros = np.zeros_like(θ)
    whole = math.floor(s)
    for _ in range(whole):
        θ = optimizer.step(zeros, θ, γ(optimizer.t))
    if s == whole:
        return θ
    θ_next = optimizer.step(zeros, θ, γ(optimizer.t))
    return (1 - (s - whole)) * θ + (s - whole) * θ_next
