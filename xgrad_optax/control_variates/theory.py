r"""What a gradient with control variates costs and how noisy it is: DESIGN's formulas, and ours.

One set of symbols for all functions here. A mini-batch has B examples, a fraction f of which (the
*control* part) gets a backward pass. Per example: σ_g² and σ_h² are the total variances of the true
and of the predicted gradient, ρ their correlation, κ = σ_h/σ_g. An example that is only predicted
costs c times one with forward and backward pass.

What the predictor leaves unexplained is the variance of g - βh relative to σ_g²,

    R = 1 + β²κ² - 2βρκ,      smallest at β = ρ/κ, where R = 1 - ρ²

(β = α/(1-f) with the coefficient α of ``control_variate_gradient``; a fitted predictor has
κ ≈ ρ, so that β = 1 is nearly the best). Choosing the control examples by importance multiplies R
by the *sampling ratio* η, below 1 for good scores, so that one formula serves all estimators:

    Var G = σ_g²/B · [1 + (1-f)/f · ηR]

Derivations: docs/control-variates.md. For η = 1 this is arXiv 2511.05187, section 4; η is ours.
All functions take Python or NumPy numbers or arrays, which broadcast, and return NumPy floats.
"""

from typing import Any

import numpy as np

from xgrad_optax.control_variates._ranges import (
    Number,
    at_least_zero,
    valid_fraction,
    valid_sampling_ratio,
    within,
)


def variance_ratio(
    control_fraction: Number,
    rho: Number,
    kappa: Number | None = None,
    coefficient: Number | None = None,
    *,
    sampling_ratio: Number = 1.0,
) -> Any:
    r"""Variance of the estimate over that of the true gradient of the whole mini-batch.

    .. math::
        \frac{\operatorname{Var} G}{\sigma_g^2/B}
            = 1 + \frac{1-f}{f}\,\eta\,(1 + \beta^2\kappa^2 - 2\beta\rho\kappa),
            \qquad \beta = \frac{\alpha}{1-f}

    Args:
      control_fraction: f, in (0, 1].
      rho: ρ, in [-1, 1].
      kappa: κ >= 0; ``None`` for the best one, κ = ρ (a negative ρ then means that the sign of the
        prediction is reversed).
      coefficient: α; ``None`` for 1 - f, with which a perfect prediction gives ratio 1.
      sampling_ratio: η > 0 of the choice of control examples; 1 for a uniform choice.

    Returns:
      The ratio; 1 at ``control_fraction=1``, where nothing is predicted.

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> float(variance_ratio(0.25, rho=0.0))  # a quarter of the examples: four times the variance
      4.0
      >>> float(variance_ratio(0.25, rho=1.0))
      1.0

    References:
      arXiv 2511.05187, theorem on the variance of the control-variate estimator.
    """
    f = valid_fraction(control_fraction)
    rho = within("rho", rho, -1.0, 1.0)
    ratio = rho if kappa is None else at_least_zero("kappa", kappa)
    rest = np.where(f < 1, 1 - f, 1.0)  # at f = 1 nothing is predicted, whatever the coefficient
    beta = 1.0 if coefficient is None else np.asarray(coefficient, float) / rest
    unexplained = 1 + beta**2 * ratio**2 - 2 * beta * rho * ratio
    return 1 + (1 - f) / f * valid_sampling_ratio(sampling_ratio) * unexplained


def optimal_coefficient(control_fraction: Number, rho: Number, kappa: Number) -> Any:
    r"""The coefficient with the least variance, :math:`\alpha^* = (1-f)\,\rho/\kappa`.

    Args:
      control_fraction: f, in (0, 1].
      rho: ρ, in [-1, 1].
      kappa: κ > 0.

    Returns:
      α*.

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> round(float(optimal_coefficient(0.25, rho=0.8, kappa=0.8)), 6)
      0.75
    """
    kappa = at_least_zero("kappa", kappa)
    if not np.all(kappa > 0):
        raise ValueError(f"kappa must be positive: a constant prediction explains nothing: {kappa}")
    return (1 - valid_fraction(control_fraction)) * within("rho", rho, -1.0, 1.0) / kappa


def relative_cost(
    control_fraction: Number, cost_ratio: Number, *, chosen_after_forward: bool = False
) -> Any:
    """Cost of a step over that of the plain step with the same mini-batch.

    c + f(1-c) where the control examples are drawn beforehand; c + f where they are chosen after a
    forward pass of all, which then is run once more for the chosen ones. At f = 1 it is 1.

    Args:
      control_fraction: f, in (0, 1].
      cost_ratio: c >= 0.
      chosen_after_forward: whether the forward pass decides who gets a backward pass.

    Returns:
      The ratio.

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> float(relative_cost(0.25, cost_ratio=0.2))
      0.4
    """
    f, c = valid_fraction(control_fraction), at_least_zero("cost_ratio", cost_ratio)
    return np.where(f < 1, c + f if chosen_after_forward else c + f * (1 - c), 1.0)


def cost_ratio_of(
    control_fraction: Number, relative: Number, *, chosen_after_forward: bool = False
) -> float:
    """The inverse of :func:`relative_cost`: c from the measured relative cost of a step."""
    f = float(valid_fraction(control_fraction))
    return float(relative - f if chosen_after_forward else (relative - f) / (1 - f))


def cost_variance_ratio(
    control_fraction: Number,
    rho: Number,
    cost_ratio: Number,
    *,
    sampling_ratio: Number = 1.0,
    chosen_after_forward: bool = False,
) -> Any:
    r"""Variance at equal compute relative to the plain gradient: below 1 is a gain.

    .. math::
        Q(f) = \left[1 + \frac{1-f}{f}\,\eta(1-\rho^2)\right] \cdot [\text{relative cost}]

    which for η = 1 is DESIGN's :math:`[1-(1-f)\rho^2]\,[c + f(1-c)]/f`.

    Args:
      control_fraction: f, in (0, 1].
      rho: ρ, in [-1, 1]; the coefficient is the best one.
      cost_ratio: c >= 0.
      sampling_ratio: η > 0.
      chosen_after_forward: see :func:`relative_cost`.

    Returns:
      Q(f).

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> round(float(cost_variance_ratio(0.25, rho=0.9, cost_ratio=0.3)), 4)
      0.7457
    """
    variance = variance_ratio(control_fraction, rho, sampling_ratio=sampling_ratio)
    cost = relative_cost(control_fraction, cost_ratio, chosen_after_forward=chosen_after_forward)
    return variance * cost


def optimal_control_fraction(
    rho: Number,
    cost_ratio: Number,
    *,
    sampling_ratio: Number = 1.0,
    chosen_after_forward: bool = False,
) -> Any:
    r"""The control fraction with the smallest :func:`cost_variance_ratio`.

    With :math:`A = \eta(1-\rho^2)` it is :math:`f^* = \sqrt{Ac / ((1-A)(1-c))}`, or
    :math:`\sqrt{Ac/(1-A)}` for a choice after the forward pass; 1 where that would not gain.

    Args:
      rho: ρ, in [-1, 1].
      cost_ratio: c >= 0.
      sampling_ratio: η > 0.
      chosen_after_forward: see :func:`relative_cost`.

    Returns:
      f*, in [0, 1]; 0 means the smaller the better (a perfect or a free prediction).

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> round(float(optimal_control_fraction(rho=0.9, cost_ratio=0.3)), 4)
      0.3171
      >>> float(optimal_control_fraction(rho=0.5, cost_ratio=0.3))  # below break-even
      1.0
    """
    c = at_least_zero("cost_ratio", cost_ratio)
    rho = within("rho", rho, -1.0, 1.0)
    unexplained = valid_sampling_ratio(sampling_ratio) * (1 - rho**2)
    gains = np.abs(rho) > break_even_alignment(
        c, sampling_ratio=sampling_ratio, chosen_after_forward=chosen_after_forward
    )
    saved = (1 - unexplained) * (1.0 if chosen_after_forward else 1 - c)
    return np.where(gains, np.sqrt(unexplained * c / np.where(gains, saved, 1.0)), 1.0)


def break_even_alignment(
    cost_ratio: Number, *, sampling_ratio: Number = 1.0, chosen_after_forward: bool = False
) -> Any:
    r"""The ρ above which prediction gains: :math:`\sqrt{c}` for a uniform choice.

    In general prediction gains if :math:`\eta(1-\rho^2) < 1-c`, or, where the choice follows the
    forward pass, :math:`\eta(1-\rho^2) < ((1-c)/(1+c))^2`.

    Args:
      cost_ratio: c >= 0.
      sampling_ratio: η > 0.
      chosen_after_forward: see :func:`relative_cost`.

    Returns:
      The smallest such :math:`|\rho|`; negative if even ρ = 0 gains (importance sampling alone),
      and 1 or more if no predictor can.

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> float(break_even_alignment(0.25))
      0.5
      >>> float(break_even_alignment(0.25, sampling_ratio=0.2, chosen_after_forward=True)) < 0
      True
    """
    c, eta = at_least_zero("cost_ratio", cost_ratio), valid_sampling_ratio(sampling_ratio)
    most = ((1 - c) / (1 + c)) ** 2 if chosen_after_forward else 1 - c
    squared = np.where(c < 1, 1 - most / eta, np.inf)
    return np.where(squared >= 0, np.sqrt(np.abs(squared)), -1.0)


def speedup(
    rho: Number,
    cost_ratio: Number,
    *,
    sampling_ratio: Number = 1.0,
    chosen_after_forward: bool = False,
) -> Any:
    r"""How much less compute the same variance costs at the best control fraction.

    :math:`1/Q(f^*)`; for η = 1 and :math:`\rho^2 > c`,
    :math:`Q(f^*) = 1 - (\sqrt{\rho^2(1-c)} - \sqrt{(1-\rho^2)c})^2`.

    Args:
      rho: ρ, in [-1, 1].
      cost_ratio: c >= 0.
      sampling_ratio: η > 0.
      chosen_after_forward: see :func:`relative_cost`.

    Returns:
      The factor, at least 1; infinite for a prediction that is both perfect and free.

    Raises:
      ValueError: an argument lies outside its range.

    Examples:
      >>> round(float(speedup(rho=0.9, cost_ratio=0.3)), 2)
      1.36
      >>> float(speedup(rho=0.5, cost_ratio=0.3))
      1.0
    """
    c, rho = at_least_zero("cost_ratio", cost_ratio), within("rho", rho, -1.0, 1.0)
    how = {"sampling_ratio": sampling_ratio, "chosen_after_forward": chosen_after_forward}
    gains = np.abs(rho) > break_even_alignment(c, **how)
    a = np.where(gains, valid_sampling_ratio(sampling_ratio) * (1 - rho**2), 0.0)
    if chosen_after_forward:
        best = (np.sqrt(a) + np.sqrt((1 - a) * c)) ** 2
    else:
        best = 1 - (np.sqrt((1 - a) * np.maximum(1 - c, 0.0)) - np.sqrt(a * c)) ** 2
    fastest = np.where(best > 0, 1 / np.where(best > 0, best, 1.0), np.inf)
    return np.where(gains, fastest, 1.0)
