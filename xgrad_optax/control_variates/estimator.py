"""The estimator: a few true gradients, many predicted ones, and no bias.

This is the heart of arXiv 2511.05187 and knows nothing about predictors, models or optimizers.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from xgrad_optax._typing import PyTree, Updates


def control_variate_gradient(
    control_grads: Updates,
    control_predictions: Updates,
    predictions: Updates,
    *,
    control_fraction: Any,
    coefficient: Any = None,
) -> Updates:
    r"""Corrects predicted gradients by the examples whose true gradient is known.

    .. math::
        G = g_c - \alpha\,(h_c - h_p)

    with the mean true gradient :math:`g_c` and the mean prediction :math:`h_c` over the control
    part of the mini-batch, and the mean prediction :math:`h_p` over the rest. Unbiased whatever the
    predictor and α, if both parts are drawn alike and the predictor was not fitted on them:
    :math:`E[h_c] = E[h_p]`.

    *Weighted form*, for control examples chosen by importance: pass the weighted means
    :math:`\sum_j w_j g_j` and :math:`\sum_j w_j h_j` (:func:`weighted_mean`, with the weights of
    :func:`~xgrad_optax.control_variates.select`), the mean prediction over *all* examples of the
    mini-batch as ``predictions``, and ``coefficient=1``.

    Args:
      control_grads: g_c, a tree of arrays.
      control_predictions: h_c, a tree like ``control_grads``.
      predictions: h_p, a tree like ``control_grads``.
      control_fraction: f, the control part's share of the mini-batch, in (0, 1].
      coefficient: α, a number or scalar array, or a tree like ``control_grads`` of them (one per
        leaf); ``None`` for 1 - f, which weights every example equally if the prediction is perfect.

    Returns:
      G, a tree with the structure, shapes and dtypes of ``control_grads``.

    Raises:
      ValueError: the trees differ in structure or shapes, or a number is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> g, h = jnp.array([1.0, 2.0]), jnp.array([0.8, 1.6])
      >>> control_variate_gradient(g, h, jnp.array([0.4, 2.0]), control_fraction=0.5)
      Array([0.8, 2.2], dtype=float32)

    References:
      arXiv 2511.05187, the control-variate estimator (α is 1 - f there).
    """
    f = validate_control_fraction(control_fraction)
    for name, tree in (("control_predictions", control_predictions), ("predictions", predictions)):
        _check_like(control_grads, tree, name)
    difference = jax.tree.map(lambda c, p: c - p, control_predictions, predictions)
    return corrected(control_grads, difference, 1 - f if coefficient is None else coefficient)


def weighted_mean(tree: PyTree, weights: jax.Array) -> PyTree:
    """Σ_j w_j x_j over the leading axis of every leaf.

    Args:
      tree: arrays ``[n, ...]``.
      weights: ``[n]``.

    Returns:
      A tree of arrays ``[...]``, in the dtype of each leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> weighted_mean(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.5, 0.25]))
      Array([1.25, 2.  ], dtype=float32)
    """
    return jax.tree.map(lambda x: jnp.tensordot(weights.astype(x.dtype), x, axes=1), tree)


def corrected(grads: Updates, difference: Updates, coefficient: Any) -> Updates:
    """Returns g - α·(h_c - h_p) in the dtype of g; ``coefficient`` may be a tree of numbers."""
    if jax.tree.structure(coefficient) == jax.tree.structure(0):
        coefficient = jax.tree.map(lambda _: coefficient, grads)
    elif jax.tree.structure(coefficient) != jax.tree.structure(grads):
        raise ValueError(
            "coefficient must be one number, or a tree like the gradients with one number per"
            f" leaf; got {jax.tree.structure(coefficient)} for gradients"
            f" {jax.tree.structure(grads)}."
        )

    def correct(g: jax.Array, d: jax.Array, alpha: Any) -> jax.Array:
        return g - jnp.asarray(alpha, g.dtype) * d.astype(g.dtype)

    return jax.tree.map(correct, grads, difference, coefficient)


def validate_control_fraction(value: Any) -> Any:
    """Returns f; refuses a static one outside (0, 1].

    Raises:
      TypeError: it is not a number.
      ValueError: it is out of range.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"control_fraction must be a number in (0, 1], got {value!r}.")
    number = float(value)
    if not (math.isfinite(number) and 0 < number <= 1):
        raise ValueError(f"control_fraction must lie in (0, 1], got {value}.")
    return number


def _check_like(expected: PyTree, tree: PyTree, name: str) -> None:
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        raise ValueError(
            f"{name} must be a tree like control_grads: got {jax.tree.structure(tree)}, expected"
            f" {jax.tree.structure(expected)}."
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(tree), strict=True)
    for (path, want), got in pairs:
        if jnp.shape(want) != jnp.shape(got):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has shape {jnp.shape(got)}, but"
                f" control_grads has {jnp.shape(want)} there."
            )
