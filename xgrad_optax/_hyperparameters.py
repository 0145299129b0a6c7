"""What a state says of its prediction: which predictor by name, with which numbers, how far.

A state is arrays and plain, comparable values. Numbers cost nothing: they are part of the tree
structure. What a schedule or ``optax.inject_hyperparams`` gives is a scalar leaf, written by each
update for the next one, so that no function is ever part of a state: states of two runs can be
compared, averaged, pickled and exported, and a rebuilt transform counts from its next update.
"""

import enum
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np


class _Array(enum.Enum):
    """Stands for an array among static values; survives pickling as the same object."""

    ARRAY = "an array"


class Hyperparameters:
    """Named values of a predictor; read them with ``[...]``.

    Args:
      values: by name; numbers, strings and dtypes, which must be hashable, or arrays.
    """

    def __init__(self, **values: Any):
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def as_dict(self) -> dict[str, Any]:
        """All values by name."""
        return dict(self._values)

    def replace(self, **values: Any) -> "Hyperparameters":
        """The same with other values for some names."""
        return Hyperparameters(**{**self._values, **values})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hyperparameters):
            return NotImplemented
        return self._values.keys() == other._values.keys() and all(
            bool(np.all(value == other._values[name])) for name, value in self._values.items()
        )

    __hash__: ClassVar[None] = None  # pyright: ignore[reportIncompatibleMethodOverride]  (arrays)

    def __repr__(self) -> str:
        return f"Hyperparameters({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"


class Rule:
    """A predictor and a horizon, as a state keeps them; only arrays are leaves.

    Args:
      predictor: an instance of a :class:`~xgrad_optax.Predictor`.
      s: the horizon, a number or a scalar array.
    """

    __slots__ = ("_arrays", "_static")

    ARRAY: ClassVar[_Array] = _Array.ARRAY
    """Stands in the static part for a value that is a leaf."""

    def __init__(self, predictor: Any, s: Any):
        values = {**predictor.hyperparameters.as_dict(), "s": s}
        # What jit compares at each call: one plain tuple.
        self._static = (
            type(predictor),
            tuple((name, self.ARRAY if is_array(v) else v) for name, v in values.items()),
        )
        # Copies: a state may be donated, and the caller's arrays must survive that.
        self._arrays = tuple(jnp.array(v, copy=True) for v in values.values() if is_array(v))

    @property
    def predictor(self) -> Any:
        """The predictor, with the hyperparameters of the next prediction."""
        values = dict(self._values())
        del values["s"]
        return self._static[0](Hyperparameters(**values))

    @property
    def s(self) -> Any:
        """The horizon of the next prediction, a number or a scalar array."""
        return dict(self._values())["s"]

    def _values(self) -> Iterator[tuple[str, Any]]:
        arrays = iter(self._arrays)
        for name, value in self._static[1]:
            yield name, next(arrays) if value is self.ARRAY else value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rule):
            return NotImplemented
        return self._static == other._static and all(
            map(np.array_equal, self._arrays, other._arrays)
        )

    __hash__: ClassVar[None] = None  # pyright: ignore[reportIncompatibleMethodOverride]  (arrays)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values())
        return f"Rule({self._static[0].__name__}, {values})"


def _keyed(rule: Rule) -> tuple[Any, Any]:
    """The arrays by name, and the rest, which is structure."""
    # Not their plain names: `optax.tree.get(opt_state, "learning_rate")` means the optimizer's.
    names = (f"next_{name}" for name, value in rule._static[1] if value is Rule.ARRAY)
    keys = map(jax.tree_util.DictKey, names)
    return tuple(zip(keys, rule._arrays, strict=True)), rule._static


def _restored(static: Any, arrays: Any) -> Rule:
    rule = object.__new__(Rule)
    rule._static = static
    rule._arrays = arrays
    return rule


# These two run at each call of a jitted step, on the way in and on the way out.
jax.tree_util.register_pytree_with_keys(
    Rule, _keyed, _restored, flatten_func=operator.attrgetter("_arrays", "_static")
)


def is_array(x: Any) -> bool:
    """Whether ``x`` is a leaf of a state: an array, traced or not."""
    return isinstance(x, jax.Array | np.ndarray)


def scheduled(schedule: Callable[[Any], Any], count: Any) -> Any:
    """The schedule's value at ``count``; Optax's schedules rely on standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return schedule(count)


def scalar_leaf(value: Any) -> jax.Array:
    """A number as a state keeps it: a scalar of its own, of JAX's default floating-point dtype."""
    return jnp.array(value, dtype=jnp.result_type(float), copy=True)
