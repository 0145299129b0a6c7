"""Optimizers with a momentum buffer: SGDM, RMSprop, Lion."""

import jax
import optax

from xgrad_optax import predictors
from xgrad_optax._forms import WeightPrediction, with_weight_prediction
from xgrad_optax.optimizers._arguments import (
    ArrayLike,
    DTypeLike,
    ScalarOrSchedule,
    WeightDecayMask,
)


def sgdm(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    momentum: ArrayLike = 0.9,
    weight_decay: float | jax.Array = 0.0,
    accumulator_dtype: DTypeLike | None = None,
    damped: bool = False,
) -> WeightPrediction:
    r"""SGD with momentum and weight prediction.

    .. math::
        v_t = \mu v_{t-1} + g_t + \lambda\theta_{t-1}, \quad
        \theta_t = \theta_{t-1} - \gamma v_t, \quad
        \hat\theta_{t+s} = \theta_t - s \gamma v_t

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      momentum: μ.
      weight_decay: λ, coupled L2 decay: added to the gradient before the momentum.
      accumulator_dtype: dtype of v; ``None`` for the parameters' own.
      damped: whether v shrinks over the s steps, as it does without further gradients:
        :math:`\sum_{k=1}^s \mu^k` in place of s. See :func:`xgrad_optax.predictors.sgdm`.

    Returns:
      ``(lookahead_params, tx)``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> lookahead_params, tx = sgdm(0.1, s=2)
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(1.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(lookahead_params(params, opt_state)), 6)  # 0.9 - 2·0.1
      0.7

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1.
    """
    tx = optax.sgd(learning_rate, momentum=momentum, accumulator_dtype=accumulator_dtype)
    # Without decay the state must be that of `optax.sgd` alone.
    if not (isinstance(weight_decay, int | float) and weight_decay == 0):
        tx = optax.chain(optax.add_decayed_weights(weight_decay), tx)
    return with_weight_prediction(
        tx, s, predictor=predictors.sgdm(learning_rate, momentum, damped=damped)
    )


def rmsprop(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    damped: bool = False,
) -> WeightPrediction:
    r"""RMSprop with weight prediction, :math:`\hat\theta_{t+s} = \theta_t + s u_t`.

    Without momentum the update cannot be recovered from the second moment, so it is remembered: one
    tree like the parameters. With momentum it is read off the momentum buffer.

    Args:
      learning_rate: γ, a number or a schedule.
      s: the horizon in steps, >= 0.
      decay: decay rate of the second moment.
      eps: added to the second moment, or to its root.
      initial_scale: initial value of the second moment.
      eps_in_sqrt: whether ``eps`` is added inside the root.
      centered: whether the second moment is centered.
      momentum: decay rate of the momentum buffer, ``None`` for no momentum.
      nesterov: whether the momentum is Nesterov's.
      bias_correction: whether the second moment is bias-corrected.
      damped: whether the momentum buffer shrinks over the s steps, as it does without further
        gradients. See :func:`xgrad_optax.predictors.rmsprop`.

    Returns:
      ``(lookahead_params, tx)``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> lookahead_params, tx = rmsprop(0.1, s=1, decay=0.0)
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(lookahead_params(params, opt_state)), 4)  # two steps of γ·sign(g)
      0.8

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1.
    """
    tx = optax.rmsprop(
        learning_rate,
        decay=decay,
        eps=eps,
        initial_scale=initial_scale,
        eps_in_sqrt=eps_in_sqrt,
        centered=centered,
        momentum=momentum,
        nesterov=nesterov,
        bias_correction=bias_correction,
    )
    return with_weight_prediction(
        tx, s, predictor=predictors.rmsprop(momentum, damped=damped, nesterov=nesterov)
    )


def lion(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    mu_dtype: DTypeLike | None = None,
    weight_decay: ScalarOrSchedule = 1e-3,
    mask: WeightDecayMask = None,
) -> WeightPrediction:
    r"""Lion with weight prediction.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,\mathrm{sign}(m_t)

    The decoupled decay of the next steps is not predicted.

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: weight of the momentum in the update.
      b2: decay rate of the momentum.
      mu_dtype: dtype of the momentum; ``None`` for the parameters' own.
      weight_decay: strength of the decoupled decay.
      mask: which parameters decay, as in :func:`optax.lion`.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      Lion, arXiv 2302.06675, algorithm 2; the prediction is our extension by XGrad's principle.
    """
    tx = optax.lion(learning_rate, b1, b2, mu_dtype, weight_decay, mask)
    return with_weight_prediction(tx, s, predictor=predictors.lion(learning_rate))
