"""``predicted_value_and_grad``: checks what was asked for and builds the gradient function."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal

from xgrad_optax._typing import Params
from xgrad_optax.control_variates._decisions import NAMED_IMPORTANCE, Coefficient, Importance
from xgrad_optax.control_variates.gradient import PredictedGradient
from xgrad_optax.control_variates.gradient_predictors import GradientPredictor
from xgrad_optax.control_variates.losses import ExampleLoss, HeadedLoss, WholeLoss
from xgrad_optax.control_variates.ntk import HEAD_NEEDED, NeuralTangentKernel
from xgrad_optax.control_variates.selection import rows_per_control_example

# Control fractions that ``"auto"`` chooses from; each is one compiled branch.
FRACTIONS = (1.0, 1 / 2, 1 / 4, 1 / 8)


def predicted_value_and_grad(
    loss: HeadedLoss | Callable[[Params, Any], Any],
    predictor: GradientPredictor,
    *,
    control_fraction: float | Literal["auto"] = 0.25,
    importance: Importance | None = None,
    coefficient: Coefficient = 1.0,
    refit_interval: int = 100,
    cost_ratio: float | None = None,
    fractions: Sequence[float] = FRACTIONS,
    defensive: float = 0.1,
) -> PredictedGradient:
    r"""A gradient function for training loops whose backward pass covers few examples.

    .. math::
        G = \sum_j w_j g_j - \beta\Bigl(\sum_j w_j h_j - \frac{1}{B}\sum_{i=1}^{B} h_i\Bigr)

    with one control example j drawn from each block of 1/f consecutive rows, and the predictions h.
    G is unbiased for the mini-batch's mean gradient, for any predictor and any order of the rows.
    With an even draw this is :func:`control_variate_gradient` with :math:`\alpha = \beta(1-f)`.

    Args:
      loss: a :class:`HeadedLoss` (trunk, linear head, loss of the logits), or a function
        ``(params, batch) -> loss of each example [B]`` for predictors that need no head.
      predictor: see :func:`neural_tangent_kernel`, :func:`low_precision`, :func:`from_function`.
      control_fraction: f, one over a whole number; ``"auto"`` chooses among ``fractions`` at each
        fit, by the measured alignment and ``cost_ratio``. Below break-even that is 1: the plain
        gradient. Before the first fit it is 1 as well.
      importance: how the control examples are chosen: ``None`` evenly; by ``"loss"``, or with a
        head by the norm of the ``"residual"`` or of the ``"output_gradient"``; or a function
        ``Rows -> scores [B]``. Costs a second forward pass of the control examples.
      coefficient: β, or measured at each fit: ``"overall"`` one for all parameters, ``"leaf"`` one
        for each leaf.
      refit_interval: steps between fits; the loop calls ``fit`` when ``is_due`` says so. While f is
        1 the interval doubles from fit to fit, up to 16-fold.
      cost_ratio: c, needed by ``"auto"``: see :func:`measure_cost_ratio`.
      fractions: what ``"auto"`` chooses from; has to contain 1.
      defensive: see :func:`select`.

    Returns:
      A :class:`PredictedGradient`: ``init``, ``fit``, ``is_due``, and the call
      ``(params, state, batch) -> ((loss, state), grads)``.

    Raises:
      TypeError: ``loss`` or ``predictor`` is of the wrong kind.
      ValueError: a number is out of range, or the importance does not exist for the loss.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from xgrad_optax.control_variates import HeadedParams, neural_tangent_kernel
      >>> loss = HeadedLoss(
      ...     features=lambda trunk, inputs: jnp.tanh(inputs @ trunk),
      ...     loss=optax.softmax_cross_entropy_with_integer_labels,
      ... )
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> inputs = jax.random.normal(keys[0], (96, 4))
      >>> data = (inputs, (inputs[:, 0] > 0).astype(jnp.int32))
      >>> params = HeadedParams(
      ...     trunk=jax.random.normal(keys[1], (4, 8)),
      ...     head={"kernel": jnp.zeros((8, 2)), "bias": jnp.zeros(2)},
      ... )
      >>> gradient = predicted_value_and_grad(
      ...     loss, neural_tangent_kernel(fit_examples=32, rank=16), control_fraction=0.25
      ... )
      >>> tx = optax.adam(0.05)
      >>> opt_state, state = tx.init(params), gradient.init(params, keys[2])
      >>> @jax.jit
      ... def train_step(params, opt_state, state, batch):
      ...     (loss, state), grads = gradient(params, state, batch)
      ...     updates, opt_state = tx.update(grads, opt_state, params)
      ...     return optax.apply_updates(params, updates), opt_state, state, loss
      >>> for step in range(60):
      ...     if gradient.is_due(state):
      ...         state = jax.jit(gradient.fit)(params, state, jax.tree.map(lambda x: x[:48], data))
      ...     params, opt_state, state, loss = train_step(params, opt_state, state, data)
      >>> bool(loss < 0.1)
      True

    References:
      arXiv 2511.05187; the choice by importance, the measured β and ``"auto"`` are ours.
    """
    example_loss = _checked_loss(loss)
    if not isinstance(predictor, GradientPredictor):
        raise TypeError(
            "predictor must be a GradientPredictor, such as neural_tangent_kernel(),"
            f" low_precision() or from_function(f); got {type(predictor).__name__}."
        )
    if isinstance(predictor, NeuralTangentKernel) and not isinstance(loss, HeadedLoss):
        raise ValueError(HEAD_NEEDED)
    _check_importance(importance, example_loss)
    if not 0 < defensive <= 1:
        raise ValueError(f"defensive must lie in (0, 1], got {defensive}.")
    if isinstance(refit_interval, bool) or not isinstance(refit_interval, int):
        raise TypeError(f"refit_interval must be a whole number, got {refit_interval!r}.")
    if refit_interval < 1:
        raise ValueError(f"refit_interval must be at least 1, got {refit_interval}.")
    return PredictedGradient(
        loss=example_loss,
        predictor=predictor,
        fractions=_checked_fractions(control_fraction, fractions, cost_ratio),
        importance=importance,
        coefficient=_checked_coefficient(coefficient),
        refit_interval=refit_interval,
        cost_ratio=cost_ratio,
        defensive=defensive,
    )


def _checked_loss(loss: Any) -> ExampleLoss:
    if isinstance(loss, HeadedLoss | WholeLoss):
        return loss
    if not callable(loss):
        raise TypeError(
            "loss must be a HeadedLoss or a function (params, batch) -> loss of each example, got"
            f" {type(loss).__name__}."
        )
    function: Callable[..., Any] = loss
    return WholeLoss(function)


def _check_importance(importance: Any, loss: ExampleLoss) -> None:
    if importance is None or callable(importance):
        return
    if importance not in NAMED_IMPORTANCE:
        raise ValueError(
            f"importance must be None, one of {', '.join(NAMED_IMPORTANCE)}, or a function of the"
            f" forward pass; got {importance!r}."
        )
    if importance != "loss" and not isinstance(loss, HeadedLoss):
        raise ValueError(
            f"importance={importance!r} needs a HeadedLoss, whose head tells it; use 'loss'."
        )


def _checked_coefficient(coefficient: Any) -> Coefficient:
    if isinstance(coefficient, str):
        if coefficient not in ("overall", "leaf"):
            raise ValueError(f"coefficient must be a number, 'overall' or 'leaf': {coefficient!r}.")
        return coefficient
    if isinstance(coefficient, bool) or not isinstance(coefficient, numbers.Real):
        raise TypeError(f"coefficient must be a number, 'overall' or 'leaf': {coefficient!r}.")
    if not math.isfinite(coefficient):
        raise ValueError(f"coefficient must be finite, got {coefficient}.")
    return float(coefficient)


def _checked_fractions(
    control_fraction: Any, fractions: Sequence[float], cost_ratio: float | None
) -> tuple[float, ...]:
    if control_fraction != "auto":
        if isinstance(control_fraction, str):
            raise ValueError(
                f"control_fraction must be a number or 'auto', got {control_fraction!r}."
            )
        return (_checked_fraction(control_fraction),)
    if cost_ratio is None or not (math.isfinite(cost_ratio) and cost_ratio >= 0):
        raise ValueError(
            "control_fraction='auto' weighs variance against cost, so it needs cost_ratio=c >= 0:"
            f" measure it with measure_cost_ratio. Got {cost_ratio!r}."
        )
    if 1 not in fractions:
        raise ValueError(
            f"fractions must contain 1, the plain gradient to fall back to; got {list(fractions)}."
        )
    return tuple(sorted({_checked_fraction(f) for f in fractions}, reverse=True))


def _checked_fraction(control_fraction: Any) -> float:
    return 1 / rows_per_control_example(control_fraction)
