"""XGrad weight prediction for any Optax optimizer, and gradient prediction."""

from xgrad_optax import (
    control_variates,
    diagnostics,
    optimizers,
    predictors,
    stability,
    transforms,
)
from xgrad_optax._delayed import delayed
from xgrad_optax._forms import WeightPrediction, in_place, with_weight_prediction, xgrad
from xgrad_optax._pending import DelayedState, pending_specs, spread_pending
from xgrad_optax._points import base_params, from_base_params, lookahead_params
from xgrad_optax._states import InPlaceState, WeightPredictionState, XGradState
from xgrad_optax.optimizers import (
    adabelief,
    adabound,
    adam,
    adam3,
    adamw,
    lion,
    nadam,
    radam,
    rmsprop,
    sgdm,
    yogi,
)
from xgrad_optax.predictors import Predictor, last_update, zero_gradient
from xgrad_optax.transforms import scale_by_adabound, scale_by_adam3

__version__ = "0.1.0"

__all__ = [
    "DelayedState",
    "InPlaceState",
    "Predictor",
    "WeightPrediction",
    "WeightPredictionState",
    "XGradState",
    "adabelief",
    "adabound",
    "adam",
    "adam3",
    "adamw",
    "base_params",
    "control_variates",
    "delayed",
    "diagnostics",
    "from_base_params",
    "in_place",
    "last_update",
    "lion",
    "lookahead_params",
    "nadam",
    "optimizers",
    "pending_specs",
    "predictors",
    "radam",
    "rmsprop",
    "scale_by_adabound",
    "scale_by_adam3",
    "sgdm",
    "spread_pending",
    "stability",
    "transforms",
    "with_weight_prediction",
    "xgrad",
    "yogi",
    "zero_gradient",
]
