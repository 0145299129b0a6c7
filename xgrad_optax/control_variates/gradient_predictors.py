"""Predictors of gradients behind one small protocol, and the two that need no fit.

The prediction is *linear in the weights of the examples*: ``predict`` returns Σ_i w_i h(x_i). So
one call gives the whole control variate h_c - h_p, with weights that are positive on the control
examples and negative on the others.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates.losses import ExampleLoss, Rows


class GradientPredictor(abc.ABC):
    """Predicts gradients of examples without their backward pass in full precision.

    Attributes:
      needs_rows: whether ``predict`` reads the forward pass of all rows.
      fit_examples: how many examples ``fit`` learns from; 0 if there is nothing to learn.
      uncounted_flops: operations of a fit that XLA does not count (those of LAPACK).
    """

    needs_rows: ClassVar[bool] = False
    fit_examples: int = 0
    uncounted_flops: float = 0.0

    def init(self, loss: ExampleLoss, params: Params) -> PyTree:
        """Returns the state of a predictor that predicts zero, or that needs no fit."""
        del loss, params
        return ()

    def fit(
        self, loss: ExampleLoss, state: PyTree, params: Params, batch: PyTree, key: jax.Array
    ) -> PyTree:
        """Returns the state after learning from ``fit_examples`` rows at ``params``."""
        del loss, params, batch, key
        return state

    def in_one_chunk(self) -> "GradientPredictor":
        """The same predictor with a fit that does not loop: XLA counts the body of a loop once."""
        return self

    @abc.abstractmethod
    def predict(
        self,
        loss: ExampleLoss,
        state: PyTree,
        params: Params,
        batch: PyTree,
        rows: Rows | None,
        weights: jax.Array,
    ) -> Updates:
        """Returns Σ_i w_i h(x_i), a tree like ``loss.predicted_part(params)``.

        Args:
          loss: what is trained.
          state: what was learnt.
          params: the current parameters.
          batch: b examples.
          rows: their forward pass; ``None`` unless ``needs_rows``.
          weights: w, ``[b]``, of either sign.
        """


class LowPrecision(GradientPredictor):
    """See :func:`low_precision`."""

    def __init__(self, dtype: Any):
        self.dtype = dtype

    def predict(
        self,
        loss: ExampleLoss,
        state: PyTree,
        params: Params,
        batch: PyTree,
        rows: Rows | None,
        weights: jax.Array,
    ) -> Updates:
        """The gradient of the weighted loss, computed in the other dtype."""
        del state, rows
        low_params, low_batch = (
            jax.tree.map(lambda x: _cast(x, self.dtype), tree) for tree in (params, batch)
        )
        _, grads = loss.weighted_gradient(low_params, low_batch, weights)
        return jax.tree.map(lambda g, p: g.astype(p.dtype), grads, loss.predicted_part(params))


def low_precision(dtype: jax.typing.DTypeLike = jnp.bfloat16) -> GradientPredictor:
    """Predicts by the gradient of the same loss in a cheaper floating-point dtype.

    Its correlation with the true gradient is near 1 at any stage of training; it pays where that
    arithmetic is faster. Parameters and floating-point inputs are cast, whole numbers stay.
    Rounding makes it not quite linear in the weights of the examples, so the estimate is unbiased
    only up to the rounding of ``dtype``.

    Args:
      dtype: ``jnp.bfloat16``, ``jnp.float16``, ...

    Returns:
      A predictor without a fit, for any loss.

    Raises:
      ValueError: ``dtype`` is not a floating-point dtype.

    Examples:
      >>> low_precision("bfloat16").fit_examples
      0

    References:
      arXiv 2511.05187, version 2 ("cheap-forward regime").
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"low_precision needs a floating-point dtype, got {dtype}.")
    return LowPrecision(dtype)


class FromFunction(GradientPredictor):
    """See :func:`from_function`."""

    def __init__(self, function: Callable[[Params, PyTree, jax.Array], Updates]):
        self.function = function

    def predict(
        self,
        loss: ExampleLoss,
        state: PyTree,
        params: Params,
        batch: PyTree,
        rows: Rows | None,
        weights: jax.Array,
    ) -> Updates:
        """Calls the function; refuses what is no gradient of the predicted part."""
        del state, rows
        grads, part = self.function(params, batch, weights), loss.predicted_part(params)
        shapes = jax.tree.map(jnp.shape, (grads, part))
        if jax.tree.structure(grads) != jax.tree.structure(part) or shapes[0] != shapes[1]:
            raise ValueError(
                "the predictor's function must return a tree like the parameters it predicts for,"
                f" with shapes {shapes[1]}; it returned {shapes[0]}."
            )
        return grads


def from_function(
    function: Callable[[Params, PyTree, jax.Array], Updates],
) -> GradientPredictor:
    """A predictor of your own.

    Args:
      function: ``(params, batch, weights [b]) -> Σ_i w_i h(x_i)``, a tree like the parameters (like
        the trunk, for a :class:`~xgrad_optax.control_variates.HeadedLoss`). It must be linear in
        the weights, which can have either sign.

    Returns:
      A predictor without a fit.

    Raises:
      TypeError: ``function`` cannot be called.

    Examples:
      >>> import jax.numpy as jnp
      >>> nothing = from_function(lambda params, batch, weights: jnp.zeros_like(params))
    """
    if not callable(function):
        raise TypeError(f"from_function needs a function, got {type(function).__name__}.")
    return FromFunction(function)


def _cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x.astype(dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x
