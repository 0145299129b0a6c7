"""A transform as part of a tree structure: comparable, although it is made of functions."""

import functools
import pickle
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.core
import numpy as np
import optax


class Transform:
    """An Optax transform that equals another one made by the same code from the same values.

    Optax builds a transform as a pair of closures, new ones at each call. Two are equal here if
    their code is the same and all that their closures hold is equal; so a transform that is rebuilt
    as it was compiles nothing anew, and states made with it can be compared and averaged.

    Args:
      inner: the transform.
    """

    def __init__(self, inner: optax.GradientTransformationExtraArgs):
        self.inner = inner
        self._hash = hash(tuple(getattr(function, "__code__", None) for function in inner))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Transform):
            return NotImplemented
        return _same(self.inner, other.inner, set())

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return "Transform(...)"  # addresses of functions would tell nobody anything

    def __reduce__(self) -> Any:
        raise pickle.PicklingError(
            "This optimizer state holds zero_gradient(), which rolls out the transform itself:"
            " functions that Python cannot pickle. Save its arrays, jax.tree.leaves(state), and put"
            " them into the structure of tx.init(params); or use last_update() or a closed form."
        )


def _parts(x: Any) -> Iterator[Any]:
    """What the behaviour of a function, or the meaning of a container, depends on."""
    if isinstance(x, types.FunctionType):
        yield from (cell.cell_contents for cell in x.__closure__ or () if _is_filled(cell))
        yield from x.__defaults__ or ()
        yield from (x.__kwdefaults__ or {}).values()
    elif isinstance(x, types.MethodType):
        yield from (x.__func__, x.__self__)
    elif isinstance(x, functools.partial):
        yield from (x.func, *x.args, *x.keywords.values())
    elif isinstance(x, tuple | list):
        yield from x
    elif isinstance(x, dict):
        yield from x.values()


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _same(a: Any, b: Any, assumed: set[tuple[int, int]]) -> bool:
    """Whether two objects are the same in all that counts; ``assumed`` ends circles."""
    if a is b or (id(a), id(b)) in assumed:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, jax.Array | np.ndarray):
        return not isinstance(a, jax.core.Tracer) and _same_array(a, b)
    if not isinstance(a, _COMPOSITE):
        return bool(a == b)
    assumed.add((id(a), id(b)))
    parts = list(_parts(a)), list(_parts(b))
    return (
        _own(a) == _own(b)
        and len(parts[0]) == len(parts[1])
        and all(_same(x, y, assumed) for x, y in zip(*parts, strict=True))
    )


_COMPOSITE = (
    types.FunctionType,
    types.MethodType,
    functools.partial,
    tuple,
    list,
    dict,
)


def _own(x: Any) -> Any:
    """What a composite is besides its parts."""
    if isinstance(x, types.FunctionType):
        return x.__code__, id(x.__globals__)
    if isinstance(x, functools.partial):
        return len(x.args), tuple(x.keywords)
    return tuple(x) if isinstance(x, dict) else None


def _same_array(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((np.asarray(a) == b).all())
