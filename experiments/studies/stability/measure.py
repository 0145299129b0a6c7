"""How momentum with prediction behaves on a real loss: near a point, and in training."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xgrad_optax
from experiments.curvature import Sharpest, make_sharpest
from experiments.problems import Problem
from experiments.training.batches import epoch_batches, number_of_examples, take

_DISPLACEMENT = 1e-8  # of the local test, in float64: hardly a ReLU switches
_LARGEST_GROWTH = 100.0  # beyond it the displacement is no longer small
_SMALLEST_GROWTH = 1e-4  # below it the displacement is lost in rounding
_FAILED = 0.9  # of the initial loss: a run that ends above has learned nothing


class Point(NamedTuple):
    """Where the local test is made, in float64.

    Attributes:
        params: the parameters.
        examples: the training examples.
        sharpest: the direction of largest curvature.
    """

    params: Any
    examples: Any
    sharpest: Sharpest


class Measurements:
    """Compiled training runs of one problem; γ and s are arguments, so that each compiles once.

    Attributes:
        start: initial parameters.
    """

    def __init__(self, problem: Problem, momentum: float, seed: int):
        self._problem, self._momentum = problem, momentum
        init, self._order = jax.random.split(jax.random.key(seed))
        self.start = problem.init(init)
        self._sharpest = make_sharpest(problem.loss)
        self._full_batch = jax.jit(self._train_full_batch, static_argnames="steps")
        self._leaving = jax.jit(self._leave, static_argnames="steps")
        self._mini_batch = jax.jit(self._train_mini_batch, static_argnames="steps")

    def train(self, learning_rate: float, s: float, steps: int, state: Any = None) -> Any:
        """Full-batch training, from the start or from a ``(params, opt_state)`` of before."""
        if state is None:
            # A state of the same structure, whatever s and γ are.
            state = (self.start, optax.sgd(0.0, momentum=self._momentum).init(self.start))
        settings = np.float32(learning_rate), np.float32(s)
        return self._full_batch(self._problem.train, state, *settings, steps=steps)

    def sharpness(self, params: Any) -> float:
        """The largest curvature of the loss over all training examples; NaN where it has none."""
        if not bool(jnp.isfinite(optax.tree.norm(params))):
            return math.nan
        return self._sharpest(params, self._problem.train).curvature

    def point(self, params: Any) -> Point:
        """Prepares the local test at ``params``."""
        with jax.enable_x64(True):
            params, examples = _doubled(params), _doubled(self._problem.train)
            return Point(params, examples, self._sharpest(params, examples))

    def growth(self, point: Point, learning_rate: float, s: float, steps: int) -> float:
        """The measured factor by which a small displacement along the sharpest direction grows.

        The optimizer runs on the loss minus its slope at the point, which makes the point
        stationary and leaves every curvature as it is. The factor is the spectral radius of the
        recurrence x_{t+1} = T x_t - D x_{t-1} that fits the displacements best.
        """
        with jax.enable_x64(True):
            settings = np.float64(learning_rate), np.float64(s)
            displacements = self._leaving(point, *settings, steps=steps)
        return fitted_radius(np.asarray(displacements))

    def fails(self, learning_rate: float, s: float, steps: int) -> bool:
        """Whether mini-batch training ends near the loss it began with, above it, or at none."""
        settings = np.float32(learning_rate), np.float32(s)
        before, after = self._mini_batch(self._problem.train, *settings, steps=steps)
        return not float(after) <= _FAILED * float(before)

    # What is compiled --------------------------------------------------------------------------

    def _optimizer(self, learning_rate: Any, s: Any) -> xgrad_optax.WeightPrediction:
        return xgrad_optax.sgdm(learning_rate, s=s, momentum=self._momentum)

    def _train_full_batch(
        self, examples: Any, state: Any, learning_rate: Any, s: Any, steps: int
    ) -> Any:
        def gradient(point: Any, _: Any) -> Any:
            return jax.grad(self._problem.loss)(point, examples)

        rule = self._optimizer(learning_rate, s)
        carry, _ = jax.lax.scan(_step(rule, gradient), _adopted(rule, state), None, length=steps)
        return carry[0], carry[1].inner_state

    def _leave(self, point: Point, learning_rate: Any, s: Any, steps: int) -> Any:
        center, examples, (_, direction) = point
        slope = jax.grad(self._problem.loss)(center, examples)

        def gradient(point: Any, _: Any) -> Any:
            return optax.tree.sub(jax.grad(self._problem.loss)(point, examples), slope)

        def displacement(params: Any) -> Any:
            return optax.tree.vdot(optax.tree.sub(params, center), direction) / _DISPLACEMENT

        rule = self._optimizer(learning_rate, s)
        params = optax.tree.add_scale(center, _DISPLACEMENT, direction)
        step = _step(rule, gradient, displacement)
        _, after = jax.lax.scan(step, (params, rule.tx.init(params)), None, length=steps)
        return jnp.append(displacement(params), after)

    def _train_mini_batch(self, examples: Any, learning_rate: Any, s: Any, steps: int) -> Any:
        count, size = number_of_examples(examples), self._problem.batch_size
        epochs = -(-steps // (count // size))
        batches = jax.vmap(lambda key: epoch_batches(key, count, size))(
            jax.random.split(self._order, epochs)
        ).reshape(-1, size)[:steps]

        def gradient(point: Any, indices: Any) -> Any:
            return jax.grad(self._problem.loss)(point, take(examples, indices))

        rule = self._optimizer(learning_rate, s)
        carry = (self.start, rule.tx.init(self.start))
        (params, _), _ = jax.lax.scan(_step(rule, gradient), carry, batches)
        return self._problem.loss(self.start, examples), self._problem.loss(params, examples)


def _doubled(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def _step(
    rule: xgrad_optax.WeightPrediction, gradient: Callable[[Any, Any], Any], measure: Any = None
) -> Any:
    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        grads = gradient(rule.lookahead_params(params, state), batch)
        updates, state = rule.tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), measure(params) if measure else None

    return step


def _adopted(rule: xgrad_optax.WeightPrediction, state: Any) -> Any:
    params, inner_state = state
    fresh: Any = rule.tx.init(params)
    return params, fresh._replace(inner_state=inner_state)


def fitted_radius(displacements: np.ndarray) -> float:
    """The spectral radius of the recurrence of second order that the displacements follow best.

    Args:
        displacements: relative to the first one; used until they are no longer small.

    Returns:
        The radius, NaN if fewer than five displacements are small.
    """
    large = np.flatnonzero(~(np.abs(displacements) < _LARGEST_GROWTH))
    x = displacements[: large[0] if large.size else None]
    if len(x) < 5:
        return math.nan
    terms = np.stack([x[1:-1], x[:-2], x[2:]], axis=1)
    sizes = np.abs(terms).sum(axis=1, keepdims=True)
    # Each step counts the same, however large the displacement.
    terms = (terms / sizes)[sizes[:, 0] > _SMALLEST_GROWTH]
    coefficients, *_ = np.linalg.lstsq(terms[:, :2], terms[:, 2], rcond=None)
    return float(np.abs(np.roots([1.0, *-coefficients])).max())


def crossing(factors: Sequence[float], radii: Sequence[float]) -> float | None:
    """Where the radius passes 1, between the factors on either side; None if it does not."""
    logs = np.log(np.asarray(radii, float))
    for left in range(len(logs) - 1):
        if logs[left] < 0 <= logs[left + 1]:
            share = -logs[left] / (logs[left + 1] - logs[left])
            return float(factors[left] + share * (factors[left + 1] - factors[left]))
    return None
