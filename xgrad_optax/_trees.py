"""Trees as Optax, Flax and Equinox pass them: NNX variables, masks, ``None``, Python numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._typing import Params, PyTree


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


def arrays_of(params: Params) -> Params:
    """The parameters as JAX arrays, whatever they are: NNX variables, NumPy arrays, numbers."""
    return jax.tree.map(jnp.asarray, unboxed(params))


def is_tree(x: Any) -> bool:
    """Whether ``x`` is a container with something in it."""
    return not jax.tree_util.treedef_is_leaf(jax.tree.structure(x))


def is_none(x: Any) -> bool:
    """Whether ``x`` is the gradient, or update, of a leaf that is not trained (Equinox)."""
    return x is None


def is_masked(x: Any) -> bool:
    """Whether ``x`` stands for parameters that ``optax.masked`` or ``optax.partition`` left out."""
    return isinstance(x, optax.MaskedNode)


def is_absent(x: Any) -> bool:
    """Whether ``x`` stands for parameters about which a tree says nothing."""
    return is_none(x) or is_masked(x)


def map_present(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """``jax.tree.map`` that keeps each ``None`` of ``tree``, whatever the others have there."""
    return jax.tree.map(
        lambda x, *others: None if x is None else function(x, *others),
        tree,
        *rest,
        is_leaf=is_none,
    )


def is_real(leaf: Any) -> bool:
    """Whether a leaf is of a real floating-point dtype."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def first_difference(expected: PyTree, got: PyTree) -> str:
    """Says in one line, by path, where ``got`` first differs from ``expected``; "" if nowhere.

    Leaves are compared by shape. Where ``expected`` has a ``None`` or a mask, ``got`` may have
    anything.
    """
    wanted = dict(_shapes(expected))
    masks = [path for path, shape in wanted.items() if shape is None]
    for path, shape in _shapes(got):
        name = jax.tree_util.keystr(path) or "(the only leaf)"
        if any(path[: len(mask)] == mask for mask in masks) or shape is None:
            wanted.pop(path, None)
        elif path not in wanted:
            return f"{name} is not in the state{_instead(wanted, path)}"
        elif (expected_shape := wanted.pop(path)) != shape:
            return f"{name} has shape {shape}, in the state {expected_shape}"
    missing = [path for path, shape in wanted.items() if shape is not None]
    return f"{jax.tree_util.keystr(missing[0])} is missing" if missing else ""


def _instead(wanted: dict[Any, Any], path: tuple[Any, ...]) -> str:
    """What stands where ``path`` leads through; some transforms make one vector of all leaves."""
    shapes = [shape for other, shape in wanted.items() if path[: len(other)] == other]
    return f", which has an array of shape {shapes[0]} there" if shapes else ""


def _shapes(tree: PyTree) -> list[tuple[Any, tuple[int, ...] | None]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_absent)
    return [(path, None if is_absent(leaf) else jnp.shape(leaf)) for path, leaf in leaves]
