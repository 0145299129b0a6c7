"""What several states say about one parameter tree, and what comes behind them in a chain."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from xgrad_optax._states import PREDICTION_STATES, Found, find_states, is_optax_state
from xgrad_optax._trees import arrays_of, first_difference, is_absent, is_masked
from xgrad_optax._typing import Params, PyTree

# --------------------------------------------------------------------------------------------------
# Merging
# --------------------------------------------------------------------------------------------------


def merge_into(
    params: Params,
    contributions: Sequence[Found[PyTree]],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
) -> Params:
    """Combines each parameter with the one contribution that covers it.

    Args:
      params: tree of parameters.
      contributions: trees like ``params`` in which ``optax.MaskedNode`` or ``None`` stands for
        leaves, or whole subtrees, that the contribution does not cover.
      combine: ``(parameter, contribution) -> new parameter``.

    Returns:
      A tree like ``params``; leaves that no contribution covers are unchanged.

    Raises:
      ValueError: two contributions cover the same leaf, or one does not fit ``params``.
    """
    arrays = arrays_of(params)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arrays)]
    originals = jax.tree.leaves(params)
    merged = jax.tree.leaves(arrays)
    owners: dict[int, str] = {}
    for place, tree, _ in contributions:
        for index, value in enumerate(_spread(tree, arrays, place)):
            if value is _NOT_COVERED:
                continue
            if index in owners:
                leaf = jax.tree_util.keystr(paths[index]) or "(the only one)"
                raise ValueError(
                    f"Two prediction states cover the parameter {leaf}: those at opt_state"
                    f"{owners[index]} and opt_state{place}. Predict each parameter once: remove one"
                    " of the two wrappers, or pass only the part of the state that should count."
                )
            owners[index] = place
            merged[index] = combine(merged[index], value)
    if len(originals) == len(merged):  # what nobody covers stays as the caller has it
        merged = [m if i in owners else originals[i] for i, m in enumerate(merged)]
    # Unflattening into the caller's structure puts NNX variables back where they were.
    return jax.tree.unflatten(jax.tree.structure(params), merged)


_NOT_COVERED = object()


def _spread(contribution: PyTree, params: Params, place: str) -> list[Any]:
    """One entry for each leaf of ``params``: what is contributed to it, or ``_NOT_COVERED``."""
    if difference := first_difference(contribution, params):
        raise ValueError(
            f"These are not the parameters that the state at opt_state{place} was made for:"
            f" {difference}."
        )

    def align(c: Any, p: Any) -> Any:
        # A mask may stand for a whole subtree of the parameters.
        return jax.tree.map(lambda _: _NOT_COVERED, p) if is_absent(c) else c

    return jax.tree.leaves(jax.tree.map(align, contribution, params, is_leaf=is_absent))


# --------------------------------------------------------------------------------------------------
# What comes behind in a chain
# --------------------------------------------------------------------------------------------------

_PASSING_ON = (optax.MonitorState, optax.SnapshotState, optax.ZeroNansState)


def followed_scale(found: Found[Any]) -> Any:
    """What the next update will be multiplied by behind the prediction; None if unknown.

    ``optax.contrib.reduce_on_plateau`` keeps its factor in its state; what else may come behind (a
    schedule, a clipping) does not say what it will do.
    """
    scale = 1.0
    for state in states_behind(found):
        if not isinstance(state, optax.contrib.ReduceLROnPlateauState):
            return None
        scale = scale * state.scale
    return scale


def states_behind(found: Found[Any]) -> list[Any]:
    """The states behind a prediction of transforms that may alter its updates."""
    masked = _shows_a_mask(found.state)

    def alters(state: Any) -> bool:
        if isinstance(state, _PASSING_ON) or find_states(state, PREDICTION_STATES):
            return False
        if not (masked and isinstance(state, optax.MaskedState)):
            return True
        # Groups of parameters, one behind the other. Whoever has no state, such as `set_to_zero`,
        # does not show its mask: it is taken for that of another group. A schedule or a plateau
        # has a state without a mask, and may be anybody's.
        return bool(jax.tree.leaves(state)) and not _shows_a_mask(state)

    return [state for state in found.behind if alters(state)]


def _shows_a_mask(state: PyTree) -> bool:
    return any(map(is_masked, jax.tree.leaves(state, is_leaf=is_masked)))


def names_of(states: Sequence[Any]) -> str:
    """The types of some states, for messages."""
    leaves = jax.tree.leaves(list(states), is_leaf=is_optax_state)
    named = [type(state).__name__ for state in leaves if is_optax_state(state)]
    return ", ".join(named or [f"states of type {type(state).__name__}" for state in states])


def warn_of_what_is_behind(found: Found[Any]) -> None:
    """Says why nothing is predicted, and where the transforms behind belong."""
    warnings.warn(
        f"Nothing is predicted by the state at opt_state{found.path}: behind it in its chain come"
        f" transforms ({names_of(states_behind(found))}) that may change its updates in a way that"
        " their states do not tell, so what will be applied is not known; training goes on as"
        " without prediction. Put them inside: with_weight_prediction(optax.chain(inner, behind),"
        " s), or before the prediction.",
        stacklevel=4,
    )
