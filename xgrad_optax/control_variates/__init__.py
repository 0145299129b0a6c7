"""Gradient prediction with control variates: fewer backward passes, still unbiased.

A few examples of each mini-batch get a true gradient, the others a cheap predicted one, and a
control variate removes the bias (arXiv 2511.05187). Start with :func:`predicted_value_and_grad`;
docs/control-variates.md derives everything and says when it pays.
"""

from xgrad_optax.control_variates.alignment import (
    Alignment,
    AlignmentState,
    init_alignment,
    leaf_alignment,
    overall_alignment,
    update_alignment,
)
from xgrad_optax.control_variates.cost import CostRatio, fit_flops, measure_cost_ratio, step_flops
from xgrad_optax.control_variates.estimator import control_variate_gradient, weighted_mean
from xgrad_optax.control_variates.gradient import (
    PredictedGradient,
    PredictedGradientState,
)
from xgrad_optax.control_variates.gradient_predictors import (
    GradientPredictor,
    from_function,
    low_precision,
)
from xgrad_optax.control_variates.losses import HeadedLoss, HeadedParams, Rows
from xgrad_optax.control_variates.ntk import neural_tangent_kernel
from xgrad_optax.control_variates.sampling_theory import sampling_ratio, selection_variance
from xgrad_optax.control_variates.selection import Selection, pick, select, selection_probabilities
from xgrad_optax.control_variates.theory import (
    break_even_alignment,
    cost_ratio_of,
    cost_variance_ratio,
    optimal_coefficient,
    optimal_control_fraction,
    relative_cost,
    speedup,
    variance_ratio,
)
from xgrad_optax.control_variates.value_and_grad import predicted_value_and_grad

__all__ = [
    "Alignment",
    "AlignmentState",
    "CostRatio",
    "GradientPredictor",
    "HeadedLoss",
    "HeadedParams",
    "PredictedGradient",
    "PredictedGradientState",
    "Rows",
    "Selection",
    "break_even_alignment",
    "control_variate_gradient",
    "cost_ratio_of",
    "cost_variance_ratio",
    "fit_flops",
    "from_function",
    "init_alignment",
    "leaf_alignment",
    "low_precision",
    "measure_cost_ratio",
    "neural_tangent_kernel",
    "optimal_coefficient",
    "optimal_control_fraction",
    "overall_alignment",
    "pick",
    "predicted_value_and_grad",
    "relative_cost",
    "sampling_ratio",
    "select",
    "selection_probabilities",
    "selection_variance",
    "speedup",
    "step_flops",
    "update_alignment",
    "variance_ratio",
    "weighted_mean",
]
