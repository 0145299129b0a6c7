"""What a predictor is."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax._typing import OptState, Params, PyTree, Updates


@dataclasses.dataclass(frozen=True)
class Predictor(abc.ABC):
    """Answers one question: how will the inner optimizer move the parameters next?

    The optimizer state keeps a predictor by its class and ``hyperparameters``: numbers become part
    of the tree structure, arrays are leaves. So whatever a predictor needs to know is one of its
    hyperparameters.

    Attributes:
      hyperparameters: named numbers, strings, dtypes, arrays.
      transient: whether the memory holds nothing but what the last update says. The drop-in form,
        which predicts at the moment of the update, does not store such a memory.
      linear: whether the prediction for s steps is s times that for one step. Whoever keeps the
        predictions of a moment for many s (:mod:`xgrad_optax.diagnostics`) then keeps only one.
      leafless: whether a horizon that is a number stays out of the leaves of the state, which then
        has the leaves of the inner optimizer's and of the memory. For others s is always a leaf.
      starts_at_zero: whether ``predict`` returns exact zeros before the first update. For others
        the state counts the updates, and nothing is predicted before the first.
      in_place: whether the inner state alone says it all: neither a memory nor the parameters are
        read. :func:`xgrad_optax.in_place` needs that.
    """

    hyperparameters: Hyperparameters
    transient: ClassVar[bool] = False
    linear: ClassVar[bool] = False
    leafless: ClassVar[bool] = False
    starts_at_zero: ClassVar[bool] = False
    in_place: ClassVar[bool] = False

    def bind(self, inner: optax.GradientTransformationExtraArgs) -> "Predictor":
        """Returns the predictor for this inner transform; most need not know it."""
        del inner
        return self

    def check(self, inner_state: OptState) -> None:
        """Raises a ValueError if the predictor cannot read this inner state."""
        del inner_state

    def current(self, inner_state: OptState) -> "Predictor":
        """Returns the predictor as the state keeps it: with schedules read for the next step."""
        del inner_state
        return self

    def init(self, params: Params) -> PyTree:
        """Returns the memory before the first update: ``()`` if nothing is remembered."""
        del params
        return ()

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """Returns the memory after the update u_t that the inner transform just made."""
        del updates
        return memory

    @abc.abstractmethod
    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """Returns θ̂_{t+s} - θ_t, for most predictors s·d_t.

        Args:
          memory: this predictor's memory after t updates.
          inner_state: the inner transform's state after t updates.
          params: θ_t, with ``optax.MaskedNode`` possible anywhere.
          s: how many steps ahead, a number or a scalar array.

        Returns:
          A tree like the inner transform's updates; before the first update it does not count
          (``starts_at_zero``).
        """


def scaled(scalar: Any, tree: Updates, *, sign: int = 1) -> Updates:
    """``sign * scalar * tree`` without changing the dtype of any leaf."""
    return jax.tree.map(lambda x: jnp.asarray(sign * scalar, dtype=x.dtype) * x, tree)


def zero_before(started: jax.Array, displacement: Updates) -> Updates:
    """Nothing is predicted before the first update, whatever a formula makes of an empty state."""
    return _zero_unless(started, displacement)


def without_leaks(displacement: Updates, s: Any) -> Updates:
    """Zero where s = 0: what is not finite must not leak into the plain trajectory."""
    return _zero_unless(s != 0, displacement) if isinstance(s, jax.Array) else displacement


def _zero_unless(condition: jax.Array, displacement: Updates) -> Updates:
    # Minus zero is what changes nothing in addition, also where it meets minus zero. And XLA merges
    # a plus zero with others of the program, such as those that the backward pass of a scan over
    # blocks starts from, and then stores it: a tree more to read.
    return jax.tree.map(lambda d: jnp.where(condition, d, jnp.full_like(d, -0.0)), displacement)
