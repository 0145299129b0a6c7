"""Which examples of a mini-batch get a backward pass, and with what weight.

The batch is cut into blocks of k = 1/f consecutive rows and one row of each block is drawn, with
probability proportional to its score. So every step has the same shapes, no row is drawn twice, the
draw needs nothing from other devices as long as blocks do not straddle them, and the estimate is
unbiased *for any order of the rows*: given the batch, a row i of block b is drawn with probability
π_i = p_i / P_b, P_b = Σ_{j in b} p_j, and has weight 1/(B π_i).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xgrad_optax._typing import PyTree
from xgrad_optax.control_variates.estimator import validate_control_fraction


class Selection(NamedTuple):
    """The control examples of one mini-batch.

    Attributes:
      choice: which row of each block was drawn, int32 ``[n]``.
      weights: w_j with Σ_j w_j g_j unbiased for the mean gradient of the batch, float ``[n]``; all
        equal to 1/n for a uniform choice.
    """

    choice: jax.Array
    weights: jax.Array


def select(
    key: jax.Array,
    batch_size: int,
    control_fraction: float,
    scores: jax.Array | None = None,
    *,
    defensive: float = 0.1,
) -> Selection:
    r"""Draws one control example from each block of ``1 / control_fraction`` rows.

    Args:
      key: PRNG key; consumed.
      batch_size: B, a multiple of ``1 / control_fraction``.
      control_fraction: f, one over a whole number.
      scores: importance of each row, ``[B]``, real and >= 0; ideally the norm of what the
        predictor misses. ``None`` for a uniform choice. Scores that are not finite count as 0.
      defensive: share of the probability that is spread evenly, in (0, 1], so that no weight
        exceeds P_b / ``defensive`` (P_b is 1/n on average, the weight of a uniform choice).

    Returns:
      The selection, of n = f·B rows.

    Raises:
      ValueError: ``control_fraction`` is not one over a whole number, the batch cannot be cut into
        such blocks, or ``defensive`` is out of range.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> selection = select(jax.random.key(0), 8, 0.25)
      >>> selection.weights
      Array([0.5, 0.5], dtype=float32)
      >>> pick(jnp.arange(8), selection).shape
      (2,)

    References:
      Rao, Hartley and Cochran, J. R. Stat. Soc. B 24 (1962); the even share: Hesterberg,
      Technometrics 37 (1995).
    """
    size = block_size(batch_size, control_fraction)
    probabilities = selection_probabilities(scores, batch_size, defensive=defensive)
    blocks = probabilities.reshape(-1, size)
    choice = jax.random.categorical(key, jnp.log(blocks), axis=-1).astype(jnp.int32)
    drawn = jnp.take_along_axis(blocks, choice[:, None], axis=1)[:, 0]
    return Selection(choice, blocks.sum(axis=-1) / (drawn * batch_size))


def selection_probabilities(
    scores: jax.Array | None, batch_size: int, *, defensive: float = 0.1
) -> jax.Array:
    """p_i of each row, ``[B]``, with sum 1: proportional to the score, plus an even share.

    Args:
      scores: as for :func:`select`.
      batch_size: B.
      defensive: as for :func:`select`.

    Returns:
      The probabilities, at least ``defensive / B`` each.

    Raises:
      ValueError: ``defensive`` is out of range or ``scores`` is not of shape ``[B]``.
    """
    if not 0 < defensive <= 1:
        raise ValueError(f"defensive must lie in (0, 1], got {defensive}.")
    if scores is None:
        return jnp.full(batch_size, 1 / batch_size)
    if scores.shape != (batch_size,):
        raise ValueError(f"scores need shape ({batch_size},), got {scores.shape}.")
    scores = scores.astype(jnp.result_type(float))
    scores = jnp.where(jnp.isfinite(scores) & (scores > 0), scores, 0.0)
    # No larger than that their sum and its reciprocal are ordinary numbers.
    scores = jnp.minimum(scores, jnp.finfo(scores.dtype).max / (8 * batch_size))
    total = scores.sum()
    # Scores that are all zero say nothing: then the choice is uniform.
    share = jnp.where(total > 0, scores / jnp.where(total > 0, total, 1.0), 1 / batch_size)
    return (1 - defensive) * share + defensive / batch_size


def pick(tree: PyTree, selection: Selection) -> PyTree:
    """The rows that were drawn: leaves ``[B, ...]`` become ``[n, ...]``."""
    return _rows(tree, selection.choice[:, None])


def leave(tree: PyTree, selection: Selection) -> PyTree:
    """The rows that were not drawn: leaves ``[B, ...]`` become ``[B - n, ...]``, by block."""
    blocks = selection.choice.shape[0]
    size = batch_size_of(tree) // blocks
    after = jnp.arange(1, size, dtype=selection.choice.dtype)
    others = (selection.choice[:, None] + after[None]) % size
    return _rows(tree, others)


def regroup(drawn: PyTree, others: PyTree) -> PyTree:
    """Joins what :func:`pick` and :func:`leave` took apart: in each block the drawn row first."""

    def join(x: jax.Array, y: jax.Array) -> jax.Array:
        blocks = x.shape[0]  # joining inside blocks stays on one device
        parts = [z.reshape(blocks, -1, *z.shape[1:]) for z in (x, y)]
        return jnp.concatenate(parts, axis=1).reshape(-1, *x.shape[1:])

    return jax.tree.map(join, drawn, others)


def spread(selection: Selection, batch_size: int) -> jax.Array:
    """The weights at the places of their rows, zero elsewhere, ``[B]``."""
    size = batch_size // selection.choice.shape[0]
    drawn = selection.choice[:, None] == jnp.arange(size, dtype=jnp.int32)[None]
    return jnp.where(drawn, selection.weights[:, None], 0.0).reshape(batch_size)


def block_size(batch_size: int, control_fraction: float) -> int:
    """Returns k = 1/f.

    Raises:
      ValueError: f is not one over a whole number, or the batch has no such blocks.
    """
    size = rows_per_control_example(control_fraction)
    if batch_size < size or batch_size % size:
        raise ValueError(
            f"a batch of {batch_size} examples cannot be split into blocks of {size} (control"
            f" fraction 1/{size}): use a multiple of {size}."
        )
    return size


def rows_per_control_example(control_fraction: float) -> int:
    """Returns k = 1/f.

    Raises:
      ValueError: f is not one over a whole number.
    """
    f = validate_control_fraction(control_fraction)
    size = round(1 / f)
    if abs(size * f - 1) > 1e-6:
        raise ValueError(
            f"control_fraction must be one over a whole number (1/2, 1/4, ...), so that one of"
            f" every so many examples is a control example; got {control_fraction}."
        )
    return size


def batch_size_of(batch: PyTree) -> int:
    """The common length of the leading axes.

    Raises:
      ValueError: there are no arrays, or they differ in length.
    """
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(batch)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(
            "a batch must be a tree of arrays with the same number of rows, one per example; got"
            f" leading axes {sorted(lengths)}."
        )
    return next(iter(lengths))[0]


def _rows(tree: PyTree, within: Any) -> PyTree:
    """Rows ``within`` [blocks, m] of each block; indexing inside blocks stays on one device."""
    blocks = within.shape[0]

    def rows(x: jax.Array) -> jax.Array:
        shaped = x.reshape(blocks, -1, *x.shape[1:])
        return jax.vmap(lambda block, index: block[index])(shaped, within).reshape(-1, *x.shape[1:])

    return jax.tree.map(rows, tree)
