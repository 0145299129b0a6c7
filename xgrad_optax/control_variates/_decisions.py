"""What a gradient function decides by itself: scores, the coefficient, the control fraction."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from xgrad_optax.control_variates import theory
from xgrad_optax.control_variates.alignment import (
    AlignmentState,
    leaf_alignment,
    overall_alignment,
)
from xgrad_optax.control_variates.losses import Rows

NamedImportance = Literal["loss", "residual", "output_gradient"]
NAMED_IMPORTANCE: tuple[str, ...] = get_args(NamedImportance)
Importance = NamedImportance | Callable[[Rows], jax.Array]
Coefficient = float | Literal["overall", "leaf"]


def importance_scores(importance: Importance, rows: Rows) -> jax.Array:
    """How much each row matters, ``[b]``."""
    if callable(importance):
        return importance(rows)
    if importance == "loss":
        return rows.losses
    each = rows.residual if importance == "residual" else rows.output_gradient
    return jnp.sqrt(jnp.sum(each**2, axis=1))


def next_coefficient(coefficient: Coefficient, alignment: AlignmentState) -> Any:
    """β, or a tree of them; 1 until something was measured."""
    if isinstance(coefficient, float):
        return coefficient
    measure = overall_alignment if coefficient == "overall" else leaf_alignment
    measured = alignment.weight > 0
    return jax.tree.map(lambda beta: jnp.where(measured, beta, 1.0), measure(alignment).coefficient)


def best_fraction(
    fractions: Sequence[float], missed: jax.Array, cost_ratio: Any, *, chosen_after_forward: bool
) -> jax.Array:
    """Index of the fraction with the least variance at equal cost, where ηR is ``missed``."""
    ratios = [
        (1 + (1 - f) / f * missed)
        * float(theory.relative_cost(f, cost_ratio, chosen_after_forward=chosen_after_forward))
        for f in fractions
    ]
    return jnp.argmin(jnp.stack(ratios))


def unexplained(alignment: AlignmentState, beta: Any) -> jax.Array:
    """R, the variance of g - βh over that of g."""
    leaves = leaf_alignment(alignment)
    if jax.tree.structure(beta) == jax.tree.structure(0):
        beta = jax.tree.map(lambda _: beta, leaves.rho)

    def missed(beta: Any, rho: jax.Array, sigma_g: jax.Array, sigma_h: jax.Array) -> jax.Array:
        return sigma_g**2 + (beta * sigma_h) ** 2 - 2 * beta * rho * sigma_g * sigma_h

    each = jax.tree.map(missed, beta, leaves.rho, leaves.sigma_g, leaves.sigma_h)
    total = overall_alignment(alignment).sigma_g ** 2
    left = jnp.sum(jnp.stack(jax.tree.leaves(each)))
    return jnp.where(total > 0, left / jnp.where(total > 0, total, 1.0), 1.0)
