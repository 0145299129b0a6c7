"""Named optimizers with weight prediction.

Each takes the arguments of its Optax namesake, by keyword after the learning rate, plus the horizon
``s``, and returns a :class:`~xgrad_optax.WeightPrediction`::

    lookahead_params, tx = adamw(1e-3, s=1, weight_decay=0.01)

Updates are exactly the namesake's. The prediction is read off the moments that the namesake keeps
(see :mod:`xgrad_optax.predictors`), so the state has no leaf that the namesake's does not have, and
``tx`` and ``lookahead_params`` also accept a state that the namesake itself made.

With ``damped=True`` the s predicted steps shrink as they do without further gradients: what
:func:`~xgrad_optax.predictors.zero_gradient` predicts. RAdam, Lion and AdaBound have no such form.
"""

from xgrad_optax.optimizers._adam import adam, adamw, nadam, radam, yogi
from xgrad_optax.optimizers._adaptive import adabelief, adabound, adam3
from xgrad_optax.optimizers._momentum import lion, rmsprop, sgdm

__all__ = [
    "adabelief",
    "adabound",
    "adam",
    "adam3",
    "adamw",
    "lion",
    "nadam",
    "radam",
    "rmsprop",
    "sgdm",
    "yogi",
]
