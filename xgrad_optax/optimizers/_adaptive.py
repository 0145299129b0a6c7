"""Adaptive optimizers with a second moment of their own: AdaBelief, AdaM³, AdaBound."""

import optax

from xgrad_optax import predictors, transforms
from xgrad_optax._forms import WeightPrediction, with_weight_prediction
from xgrad_optax.optimizers._arguments import ArrayLike, ScalarOrSchedule


def adabelief(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    eps_root: ArrayLike = 1e-16,
    nesterov: bool = False,
    damped: bool = False,
) -> WeightPrediction:
    r"""AdaBelief with weight prediction, :math:`s_t` the moving average of :math:`(g - m)^2`.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{s_t / (1 - \beta_2^t)} + \varepsilon}

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added to the second moment at each step.
      nesterov: whether the updates use Nesterov's momentum.
      damped: whether the steps shrink as they do without further gradients. See
        :func:`xgrad_optax.predictors.adabelief`.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1.
    """
    tx = optax.adabelief(learning_rate, b1, b2, eps, eps_root, nesterov=nesterov)
    predictor = predictors.adabelief(learning_rate, b1, b2, eps, damped=damped, nesterov=nesterov)
    return with_weight_prediction(tx, s, predictor=predictor)


def adam3(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    damped: bool = False,
) -> WeightPrediction:
    r"""AdaM³ (AdaMomentum) with weight prediction, :math:`v_t` the second moment of :math:`m`.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)}}

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added to the second moment at each step.
      damped: whether the steps shrink as they do without further gradients. See
        :func:`xgrad_optax.predictors.adam3`.

    Returns:
      ``(lookahead_params, tx)``; without prediction it is :func:`xgrad_optax.transforms.adam3`.

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1; AdaMomentum, arXiv 2106.11514.
    """
    tx = transforms.adam3(learning_rate, b1, b2, eps)
    predictor = predictors.adam3(learning_rate, b1, b2, damped=damped)
    return with_weight_prediction(tx, s, predictor=predictor)


def adabound(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    final_scale: ArrayLike = 100.0,
    gamma: ArrayLike = 1e-3,
) -> WeightPrediction:
    r"""AdaBound with weight prediction.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,\eta_t \odot m_t

    Args:
      learning_rate: a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added to the root of the second moment.
      final_scale: the final step size as a multiple of the learning rate.
      gamma: how fast the bounds on the step size η_t converge.

    Returns:
      ``(lookahead_params, tx)``; without prediction it is :func:`xgrad_optax.transforms.adabound`.

    References:
      AdaBound, arXiv 1902.09843, algorithm 2; the prediction is our extension by XGrad's principle.
    """
    tx = transforms.adabound(learning_rate, b1, b2, eps, final_scale, gamma)
    return with_weight_prediction(
        tx, s, predictor=predictors.adabound(learning_rate, b1, b2, eps, final_scale, gamma)
    )
