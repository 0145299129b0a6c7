"""The optimizers whose train steps are measured: the papers', Lion, and those behind clipping."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.arms import OF_PAPERS, OPTIMIZERS, Optimizer
from experiments.recipe import Recipe

if TYPE_CHECKING:
    import optax

    from xgrad_optax import WeightPrediction

_LARGEST_NORM = 1.0

# What predicts from the moments of each optimizer.
PREDICTORS: Mapping[str, Recipe] = {
    "sgdm": Recipe("xgrad_optax.predictors:sgdm"),
    "adam": Recipe("xgrad_optax.predictors:adam"),
    "adamw": Recipe("xgrad_optax.predictors:adam"),
    "adabelief": Recipe("xgrad_optax.predictors:adabelief"),
    "adam3": Recipe("xgrad_optax.predictors:adam3"),
    "lion": Recipe("xgrad_optax.predictors:lion"),
}


def clipped(learning_rate: float, *, plain: Recipe) -> "optax.GradientTransformation":
    """The plain optimizer behind clipping by the global norm."""
    import optax

    return optax.chain(optax.clip_by_global_norm(_LARGEST_NORM), plain.build(learning_rate))


def clipped_and_predicted(
    learning_rate: float, *, s: float, plain: Recipe, predictor: Recipe
) -> "WeightPrediction":
    """The same with weight prediction, read off the moments."""
    from xgrad_optax import with_weight_prediction

    transform = clipped(learning_rate, plain=plain)
    return with_weight_prediction(transform, s, predictor=predictor.build(learning_rate))


def _with_clipping(name: str, optimizer: Optimizer) -> Optimizer:
    arguments: dict[str, Any] = {"plain": optimizer.plain}
    return Optimizer(
        f"{optimizer.summary}, the gradient clipped by its global norm",
        plain=Recipe(f"{__name__}:clipped", arguments),
        predicted=Recipe(
            f"{__name__}:clipped_and_predicted", arguments | {"predictor": PREDICTORS[name]}
        ),
    )


_UNCLIPPED = {name: OPTIMIZERS[name] for name in (*OF_PAPERS, "lion")}

BENCHED: Mapping[str, Optimizer] = _UNCLIPPED | {
    f"{name}-clipped": _with_clipping(name, _UNCLIPPED[name]) for name in PREDICTORS
}


def predictor_of(optimizer: str) -> Recipe | None:
    """Returns what predicts from the optimizer's moments; None if they tell no direction."""
    return PREDICTORS.get(optimizer.removesuffix("-clipped"))
