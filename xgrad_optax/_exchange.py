"""Putting one point in place of another, under every transformation of JAX."""

import operator
from collections.abc import Callable
from typing import Any

import jax

from xgrad_optax._typing import OptState, Params, PyTree


def straight_through(
    point: Callable[[Params, OptState], Params], own: Params, opt_state: OptState
) -> Params:
    """The point, with the derivative 1 with respect to the weights.

    So a block inside ``nnx.grad`` gives the gradient *at* the point, as a block around it does,
    also where the prediction depends on the weights, or does not use them at all (the base weights
    of the drop-in form). Leaves that the point leaves alone are returned themselves.
    """
    constants = jax.tree.map(jax.lax.stop_gradient, own)
    return jax.tree.map(
        lambda o, c, p: o if p is c else _with_derivative_of(o, p),
        own,
        constants,
        point(constants, opt_state),
    )


@jax.custom_jvp
def _with_derivative_of(own: jax.Array, value: jax.Array) -> jax.Array:
    del own
    return value


@_with_derivative_of.defjvp
def _derivative(primals: Any, tangents: Any) -> Any:
    own, value = tangents
    if value.dtype != jax.dtypes.float0:
        value = own.astype(value.dtype) + value
    return _with_derivative_of(*primals), value


def consist_of_the_same(one: PyTree, other: PyTree) -> bool:
    """Whether two trees consist of the same objects."""
    return all(map(operator.is_, jax.tree.leaves(one), jax.tree.leaves(other)))
