"""How noisy a choice of control examples is, given the mini-batch: what importance can save.

The derivation is in docs/control-variates.md; :mod:`.theory` says what the mini-batch adds.
"""

from typing import Any

import numpy as np

from xgrad_optax.control_variates._ranges import Number, at_least_zero


def sampling_ratio(
    residual_norms: Number, probabilities: Number, mean_residual_norm: Number = 0.0
) -> Any:
    r"""η: variance of choosing examples with these probabilities over that of a uniform choice.

    .. math::
        \eta = \frac{\frac{1}{B^2}\sum_i \|e_i\|^2/p_i - \|\bar e\|^2}
                    {\frac{1}{B}\sum_i \|e_i\|^2 - \|\bar e\|^2},
        \qquad e_i = g_i - \beta h_i

    Smallest for :math:`p_i \propto \|e_i\|`.

    Args:
      residual_norms: ‖e_i‖, ``[..., B]``.
      probabilities: p_i > 0 with sum 1, ``[..., B]``.
      mean_residual_norm: ‖ē‖ of the mean residual, ``[...]``.

    Returns:
      η, ``[...]``; 1 where an even choice has no variance.

    Raises:
      ValueError: an argument lies outside its range, or the shapes differ.

    Examples:
      >>> float(sampling_ratio([1.0, 3.0], [0.25, 0.75]))
      0.8
    """
    weighted, uniform, mean = _second_moments(residual_norms, probabilities, mean_residual_norm)
    even = uniform - mean**2
    return np.where(even > 0, (weighted - mean**2) / np.where(even > 0, even, 1.0), 1.0)


def selection_variance(
    residual_norms: Number,
    probabilities: Number,
    control_count: int,
    mean_residual_norm: Number = 0.0,
) -> Any:
    r"""Variance that the choice of control examples adds, given the mini-batch. Exact.

    .. math::
        \operatorname{Var}[G \mid \text{batch}] = \frac{B-n}{n(B-1)}
            \Bigl[\tfrac{1}{B^2}\sum_i \|e_i\|^2/p_i - \|\bar e\|^2\Bigr]

    for B examples in random order, in n blocks of equal size, one drawn from each block with
    probability proportional to p: the scheme of :func:`~xgrad_optax.control_variates.select`.

    Args:
      residual_norms: ‖e_i‖, ``[..., B]``.
      probabilities: p_i > 0 with sum 1, ``[..., B]``.
      control_count: n, a divisor of B.
      mean_residual_norm: ‖ē‖ of the mean residual, ``[...]``.

    Returns:
      The variance, summed over all parameters, ``[...]``.

    Raises:
      ValueError: an argument lies outside its range, or the shapes differ.

    Examples:
      >>> float(selection_variance([1.0, 3.0], [0.25, 0.75], control_count=1))
      4.0

    References:
      Rao, Hartley and Cochran, "On a simple procedure of unequal probability sampling without
      replacement", J. R. Stat. Soc. B 24 (1962), with equal group sizes.
    """
    weighted, _, mean = _second_moments(residual_norms, probabilities, mean_residual_norm)
    size = np.shape(residual_norms)[-1]
    if control_count < 1 or size % control_count:
        raise ValueError(
            f"control_count must divide the {size} examples into blocks of equal size, got"
            f" {control_count}."
        )
    return (size - control_count) / (control_count * max(size - 1, 1)) * (weighted - mean**2)


def _second_moments(norms: Number, probabilities: Number, mean_norm: Number) -> tuple[Any, ...]:
    norms = at_least_zero("residual_norms", norms)
    probabilities = np.asarray(probabilities, float)
    if norms.shape != probabilities.shape or norms.ndim == 0:
        raise ValueError(
            f"residual_norms and probabilities need one entry for each example, got shapes"
            f" {norms.shape} and {probabilities.shape}."
        )
    if not np.all(probabilities > 0) or not np.allclose(probabilities.sum(-1), 1, atol=1e-4):
        raise ValueError("probabilities must be positive and sum to 1.")
    weighted = np.sum(norms**2 / probabilities, axis=-1) / norms.shape[-1] ** 2
    return weighted, np.mean(norms**2, axis=-1), at_least_zero("mean_residual_norm", mean_norm)
