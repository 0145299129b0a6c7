"""What the drop-in and the in-place form do to trees, leaf by leaf.

The train step holds θ̂ = θ + δ. Taking δ off again gives θ to the last digit that counts: δ is the
difference of two numbers of nearly the same size, which floating-point subtraction gives exactly
(Sterbenz, 1974), except where |δ| is about |θ| or more; there it is right to a digit of δ itself.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._rounding import moved, moved_back, rounded, widened
from xgrad_optax._trees import is_masked, is_none, is_real, map_present
from xgrad_optax._typing import Params, Updates

NOTHING = optax.MaskedNode()
"""The displacement that is known to be zero, for all parameters at once."""


def as_base(tree: Params, base_dtype: Any) -> Params:
    """The tree in the dtype that base parameters are kept in: only real floats are recast."""

    def cast(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            dtype = base_dtype if base_dtype is not None and is_real(leaf) else leaf.dtype
            return leaf.update(dtype=dtype)
        leaf = jnp.asarray(leaf)
        return leaf.astype(base_dtype) if base_dtype is not None and is_real(leaf) else leaf

    return map_present(cast, tree)


def nothing_displaced(base: Params) -> Updates:
    """Zeros for each base parameter."""
    return jax.tree.map(lambda b: jnp.zeros_like(b, dtype=b.dtype), base)


def taken_off(displacement: Updates, params: Params, base_dtype: Any = None) -> Params:
    """θ = θ̂ - δ, in the dtype of δ; where there is no δ, θ = θ̂."""
    if is_masked(displacement):
        return as_base(params, base_dtype)

    def take_off(d: Any, p: Any) -> Any:
        if d is None:
            return p
        p = jnp.asarray(p)
        return moved_back(p, d, p.dtype if base_dtype is None else d.dtype)

    return jax.tree.map(take_off, displacement, params, is_leaf=is_none)


def advanced(base: Params, steps: Updates) -> Params:
    """``optax.apply_updates`` that leaves a parameter without an update where it is."""

    def add(step: Any, b: jax.Array) -> jax.Array:
        return b if step is None else moved(b, jnp.asarray(step))

    return jax.tree.map(add, steps, base, is_leaf=is_none)


def moves_ahead(
    steps: Updates, displacement: Updates, params: Params, next_base: Params, ahead: Updates
) -> tuple[Updates, Updates]:
    """The drop-in form: moves from one predicted point to the next, and the next displacement.

    Args:
      steps: the inner transform's updates; ``None`` where a leaf is not trained.
      displacement: δ that is in ``params``.
      params: θ̂, what the train step holds.
      next_base: the next θ, in the dtype of δ.
      ahead: what is predicted from ``next_base``.

    Returns:
      ``(moves, next displacement)``, each like ``params``.
    """
    layout = jax.tree.structure(steps, is_leaf=is_none)
    rows = _rows(layout, steps, displacement, params, next_base, ahead)
    with jax.numpy_dtype_promotion("standard"):
        pairs = [_move_ahead(*row) for row in rows]
    return tuple(jax.tree.unflatten(layout, [pair[i] for pair in pairs]) for i in (0, 1))


def _move_ahead(step: Any, old: Any, param: Any, next_base: Any, ahead: Any) -> tuple[Any, Any]:
    """One leaf: the move, and the next displacement."""
    if step is None:
        if old is None and next_base is not None:  # a parameter of which nothing was kept
            old = jnp.zeros_like(next_base)
        return None, old
    param = jnp.asarray(param)
    predicted = next_base if ahead is None else moved(next_base, ahead)
    # Subtract, then round: so θ̂ is missed by one unit in the last place at most.
    move = moved_back(predicted, param, param.dtype)
    held = moved(param, move)  # what the train step will hold, to the last digit
    return move, moved_back(held, next_base, next_base.dtype)


def moves_in_place(steps: Updates, before: Updates, after: Updates) -> Updates:
    """The in-place form: the inner update, and from the old to the new displacement.

    Args:
      steps: the inner transform's updates; ``None`` where a leaf is not trained.
      before: the displacement that is in the parameters.
      after: the one that is to be in them.

    Returns:
      ``steps + after - before``, in the dtypes of ``steps``.
    """
    if is_masked(before) and is_masked(after):
        return steps

    def total(step: Any, old: Any, new: Any) -> Any:
        if step is None:
            return None
        move = widened(step := jnp.asarray(step))
        move = move if new is None else move + widened(new)
        return rounded(move if old is None else move - widened(old), step.dtype)

    layout = jax.tree.structure(steps, is_leaf=is_none)
    with jax.numpy_dtype_promotion("standard"):
        moves = [total(*row) for row in _rows(layout, steps, before, after)]
    return jax.tree.unflatten(layout, moves)


def _rows(layout: Any, *trees: Updates) -> list[tuple[Any, ...]]:
    """The trees leaf by leaf, in one layout; ``None`` where one of them is :data:`NOTHING`."""
    columns = [
        [None] * layout.num_leaves if is_masked(tree) else layout.flatten_up_to(tree)
        for tree in trees
    ]
    return list(zip(*columns, strict=True))
