"""Predictors: what will the inner optimizer do next?

A predictor is a small pure object in the image of a ``GradientTransformation``: it may set up a
memory, observe each update, and predict how far the parameters will have moved s steps from now.
``last_update`` works for every transform, ``zero_gradient`` too and without memory, the
closed forms (``sgdm``, ``adam``, ...) read the moments that the optimizer keeps anyway; damped,
they say what ``zero_gradient`` does without rolling anything out.
"""

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax.predictors._base import Predictor
from xgrad_optax.predictors._closed_forms import (
    adabelief,
    adam,
    adam3,
    rmsprop,
    sgdm,
)
from xgrad_optax.predictors._extensions import adabound, lion, radam, yogi
from xgrad_optax.predictors._from_moments import ClosedForm
from xgrad_optax.predictors._last_update import last_update
from xgrad_optax.predictors._zero_gradient import zero_gradient

__all__ = [
    "ClosedForm",
    "Hyperparameters",
    "Predictor",
    "adabelief",
    "adabound",
    "adam",
    "adam3",
    "last_update",
    "lion",
    "radam",
    "rmsprop",
    "sgdm",
    "yogi",
    "zero_gradient",
]
