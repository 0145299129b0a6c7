"""Named optimizers with weight prediction.

Each takes the arguments of its Optax namesake, by keyword after the learning rate, plus the horizon
``s``, and returns a :class:`~xgrad_optax.WeightPrediction`::

    lookahead_params, tx = adamw(1e-3, s=1, weight_decay=0.01)

Updates are exactly the namesake's. The prediction is read off the moments that the namesake keeps
(see :mod:`xgrad_optax.predictors`), so the state has no leaf that the namesake's does not have, and
``tx`` and ``lookahead_params`` also accept a state that the namesake itself made.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from xgrad_optax import predictors, transforms
from xgrad_optax._typing import Params
from xgrad_optax._wrapper import WeightPrediction, with_weight_prediction

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

ArrayLike = jax.typing.ArrayLike
DTypeLike = jax.typing.DTypeLike
ScalarOrSchedule = optax.ScalarOrSchedule
WeightDecayMask = Any | Callable[[Params], Any] | None


def sgdm(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    momentum: ArrayLike = 0.9,
    weight_decay: float | jax.Array = 0.0,
    accumulator_dtype: DTypeLike | None = None,
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
    return with_weight_prediction(tx, s, predictor=predictors.sgdm(learning_rate))


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
    return with_weight_prediction(tx, s, predictor=predictors.rmsprop(momentum))


def adam(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    nesterov: bool = False,
) -> WeightPrediction:
    r"""Adam with weight prediction.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the first moment; ``None`` for the parameters' own.
      nesterov: whether the updates are NAdam's.

    Returns:
      ``(lookahead_params, tx)``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> lookahead_params, tx = adam(0.1, s=2)
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(lookahead_params(params, opt_state)), 4)  # three steps of γ·sign(g)
      0.7

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1.
    """
    tx = optax.adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    return with_weight_prediction(
        tx, s, predictor=predictors.adam(learning_rate, b1, b2, eps, eps_root)
    )


def nadam(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
) -> WeightPrediction:
    """NAdam with weight prediction: :func:`adam` with ``nesterov=True``.

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the first moment; ``None`` for the parameters' own.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      Dozat, Incorporating Nesterov Momentum into Adam, 2016; the prediction is our extension.
    """
    return adam(
        learning_rate,
        s=s,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        mu_dtype=mu_dtype,
        nesterov=True,
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: WeightDecayMask = None,
    nesterov: bool = False,
) -> WeightPrediction:
    r"""AdamW with weight prediction.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}

    The decoupled decay of the next steps is *not* predicted: arXiv 2302.00195 drops it as
    negligible. ``with_weight_prediction(optax.adamw(...), predictor=zero_gradient())`` predicts it.

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the first moment; ``None`` for the parameters' own.
      weight_decay: strength of the decoupled decay.
      mask: which parameters decay, as in :func:`optax.adamw`.
      nesterov: whether the updates are NAdamW's.

    Returns:
      ``(lookahead_params, tx)``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> lookahead_params, tx = adamw(0.1, s=1, weight_decay=0.5)
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(params), 4), round(float(lookahead_params(params, opt_state)), 4)
      (0.85, 0.75)

    References:
      Weight prediction boosts the convergence of AdamW, arXiv 2302.00195, eq. 7 and algorithm 1.
    """
    tx = optax.adamw(
        learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov
    )
    return with_weight_prediction(
        tx, s, predictor=predictors.adam(learning_rate, b1, b2, eps, eps_root)
    )


def adabelief(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
    eps_root: ArrayLike = 1e-16,
    nesterov: bool = False,
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

    Returns:
      ``(lookahead_params, tx)``.

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1.
    """
    tx = optax.adabelief(learning_rate, b1, b2, eps, eps_root, nesterov=nesterov)
    return with_weight_prediction(tx, s, predictor=predictors.adabelief(learning_rate, b1, b2, eps))


def adam3(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-16,
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

    Returns:
      ``(lookahead_params, tx)``; without prediction it is :func:`xgrad_optax.transforms.adam3`.

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1; AdaMomentum, arXiv 2106.11514.
    """
    tx = transforms.adam3(learning_rate, b1, b2, eps)
    return with_weight_prediction(tx, s, predictor=predictors.adam3(learning_rate, b1, b2))


def radam(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    nesterov: bool = False,
) -> WeightPrediction:
    r"""Rectified Adam with weight prediction: Adam's prediction times the rectification.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{r_t\, \hat m_t}{\sqrt{\hat v_t} + \varepsilon}
        \ \text{ if } \rho_t \ge \text{threshold}, \quad
        \theta_t - s\gamma\,\hat m_t \ \text{ otherwise}

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      threshold: the ρ_t from which the variance is considered tractable.
      nesterov: whether the updates use Nesterov's momentum.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      RAdam, arXiv 1908.03265, algorithm 2; the prediction is our extension by XGrad's principle.
    """
    tx = optax.radam(learning_rate, b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return with_weight_prediction(
        tx, s, predictor=predictors.radam(learning_rate, b1, b2, eps, eps_root, threshold)
    )


def yogi(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-3,
) -> WeightPrediction:
    r"""Yogi with weight prediction: Adam's prediction from Yogi's moments.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon)

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      Zaheer et al., Adaptive Methods for Nonconvex Optimization, 2018, algorithm 2; the prediction
      is our extension by XGrad's principle.
    """
    tx = optax.yogi(learning_rate, b1, b2, eps)
    return with_weight_prediction(tx, s, predictor=predictors.adam(learning_rate, b1, b2, eps))


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
