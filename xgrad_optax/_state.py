"""The states of both forms, and how they are found and merged inside any nesting.

Optax wrappers put states into tuples, dictionaries, masks and dataclasses. The accessors of this
library (``lookahead_params``, ``base_params``) are therefore given the *outermost* state and look
for ours by type, so that users never have to know where it lies.
"""

import dataclasses
import enum
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax

from xgrad_optax._typing import OptState, Params, PyTree

StateT = TypeVar("StateT")


# --------------------------------------------------------------------------------------------------
# Hyperparameters: part of the tree structure where they are static, leaves where they are arrays
# --------------------------------------------------------------------------------------------------


@jax.tree_util.register_pytree_with_keys_class
class Hyperparameters:
    """Named values that travel in a state: numbers and functions cost nothing, arrays are leaves.

    Numbers, schedules and the like become part of the tree structure: no leaf, no bytes, no
    tracing. Arrays (what ``optax.inject_hyperparams`` passes) stay leaves, so that their current
    value travels with the state.

    Args:
      values: hashable values or arrays, by name.
    """

    def __init__(self, **values: Any):
        is_array = {name: isinstance(v, jax.Array | np.ndarray) for name, v in values.items()}
        # What jit hashes and compares at each call: one plain tuple.
        self._static = tuple((name, _ARRAY if is_array[name] else v) for name, v in values.items())
        self._arrays = {name: v for name, v in values.items() if is_array[name]}

    def __getitem__(self, name: str) -> Any:
        return self.as_dict()[name]

    def as_dict(self) -> dict[str, Any]:
        """All values by name."""
        return {name: self._arrays.get(name, value) for name, value in self._static}

    def with_own_arrays(self) -> "Hyperparameters":
        """A copy of all arrays: a state may be donated, the caller's arrays must survive that."""
        return jax.tree.map(lambda x: jnp.array(x, copy=True), self)

    def refreshed(self, current: "Hyperparameters") -> "Hyperparameters":
        """What the state holds after a call that was given the values in ``current``.

        ``optax.inject_hyperparams`` rebuilds the transform at each call. Arrays are taken from this
        call; functions are kept, since the structure of a state must never change and two schedules
        built by the same code are different objects. Two different *numbers* are a mistake.

        Raises:
          ValueError: the state was made by a transform with other values.
        """
        if self._static != current._static:
            self._refuse_other_values(current)
        return self.tree_unflatten(self._static, current._arrays.values()).with_own_arrays()

    def _refuse_other_values(self, current: "Hyperparameters") -> None:
        if [name for name, _ in self._static] != [name for name, _ in current._static]:
            raise ValueError(
                "The optimizer state was made by a transform with another predictor: make a new"
                " state with `tx.init(params)` and fill its `inner_state` field from the old one."
            )
        for (name, old), (_, new) in zip(self._static, current._static, strict=True):
            if old != new and not (callable(old) and callable(new)):
                raise ValueError(
                    f"The optimizer state was made with {name} = {old}, but this transform has"
                    f" {name} = {new}. To change a hyperparameter during training pass a schedule"
                    " or use `optax.inject_hyperparams`; or make a new state with"
                    " `tx.init(params)` and fill its `inner_state` field from the old one."
                )

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Arrays are children; the rest is structure."""
        keys = [(jax.tree_util.DictKey(name), x) for name, x in self._arrays.items()]
        return keys, self._static

    def tree_flatten(self) -> tuple[Any, Any]:
        """As :meth:`tree_flatten_with_keys`, for speed."""
        return tuple(self._arrays.values()), self._static

    @classmethod
    def tree_unflatten(cls, static: Any, arrays: Any) -> "Hyperparameters":
        """The inverse of :meth:`tree_flatten`."""
        # Runs at each call of a jitted step, nearly always without arrays: no detours.
        node = object.__new__(cls)
        node._static = static
        names = (name for name, value in static if value is _ARRAY)
        node._arrays = dict(zip(names, arrays, strict=True)) if arrays else {}
        return node

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hyperparameters):
            return NotImplemented
        return self._static == other._static and self._arrays == other._arrays

    __hash__ = None  # pyright: ignore[reportAssignmentType]  (arrays cannot be hashed)

    def __repr__(self) -> str:
        return f"Hyperparameters({', '.join(f'{k}={v!r}' for k, v in self.as_dict().items())})"


class _Array(enum.Enum):
    """Stands for an array among static values; survives pickling as the same object."""

    ARRAY = "an array"

    def __str__(self) -> str:
        return self.value


_ARRAY = _Array.ARRAY


def scheduled(schedule: Callable[[Any], Any], count: Any) -> Any:
    """The schedule's value at ``count``; Optax's schedules rely on standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return schedule(count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Horizon:
    """How many steps ahead to predict: s, the one copy that update and prediction both read.

    Attributes:
      hyperparameters: ``s``, a number, a schedule or a scalar array.
      count: number of updates so far, shape ``()``, int32; ``None`` unless s is a schedule.
    """

    hyperparameters: Hyperparameters
    count: Any = None

    @classmethod
    def create(cls, s: Any) -> "Horizon":
        """Builds the horizon that a fresh state holds."""
        count = jnp.zeros([], jnp.int32) if callable(s) else None
        return cls(Hyperparameters(s=s).with_own_arrays(), count)

    def value(self) -> Any:
        """The current s, a number or a scalar array."""
        s = self.hyperparameters["s"]
        return scheduled(s, self.count) if callable(s) else s

    def is_zero(self) -> bool:
        """Whether s is known to be 0 before anything is computed."""
        s = self.hyperparameters["s"]
        return isinstance(s, float) and s == 0

    def advance(self, current_s: Any) -> "Horizon":
        """The horizon after one more update, with the s that this call was given."""
        count = self.count if self.count is None else optax.safe_increment(self.count)
        return Horizon(self.hyperparameters.refreshed(Hyperparameters(s=current_s)), count)


def validate_horizon(s: Any) -> Any:
    """Returns ``s`` as a float, a schedule or a scalar array; refuses anything else.

    Raises:
      TypeError: ``s`` is a bool, a string, a complex number, or no number at all.
      ValueError: ``s`` is negative, NaN, infinite, or an array that is no scalar.
    """
    expected = "the horizon `s` must be a real number >= 0 or an Optax schedule"
    if callable(s):
        return s
    if isinstance(s, bool | np.bool_) or not isinstance(
        s, numbers.Real | np.number | np.ndarray | jax.Array
    ):
        raise TypeError(f"{expected}, got s = {s!r} of type {type(s).__name__}.")
    if isinstance(s, np.ndarray | jax.Array):
        if s.ndim or not (
            jnp.issubdtype(s.dtype, jnp.floating) or jnp.issubdtype(s.dtype, jnp.integer)
        ):
            raise ValueError(f"{expected}, got an array of shape {s.shape} and dtype {s.dtype}.")
        if isinstance(s, jax.core.Tracer):
            return s  # its value is not known before the program runs
    number = float(np.asarray(s))
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{expected}, got s = {number}.")
    return s if isinstance(s, np.ndarray | jax.Array) else number


def validate_whole_number(value: Any, name: str) -> int:
    """Returns ``value`` as an int; a TypeError or ValueError names what is not a number >= 1."""
    expected = f"{name} must be a whole number >= 1"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}.")
    if value < 1:
        raise ValueError(f"{expected}, got {value}.")
    return int(value)


# --------------------------------------------------------------------------------------------------
# The states
# --------------------------------------------------------------------------------------------------


class WeightPredictionState(NamedTuple):
    """State of the explicit form (:func:`xgrad_optax.with_weight_prediction`).

    Attributes:
      inner_state: the inner transform's state, exactly as the inner transform made it.
      memory: what the predictor remembers; ``()`` for the closed forms, which need nothing.
      predictor: the rule that predicts; part of the tree structure, leaves only where a
        hyperparameter is an array.
      horizon: the prediction horizon s; likewise without leaves if s is a number.
    """

    inner_state: OptState
    memory: PyTree
    predictor: Any
    horizon: Horizon


class XGradState(NamedTuple):
    """State of the drop-in form (:func:`xgrad_optax.xgrad`).

    Attributes:
      base_params: the base parameters θ, exactly; a tree like the parameters.
      inner_state: the inner transform's state.
      memory: what the predictor remembers; ``()`` unless a predictor needs more than the update.
      horizon: the prediction horizon s; without leaves if s is a number.
    """

    base_params: Params
    inner_state: OptState
    memory: PyTree
    horizon: Horizon


# --------------------------------------------------------------------------------------------------
# Finding states by type
# --------------------------------------------------------------------------------------------------


class Found(NamedTuple, Generic[StateT]):
    """A state and the key path under which it was found."""

    path: str
    state: StateT


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
                found.append(Found(here, node))
                inner_state = getattr(node, "inner_state", ())
                found += search(inner_state, here + ".inner_state")
        return found

    return search(tree, "")


def unboxed(tree: PyTree) -> PyTree:
    """Replaces Flax NNX variables by the raw arrays in them, which is what Optax gets.

    ``nnx.Optimizer`` keeps its state in variables and hands raw values to its transform. A variable
    type may change its value on reading (its own ``get_value``, hooks), so it is not read here.
    Variables are recognised by their accessor because the core does not import Flax.
    """

    def is_variable(x: Any) -> bool:
        return hasattr(type(x), "get_raw_value")

    def raw(x: Any) -> Any:
        if is_variable(x):
            return unboxed(x.get_raw_value())
        return x[...] if isinstance(x, jax.Ref) else x

    return jax.tree.map(raw, tree, is_leaf=is_variable)


def describe_states(opt_state: PyTree, limit: int = 12) -> str:
    """Lists key paths and types of the states in ``opt_state``, for error messages."""
    is_state = lambda x: isinstance(x, tuple) and hasattr(x, "_fields")  # noqa: E731
    nodes, _ = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=is_state)
    names = [
        f"{jax.tree_util.keystr(path) or '(the state itself)'}: {type(node).__name__}"
        for path, node in nodes
    ]
    shown = ", ".join(names[:limit]) or "nothing"
    return shown + (f", and {len(names) - limit} more" if len(names) > limit else "")


# --------------------------------------------------------------------------------------------------
# Merging what several states say about one parameter tree
# --------------------------------------------------------------------------------------------------


def is_masked(x: Any) -> bool:
    """Whether ``x`` stands for parameters that ``optax.masked`` or ``optax.partition`` left out."""
    return isinstance(x, optax.MaskedNode)


def merge_into(
    params: Params,
    contributions: Sequence[Found[PyTree]],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
) -> Params:
    """Combines each parameter with the one contribution that covers it.

    Args:
      params: tree of parameters.
      contributions: trees like ``params`` in which ``optax.MaskedNode`` stands for leaves, or
        whole subtrees, that the contribution does not cover.
      combine: ``(parameter, contribution) -> new parameter``.

    Returns:
      A tree like ``params``; leaves that no contribution covers are unchanged.

    Raises:
      ValueError: two contributions cover the same leaf, or one does not fit ``params``.
    """
    arrays = unboxed(params)
    leaves_with_path, _ = jax.tree_util.tree_flatten_with_path(arrays)
    merged = [leaf for _, leaf in leaves_with_path]
    owners: dict[int, str] = {}
    for path, tree in contributions:
        for index, value in enumerate(_spread(tree, arrays, path)):
            if value is _NOT_COVERED:
                continue
            if index in owners:
                leaf = jax.tree_util.keystr(leaves_with_path[index][0]) or "(the only one)"
                raise ValueError(
                    f"Two prediction states cover the parameter {leaf}: those at opt_state"
                    f"{owners[index]} and opt_state{path}. Predict each parameter once: remove one"
                    " of the two wrappers, or pass only the part of the state that should count."
                )
            owners[index] = path
            merged[index] = combine(merged[index], value)
    # Unflattening into the caller's structure puts NNX variables back where they were.
    return jax.tree.unflatten(jax.tree.structure(params), merged)


_NOT_COVERED = object()


def _spread(contribution: PyTree, params: Params, path: str) -> list[Any]:
    """One entry for each leaf of ``params``: what is contributed to it, or ``_NOT_COVERED``."""

    def align(c: Any, p: Any) -> Any:
        if is_masked(c):  # may stand for a whole subtree of the parameters
            return jax.tree.map(lambda _: _NOT_COVERED, p)
        if c.shape != getattr(p, "shape", None):
            here = f"a parameter of shape {p.shape}" if hasattr(p, "shape") else "several of them"
            raise ValueError(f"it has an array of shape {c.shape} in place of {here}.")
        return c

    try:
        return jax.tree.leaves(jax.tree.map(align, contribution, params, is_leaf=is_masked))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The parameters do not have the tree structure that the state at opt_state{path} was"
            f" made for: {error}"
        ) from error
