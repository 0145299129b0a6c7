"""How good a gradient predictor is, measured on examples that it has not learnt from."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates.alignment import Moments
from xgrad_optax.control_variates.gradient_predictors import GradientPredictor
from xgrad_optax.control_variates.losses import ExampleLoss, per_example_gradients
from xgrad_optax.control_variates.selection import batch_size_of, selection_probabilities

# Without scores, gradients are compared as means of up to so many examples.
_GROUP = 8


class Evaluation(NamedTuple):
    """What one predictor state is worth.

    Attributes:
      moments: of gradients and predictions per example, per leaf.
      sampling_ratio: η of the given scores with respect to what the predictor misses, ``()``; 1
        without scores.
    """

    moments: Moments
    sampling_ratio: jax.Array


class _Sums(NamedTuple):
    """Sums over examples: of gradients and predictions (trees), and of products (scalars)."""

    grads: Updates
    predictions: Updates
    squares: Moments


def evaluate(
    loss: ExampleLoss,
    predictor: GradientPredictor,
    states: Sequence[PyTree],
    params: Params,
    batch: PyTree,
    *,
    scores: Callable[[Any], jax.Array] | None = None,
    defensive: float = 0.1,
    chunk_size: int = 32,
) -> list[Evaluation]:
    """Compares predictions with true gradients, a few examples at a time, in bounded memory.

    Args:
      loss: what is trained.
      predictor: the predictor.
      states: states of it, all compared on the same gradients.
      params: the parameters.
      batch: m >= 2 examples that no state has learnt from.
      scores: importance of an example from its forward pass, ``Rows -> [b]``; ``None`` for none.
      defensive: as for :func:`~xgrad_optax.control_variates.select`.
      chunk_size: how many per-example gradients exist at a time.

    Returns:
      One evaluation for each state.

    Raises:
      ValueError: there are fewer than two examples.
    """
    count = batch_size_of(batch)
    if count < 2:
        raise ValueError(f"measuring an alignment needs at least two examples, got {count}.")
    # A prediction costs the same for one example as for many. Only scores need single examples.
    group = 1 if scores is not None else _largest_divisor(count, at_most=min(count // 2, _GROUP))
    size = group * _largest_divisor(count // group, at_most=max(chunk_size // group, 1))
    chunks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)
    part = loss.predicted_part(params)
    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), part)
    nothing = jax.tree.map(lambda _: jnp.zeros([], jnp.float32), part)

    def add(sums: list[_Sums], chunk: PyTree) -> tuple[list[_Sums], list[jax.Array]]:
        grads = per_example_gradients(loss, params, chunk, group)
        each = [_predictions(loss, predictor, state, params, chunk, group) for state in states]
        missed = [_norms(jax.tree.map(lambda g, h: g - h, grads, h)) for h in each]
        return [_added(s, grads, h) for s, h in zip(sums, each, strict=True)], missed

    start = [_Sums(zeros, zeros, Moments(nothing, nothing, nothing)) for _ in states]
    sums, missed = jax.lax.scan(add, start, chunks)
    if scores is None:
        ratios = [jnp.ones([], jnp.float32) for _ in states]
    else:
        values = scores(loss.forward(params, batch))
        chances = selection_probabilities(values, count, defensive=defensive)
        ratios = [
            _sampling_ratio(s, norms.reshape(count), chances)
            for s, norms in zip(sums, missed, strict=True)
        ]
    moments = [_central(s, count // group) for s in sums]
    return [
        Evaluation(jax.tree.map(lambda m: group * m, moment), ratio)
        for moment, ratio in zip(moments, ratios, strict=True)
    ]


def _largest_divisor(number: int, at_most: int) -> int:
    return max(d for d in range(1, max(at_most, 1) + 1) if number % d == 0)


def _predictions(
    loss: ExampleLoss,
    predictor: GradientPredictor,
    state: PyTree,
    params: Params,
    batch: PyTree,
    group: int,
) -> Updates:
    """The mean prediction for each group of examples, leaves ``[groups, ...]``."""
    rows = loss.forward(params, batch) if predictor.needs_rows else None
    weights = jnp.repeat(jnp.eye(batch_size_of(batch) // group), group, axis=1) / group
    return jax.vmap(lambda w: predictor.predict(loss, state, params, batch, rows, w))(weights)


def _added(sums: _Sums, grads: Updates, predictions: Updates) -> _Sums:
    def products(xs: Updates, ys: Updates) -> PyTree:
        return jax.tree.map(lambda x, y: jnp.vdot(_float(x), _float(y)), xs, ys)

    def total(tree: Updates) -> Updates:
        return jax.tree.map(lambda x: _float(x).sum(axis=0), tree)

    squares = Moments(
        products(grads, grads), products(predictions, predictions), products(grads, predictions)
    )
    new = _Sums(total(grads), total(predictions), squares)
    return jax.tree.map(jnp.add, sums, new)


def _central(sums: _Sums, count: int) -> Moments:
    """From sums of products to covariances, without bias."""

    def central(square: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return (square - jnp.vdot(x, y) / count) / (count - 1)

    g, h, squares = sums
    return Moments(
        jax.tree.map(central, squares.gradients, g, g),
        jax.tree.map(central, squares.predictions, h, h),
        jax.tree.map(central, squares.products, g, h),
    )


def _sampling_ratio(sums: _Sums, norms: jax.Array, probabilities: jax.Array) -> jax.Array:
    """η, as :func:`~xgrad_optax.control_variates.sampling_ratio`; 1 if nothing is missed."""
    count = norms.shape[0]
    mean = jax.tree.map(lambda g, h: (g - h) / count, sums.grads, sums.predictions)
    center = sum(jnp.vdot(m, m) for m in jax.tree.leaves(mean))
    probabilities = probabilities.astype(norms.dtype)
    weighted = jnp.sum(norms**2 / probabilities) / count**2 - center
    uniform = jnp.mean(norms**2) - center
    return jnp.where(uniform > 0, weighted / jnp.where(uniform > 0, uniform, 1.0), 1.0)


def _norms(tree: Updates) -> jax.Array:
    leaves = [_float(x).reshape(x.shape[0], -1) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(jnp.sum(x * x, axis=1) for x in leaves))


def _float(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)
