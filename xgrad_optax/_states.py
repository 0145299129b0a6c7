"""The states of the three forms, and how they are found in any nesting.

Optax wrappers put states into tuples, dictionaries, masks and dataclasses. The accessors of this
library (``lookahead_params``, ``base_params``) are therefore given the *outermost* state and look
for ours by type, so that users never have to know where it lies.
"""

from typing import Any, Generic, NamedTuple, TypeVar

import jax

from xgrad_optax._hyperparameters import Rule
from xgrad_optax._typing import OptState, PyTree, Updates

StateT = TypeVar("StateT")


class WeightPredictionState(NamedTuple):
    """State of the explicit form (:func:`xgrad_optax.with_weight_prediction`).

    Attributes:
      inner_state: the inner transform's state, exactly as the inner transform made it.
      memory: what the predictor remembers; ``()`` for the closed forms, which need nothing.
      rule: predictor and horizon of the next prediction. The closed forms have leaves only where a
        hyperparameter is an array or follows a schedule; for others s is a scalar, float32.
      steps: number of updates, shape ``()``, int32; ``()`` for closed forms if s is no schedule.
    """

    inner_state: OptState
    memory: PyTree
    rule: Rule
    steps: Any


class XGradState(NamedTuple):
    """State of the drop-in form (:func:`xgrad_optax.xgrad`).

    Attributes:
      displacement: θ̂ - θ, a tree like the parameters: what :func:`xgrad_optax.base_params` takes
        off the parameters that the train step holds.
      inner_state: the inner transform's state.
      memory: what the predictor remembers; ``()`` unless a predictor needs more than the update.
      steps: number of updates, shape ``()``, int32.
    """

    displacement: Updates
    inner_state: OptState
    memory: PyTree
    steps: jax.Array


class InPlaceState(NamedTuple):
    """State of the in-place form (:func:`xgrad_optax.in_place`).

    Attributes:
      inner_state: the inner transform's state, exactly as the inner transform made it.
      rule: predictor and horizon by which the parameters were moved ahead; leaves only where a
        hyperparameter is an array or follows a schedule.
      steps: number of updates, shape ``()``, int32; ``()`` if s is no schedule.
    """

    inner_state: OptState
    rule: Rule
    steps: Any


PREDICTION_STATES = (WeightPredictionState, XGradState, InPlaceState)


class Found(NamedTuple, Generic[StateT]):
    """A state, or what was made of it, and the key path under which it was found."""

    path: str
    state: StateT
    behind: tuple[Any, ...] = ()  # the states of the transforms that come after it in its chains


def find_states(
    tree: PyTree, state_type: type[StateT] | tuple[type[StateT], ...]
) -> list[Found[StateT]]:
    """All instances of ``state_type`` in ``tree``, outermost first, also those inside others."""

    def search(subtree: PyTree, prefix: str) -> list[Found[StateT]]:
        found = []
        nodes, _ = jax.tree_util.tree_flatten_with_path(
            subtree, is_leaf=lambda x: isinstance(x, state_type)
        )
        for path, node in nodes:
            if isinstance(node, state_type):
                here = prefix + jax.tree_util.keystr(path)
                found.append(Found(here, node, _behind(subtree, path)))
                inner_state = getattr(node, "inner_state", ())
                found += search(inner_state, here + ".inner_state")
        return found

    return search(tree, "")


def _behind(tree: PyTree, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """What follows in the plain tuples, the states of ``optax.chain``, on the way to ``path``."""
    behind: list[Any] = []
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            if type(tree) is tuple:
                behind += tree[key.idx + 1 :]
            tree = tree[key.idx]
        elif isinstance(key, jax.tree_util.DictKey):
            tree = tree[key.key]
        elif isinstance(key, jax.tree_util.GetAttrKey):
            tree = getattr(tree, key.name)
        else:
            break  # a container of somebody else's, which no chain is in sight of
    return tuple(behind)


def is_optax_state(x: Any) -> bool:
    """Whether ``x`` is the state of one transform, by Optax's convention a named tuple."""
    return isinstance(x, tuple) and hasattr(x, "_fields")


def describe_states(opt_state: PyTree, limit: int = 12) -> str:
    """Lists key paths and types of the states in ``opt_state``, for error messages."""
    nodes, _ = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=is_optax_state)
    names = [
        f"{jax.tree_util.keystr(path) or '(the state itself)'}: {type(node).__name__}"
        for path, node in nodes
    ]
    shown = ", ".join(names[:limit]) or "nothing"
    return shown + (f", and {len(names) - limit} more" if len(names) > limit else "")
